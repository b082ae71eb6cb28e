"""``itwinai check``: what this machine can do, tried out."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import typer

import itwinai
from itwinai.cli.exits import clean_exit

#: Packages without which nothing works, and those that are for one purpose each.
REQUIRED = ("torch", "ray", "optuna", "hydra-core", "pydantic", "numpy", "torchmetrics")
OPTIONAL = {
    "mlflow": "logger",
    "wandb": "logger",
    "tensorboard": "logger",
    "deepspeed": "strategy",
}
#: Longest that one trial of something may take.
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Finding:
    """One line of a check.

    Attributes:
        section: What it is about.
        name: What was looked at.
        value: What was found.
        ok: Whether that is as it should be; None where either is.
    """

    section: str
    name: str
    value: str
    ok: bool | None = None


@clean_exit()
def check_command(
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document.")] = False,
) -> None:
    """Try out what studies and trainings need here; ends with code 1 if something essential fails.

    Two processes add a number up on each kind of device, and Ray starts as it does for a study.
    """
    findings = []
    for finding in _all():
        findings.append(finding)
        if not as_json:
            _show(finding, new_section=_is_first(findings))
    failed = [finding for finding in findings if finding.ok is False]
    if as_json:
        report = {"ok": not failed, "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(report))
    else:
        names = ", ".join(f"{finding.section}: {finding.name}" for finding in failed)
        typer.echo(f"\nfailed: {names}" if failed else "\neverything essential works")
    if failed:
        raise typer.Exit(1)


def _all() -> Iterator[Finding]:
    yield from _versions()
    if _version("torch") is None:
        return
    yield from _devices()
    yield from _back_ends()
    yield from _all_reduces()
    yield from _ray()


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "python", platform.python_version(), ok=True)
    yield Finding("versions", "itwinai", itwinai.__version__, ok=True)
    for package in REQUIRED:
        version = _version(package)
        yield Finding("versions", package, version or "not installed", version is not None)


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("devices", "cpu", f"{len(os.sched_getaffinity(0))} cores for this process")
    count = torch.cuda.device_count()
    for number in range(count):
        name = torch.cuda.get_device_name(number)
        memory = torch.cuda.get_device_properties(number).total_memory / 2**30
        yield Finding("devices", f"cuda:{number}", f"{name}, {memory:.0f} GiB")
    if count == 0:
        yield Finding("devices", "cuda", f"none; this PyTorch is {torch.__version__}")


def _back_ends() -> Iterator[Finding]:
    import torch.distributed as dist

    for package, kind in OPTIONAL.items():
        version = _version(package) or "not installed"
        yield Finding("back ends", package, f"{version} ({kind})")
    gloo = dist.is_available() and dist.is_gloo_available()
    yield Finding("back ends", "gloo", "available" if gloo else "missing", gloo)
    nccl = dist.is_available() and dist.is_nccl_available()
    yield Finding("back ends", "nccl", "available" if nccl else "not in this PyTorch")


def _all_reduces() -> Iterator[Finding]:
    import torch
    import torch.distributed as dist

    yield _all_reduce("cpu", "gloo")
    gpus = torch.cuda.device_count()
    if gpus:
        # NCCL refuses two processes on one GPU.
        several = gpus > 1 and dist.is_nccl_available()
        yield _all_reduce("cuda", "nccl" if several else "gloo")


def _all_reduce(device: str, backend: str) -> Finding:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="itwinai-check-") as folder:
        commands = [_probe("all-reduce", str(rank), folder, device, backend) for rank in (0, 1)]
        _, problem = _together(commands)
    seconds = time.monotonic() - began
    value = problem or f"two processes over {backend}, {seconds:.1f} s with their start"
    return Finding("all-reduce", device, value, problem is None)


def _ray() -> Iterator[Finding]:
    address = os.environ.get("RAY_ADDRESS")
    if address is not None:
        mode = os.environ.get("RAY_AUTH_MODE", "none")
        yield Finding("ray", "cluster", f"RAY_ADDRESS={address} would be joined")
        yield Finding("ray", "authentication", f"RAY_AUTH_MODE={mode}, as that cluster demands")
        return
    outputs, problem = _together([_probe("ray")])
    if problem is not None:
        yield Finding("ray", "start", problem, ok=False)
        return
    yield from _seen_of_ray(json.loads(outputs[0].splitlines()[-1]))


def _seen_of_ray(seen: dict[str, Any]) -> Iterator[Finding]:
    """Findings of what an embedded Ray shows to others."""
    resources = ", ".join(f"{count:g} {name}" for name, count in seen["resources"].items())
    yield Finding("ray", "start", f"inside the program, with {resources}", ok=True)
    addresses = seen["listens_on"]
    local = all(ip_address(address).is_loopback or _is_mapped(address) for address in addresses)
    reach = "this machine only" if local else "OTHER MACHINES CAN CONNECT"
    yield Finding("ray", "listens on", f"{', '.join(addresses) or 'nothing'}: {reach}", local)
    token = seen["auth_mode"] == "token"
    yield Finding("ray", "authentication", f"RAY_AUTH_MODE={seen['auth_mode']}", token)
    for name in ("folder", "token"):
        private = seen[f"{name}_mode"].endswith("00")
        reader = "only you can read it" if private else "OTHERS CAN READ IT"
        yield Finding("ray", name, f"{seen[name]}, mode {seen[f'{name}_mode']}: {reader}", private)


def _is_mapped(address: str) -> bool:
    """Whether it is an IPv4 loopback address, written as one of IPv6."""
    mapped = getattr(ip_address(address), "ipv4_mapped", None)
    return mapped is not None and bool(mapped.is_loopback)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _probe(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "itwinai.cli.probes", *arguments]


def _together(commands: Sequence[Sequence[str]]) -> tuple[list[str], str | None]:
    """Run programs side by side, to a common deadline.

    Returns:
        What they wrote, and what went wrong, or None.
    """
    until = time.monotonic() + DEADLINE_S
    with tempfile.TemporaryDirectory(prefix="itwinai-check-") as folder:
        logs = [Path(folder) / f"{number}.txt" for number in range(len(commands))]
        errors = [log.with_suffix(".err") for log in logs]
        processes = [_started(*files) for files in zip(commands, logs, errors, strict=True)]
        try:
            codes = [process.wait(max(0.0, until - time.monotonic())) for process in processes]
        except subprocess.TimeoutExpired:
            return [], f"no answer within {DEADLINE_S:g} s"
        finally:
            for process in processes:
                process.kill()
                process.wait()
        failed = [error for code, error in zip(codes, errors, strict=True) if code != 0]
        if failed:
            lines = failed[0].read_text(errors="replace").strip().splitlines()
            return [], lines[-1] if lines else "ended without a word"
        return [log.read_text() for log in logs], None


def _started(command: Sequence[str], output: Path, errors: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as out, errors.open("wb") as err:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)


def _is_first(findings: Sequence[Finding]) -> bool:
    return len(findings) == 1 or findings[-1].section != findings[-2].section


def _show(finding: Finding, new_section: bool = False) -> None:
    if new_section:
        typer.echo(finding.section)
    mark = {True: "ok", False: "FAILED", None: ""}[finding.ok]
    typer.echo(f"  {mark:<7}{finding.name:<16} {finding.value}")
