"""What ``itwinai check`` tries out, each in processes of its own, which may fail or hang.

``python -m itwinai.cli.probes all-reduce RANK FOLDER DEVICE BACKEND`` is one of two processes that
add a number up; ``python -m itwinai.cli.probes ray`` starts Ray as a study does and tells, as JSON,
what others could see of it.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

#: Processes of the all-reduce.
PROCESSES = 2
#: Longest that one of them waits for the other.
PATIENCE = timedelta(seconds=60)


def all_reduce(rank: int, folder: Path, device: str, backend: str) -> None:
    """Add 1 and 2 up, together with the other process.

    Raises:
        RuntimeError: If the sum is not 3, or the processes cannot meet.
    """
    import torch
    import torch.distributed as dist

    place = f"cuda:{rank % torch.cuda.device_count()}" if device == "cuda" else device
    if device == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group(
        backend,
        init_method=f"file://{folder.absolute()}/meeting",
        rank=rank,
        world_size=PROCESSES,
        timeout=PATIENCE,
    )
    number = torch.tensor([float(rank + 1)], device=place)
    dist.all_reduce(number)
    dist.destroy_process_group()
    if number.item() != PROCESSES * (PROCESSES + 1) / 2:
        raise RuntimeError(f"the sum of 1 and 2 came out as {number.item()}")


def embedded_ray() -> dict[str, Any]:
    """Start Ray as a study does; tell where it listens, and who can read its files."""
    from itwinai.hpo.engine import ray_cluster

    with ray_cluster() as nodes:
        folder, token = Path(os.environ["RAY_TMPDIR"]), Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        return {
            "resources": {
                name: sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU")
            },
            "auth_mode": os.environ.get("RAY_AUTH_MODE"),
            "listens_on": sorted(listening_on(family_of(os.getpid()))),
            "folder": str(folder),
            "folder_mode": _mode(folder),
            "token": str(token),
            "token_mode": _mode(token),
        }


def listening_on(processes: set[int]) -> set[str]:
    """Addresses at which processes wait for connections, without ports; Linux only."""
    sockets = {target for process in processes for target in _open_files(process)}
    return {
        address
        for family in ("tcp", "tcp6")
        for address, inode in _listeners(Path("/proc/net") / family)
        if f"socket:[{inode}]" in sockets
    }


def family_of(process: int) -> set[int]:
    """A process and all that come from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name before it, in parentheses, may hold anything.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(folder.name))
    family, ahead = set(), [process]
    while ahead:
        member = ahead.pop()
        family.add(member)
        ahead += children.get(member, [])
    return family


def _open_files(process: int) -> Iterator[str]:
    try:
        files = list(Path(f"/proc/{process}/fd").iterdir())
    except OSError:  # it has ended, or is another user's
        return
    for file in files:
        try:
            yield os.readlink(file)
        except OSError:  # closed in the meantime
            continue


def _listeners(table: Path) -> Iterator[tuple[str, str]]:
    """Address and inode of each listening socket."""
    if not table.exists():
        return
    for line in table.read_text().splitlines()[1:]:
        _, local, _, state, *_, inode = line.split()[:10]
        if state == "0A":
            yield _address(local.partition(":")[0]), inode


def _address(digits: str) -> str:
    """An address as Linux lists it: in words of four bytes, each turned around."""
    raw = bytes.fromhex(digits)
    words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, words)


def _mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def main(arguments: list[str]) -> None:
    """Run one probe."""
    if arguments[0] == "all-reduce":
        rank, folder, device, backend = arguments[1:]
        all_reduce(int(rank), Path(folder), device, backend)
    else:
        sys.stdout.write(json.dumps(embedded_ray()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
