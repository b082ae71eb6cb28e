"""The address under which the other nodes of a job reach this one."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct

from itwinai.slurm.tools import SlurmError

_SIOCGIFADDR = 0x8915


class AddressError(SlurmError):
    """There is no address under which other nodes can reach this one."""


def interfaces() -> dict[str, str]:
    """Return the IPv4 address of each network interface that has one."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, request)
            except OSError:  # an interface without an address
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def own_address(node: str, interface: str | None, alone: bool) -> tuple[str, str]:
    """Return the interface to use, and its address.

    Args:
        node: The name under which the other nodes know this one.
        interface: The one that the user chose; None: the one with the address of ``node``.
        alone: Whether there are no other nodes, so that even loopback will do.

    Raises:
        AddressError: If the interface is not there, or other nodes cannot reach it.
    """
    here = interfaces()
    if interface is not None:
        if interface not in here:
            raise AddressError(
                f"{node} has no network interface {interface!r} with an IPv4 address. It has: "
                f"{_listed(here)}"
            )
        return interface, here[interface]
    address = _resolve(node)
    name = next((name for name, other in here.items() if other == address), None)
    if name is not None and not ipaddress.ip_address(here[name]).is_loopback:
        return name, here[name]
    if alone:
        return "lo", here["lo"]
    raise AddressError(
        f"{node}: its name stands for {address or 'no address'}, under which the other nodes "
        f"cannot reach it. Choose a network interface with --interface; it has: {_listed(here)}"
    )


def _resolve(node: str) -> str | None:
    try:
        return socket.gethostbyname(node)
    except OSError:
        return None


def _listed(addresses: dict[str, str]) -> str:
    return ", ".join(f"{name} ({address})" for name, address in addresses.items())
