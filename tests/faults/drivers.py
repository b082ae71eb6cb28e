"""Drivers of short studies as processes of their own, and what can happen to them."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import short_study

#: Seconds after which a test gives up; nothing depends on them otherwise.
PATIENCE_S = 180

#: Seconds after ``kill -9`` within which all processes of a driver are gone.
GONE_WITHIN_S = 10

_MARK = "ITWINAI_TEST_DRIVER"


def until(
    condition: Callable[[], object], otherwise: Callable[[], object], within: float = PATIENCE_S
) -> None:
    """Wait for something that another process does, for so many seconds at most."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.02)


def epochs_of(folder: Path) -> list[tuple[int, int, int]]:
    """Process, trial and epoch of all that was trained so far."""
    log = folder / "epochs.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(pid), int(trial), int(epoch)) for pid, trial, epoch in map(str.split, lines)]


def trained_again(folder: Path) -> int:
    """How many epochs were trained although they had been before."""
    times = Counter((trial, epoch) for _, trial, epoch in epochs_of(folder))
    return sum(count - 1 for count in times.values())


class Driver:
    """A driver of the short study of a folder, in a session of its own.

    All processes that it starts are known by a mark in their environment, or by the folder that
    they work in: Ray's write their names over some of their environment.

    Args:
        folder: Where the study is.
        trials: How many it has.
        temporary: Where it makes its temporary folders, by a short path.
        terminal: A terminal of its own to give it.
        output: Where its standard output goes; None: into its log, as its errors do.
    """

    def __init__(
        self,
        folder: Path,
        trials: int,
        temporary: Path,
        terminal: Terminal | None = None,
        output: int | None = None,
    ) -> None:
        self.folder, self.log = folder, folder / "driver.log"
        self._known = len(epochs_of(folder))
        self._mark = str(uuid.uuid4())
        # Whoever starts the tests may ignore signals, as nohup does, and pass that on.
        command = ["env", "--default-signal=HUP,INT", sys.executable, short_study.__file__]
        command += [str(folder), str(trials)]
        if terminal is not None:
            command = ["setsid", "--wait", "--ctty", *command]
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if terminal is None else terminal.inner,
                stdout=log if output is None else output,
                stderr=log,
                cwd=folder,
                env={**os.environ, _MARK: self._mark, "TMPDIR": str(temporary)},
                start_new_session=terminal is None,
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def wait_for_epochs(self, count: int) -> None:
        """Wait until so many epochs have been trained since it was started."""
        until(lambda: len(self.epochs()) >= count or not self.is_running, self.log.read_text)
        assert self.is_running, self.log.read_text()

    def wait_for_workers(self, count: int = short_study.AT_ONCE) -> None:
        """Wait until so many of its processes train."""
        until(lambda: len(self.workers()) >= count or not self.is_running, self.log.read_text)
        assert self.is_running, self.log.read_text()

    def epochs(self) -> list[tuple[int, int, int]]:
        """Process, trial and epoch of all that was trained since it was started."""
        return epochs_of(self.folder)[self._known :]

    def processes(self) -> list[int]:
        """Its processes: itself and all that it has started, children of children too."""
        mark = f"{_MARK}={self._mark}".encode()
        numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [pid for pid in numbers if mark in _words_of(pid, "environ") or self._has(pid)]

    def _has(self, pid: int) -> bool:
        with suppress(OSError):  # it has ended
            return Path(f"/proc/{pid}/cwd").readlink() == self.folder
        return False

    def workers(self) -> list[int]:
        """Those of its processes that train."""
        begun = {int(file.name) for file in (self.folder / "workers").glob("*")}
        alive = begun & set(self.processes())
        # The system gives a number again, but not to a process that Ray names so.
        return sorted(pid for pid in alive if _content(pid, "cmdline").startswith(b"ray::"))

    def token(self) -> Path:
        """The file that holds the token of its Ray."""
        return Path(self._found("environ", r"RAY_AUTH_TOKEN_PATH=(.+)"))

    def address(self) -> str:
        """Where its Ray listens."""
        return self._found("cmdline", r"--gcs-address=(.+)")

    def _found(self, kind: str, pattern: str) -> str:
        for pid in self.processes():
            for word in _words_of(pid, kind):
                if found := re.fullmatch(pattern, word.decode()):
                    return found[1]
        raise AssertionError(f"it has not started Ray: {self.log.read_text()}")

    def places_of(self, text: str, *folders: Path) -> list[str]:
        """Where a text stands: command lines and environments of its processes, and files."""
        sought = text.encode()
        places = [(pid, kind) for pid in self.processes() for kind in ("cmdline", "environ")]
        found = [f"{kind} of {pid}" for pid, kind in places if sought in _content(pid, kind)]
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        return found + [str(file) for file in files if sought in file.read_bytes()]

    def runs(self, program: str) -> bool:
        """Whether one of its processes goes by this name."""
        sought = program.encode()
        return any(sought in _words_of(pid, "cmdline")[0] for pid in self.processes())

    def end(self, within: float = PATIENCE_S) -> int:
        """Wait for its end and that of its processes; return its exit code or minus its signal."""
        code = self.process.wait(PATIENCE_S)
        until(lambda: not self.processes(), self._left, within)
        return code

    def _left(self) -> str:
        return f"left of it: {[_content(pid, 'cmdline') for pid in self.processes()]}"

    def sweep(self) -> None:
        """Kill whatever is left of it."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)


class Terminal:
    """A terminal for one program, and the keyboard to it."""

    def __init__(self) -> None:
        self._keyboard, self.inner = pty.openpty()

    def press_ctrl_c(self) -> None:
        """Press the two keys."""
        os.write(self._keyboard, b"\x03")

    def close(self) -> None:
        """Take it away."""
        os.close(self._keyboard)
        os.close(self.inner)


def _content(pid: int, kind: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{kind}").read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return b""


def _words_of(pid: int, kind: str) -> list[bytes]:
    return _content(pid, kind).split(b"\0")
