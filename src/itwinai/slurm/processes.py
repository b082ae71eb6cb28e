"""Processes that never outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None)


class EndSignals:
    """Remembers that this process was told to end; whoever loops looks here.

    Attributes:
        received: The signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._remember)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.received = number


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    output: IO[Any] | None = None,
    if_parent_dies: int = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, which hears when this process dies.

    Args:
        command: Program and arguments.
        environment: All of its environment variables.
        output: Where it writes; None: where this process does.
        if_parent_dies: The signal that it then gets.
    """

    def tie_to_parent() -> None:  # safe: this process has one thread
        _libc.prctl(_PR_SET_PDEATHSIG, if_parent_dies)

    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=tie_to_parent,
    )


def end(process: subprocess.Popen[bytes], patience: float) -> None:
    """End a command with all of its group: with SIGTERM, and after so many seconds SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_descendants(seconds: float = 10) -> None:
    """Kill every child, and then those that it leaves to us, until there are none."""
    deadline = time.monotonic() + seconds
    while (children := _children()) and time.monotonic() < deadline:
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(child, 0)


def _children() -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended since
            # After the name, which may hold anything, come the state and the parent.
            parent = status.read_text(errors="replace").rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.append(int(status.parent.name))
    return found
