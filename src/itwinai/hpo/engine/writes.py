"""Files that two trials write under one relative name: the later one replaces the earlier's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class RelativeWrites:
    """Hears of the files that the trials of a process open, and says it once if two share one.

    Data loaders that are processes of their own are not heard.

    Args:
        note: Tells the user: what it is about, and the text.
    """

    def __init__(self, note: Callable[[str, str], None]) -> None:
        self._note = note
        self._trial: int | None = None
        self._writers: dict[str, int] = {}
        self._listens = False

    @contextmanager
    def of(self, trial: int) -> Iterator[None]:
        """Take what is opened in a block for a trial's."""
        if not self._listens:  # no audit hook can be taken away: there is one for each process
            self._listens = True
            sys.addaudithook(self._hear)
        self._trial = trial
        try:
            yield
        finally:
            self._trial = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or self._trial is None:
            return
        path, _, flags = arguments
        if not flags & _WRITES or not isinstance(path, str | os.PathLike) or os.path.isabs(path):
            return
        file = os.path.abspath(os.fsdecode(path))
        writer = self._writers.setdefault(file, self._trial)
        if writer != self._trial:
            self._note("files", _words(writer, self._trial, file))


def _words(first: int, second: int, file: str) -> str:
    return (
        f"warning: trials {first} and {second} write the same file, {file}; the later one replaces "
        "or mixes with the earlier's. A training's own folder is self.run_directory."
    )
