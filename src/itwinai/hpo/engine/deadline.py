"""The deadline for a trial's next report: a training that hangs ends its process."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

#: In a trial's folder: the stacks of all threads of a process that hung.
FILE_NAME = "hung.txt"


class ReportDeadline:
    """Ends its process, and leaves the stacks of all threads, when a trial does not report in time.

    The interpreter's own watchdog does it, which also ends a training that hangs in C code.

    Args:
        seconds: From begin to first report, and from report to report; None: no deadline.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._file: TextIO | None = None

    @contextmanager
    def watch(self, directory: Path) -> Iterator[None]:
        """Watch a trial for the length of a block; its file stays only if the trial hangs."""
        if self._seconds is None:
            yield
            return
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / FILE_NAME
        with open(path, "w") as self._file:
            self._start()
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
                self._file = None
                path.unlink(missing_ok=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock for the length of a block, while the trial waits for its study."""
        if self._file is None:  # a watchdog of the user's own is left alone
            yield
            return
        faulthandler.cancel_dump_traceback_later()
        try:
            yield
        finally:
            self._start()

    def _start(self) -> None:
        if self._seconds is not None and self._file is not None:
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._file)
