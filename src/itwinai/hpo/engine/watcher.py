"""Nothing of an embedded Ray outlives the program that it runs in, however that ended.

This file is also the watcher itself: a process of a few megabytes that knows the standard library
alone. The end of a pipe tells it that the study or its program has ended. What the program has
forked may hold the pipe open, so it looks for its parent as well.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Seconds that Ray's processes get to end by themselves.
_GRACE_S = 3.0

#: Seconds between two looks: for the parent, and for Ray's processes.
_FOR_PARENT_S, _FOR_PROCESSES_S = 1.0, 0.1


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Let no process of a Ray and nothing of its folder outlive the block, nor this program.

    After a Ctrl-C the block waits a moment at most; the watcher does its work all the same. It
    needs Linux: elsewhere nobody watches.

    Args:
        folder: What Ray finds in ``RAY_TMPDIR``, where its processes have their logs.
    """
    if sys.platform != "linux":
        yield
        return
    # Without site-packages it starts quickly; no signal of a terminal reaches its own session.
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(folder)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    ):
        yield


def _wait_for_end_of(parent: int) -> None:
    while os.getppid() == parent:
        if select.select([sys.stdin], [], [], _FOR_PARENT_S)[0]:  # nobody writes: it is closed
            return


def _clean_up(folder: str) -> None:
    _wait_for_processes(folder)
    for pid in _processes(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _wait_for_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _wait_for_processes(folder: str) -> None:
    deadline = time.monotonic() + _GRACE_S
    while _processes(folder) and time.monotonic() < deadline:
        time.sleep(_FOR_PROCESSES_S)


def _processes(folder: str) -> list[int]:
    """This user's processes of the Ray of a folder; not what trials have started besides."""
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in numbers if _is_of(folder, Path("/proc", str(pid)))]


def _is_of(folder: str, process: Path) -> bool:
    with suppress(OSError):  # it has ended, or is another user's
        command = (process / "cmdline").read_bytes()
        if process.stat().st_uid != os.getuid():
            return False
        # Such a name is written over what was there: the command, and some of the environment.
        if command.startswith(b"ray::"):
            return any(path.startswith(f"{folder}/") for path in _opened_by(process))
        if os.fsencode(folder) in command:
            variables = (process / "environ").read_bytes().split(b"\0")
            return os.fsencode(f"RAY_TMPDIR={folder}") in variables
    return False


def _opened_by(process: Path) -> Iterator[str]:
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):  # it is closed by now
            yield os.readlink(descriptor)


if __name__ == "__main__":
    _wait_for_end_of(int(sys.argv[1]))
    _clean_up(sys.argv[2])
