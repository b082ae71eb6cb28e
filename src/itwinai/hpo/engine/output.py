"""What a trial prints goes to the trial's log file, which exists only if anything was printed."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO


class LazyFile(io.TextIOBase):
    """A text file that is made by its first write.

    Args:
        path: The file; text is appended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def writable(self) -> bool:
        """Tell that text can be written."""
        return True

    def write(self, text: str) -> int:
        """Append text; it is on its way to disk at once, so that a killed process loses none.

        What cannot be written, because the disk is full or the folder gone, is lost: a log is not
        worth a training. What comes after the trial's end, from a module that has kept the stream
        since it was imported in it, goes where the process prints now.
        """
        if self.closed:
            return sys.stderr.write(text)
        with suppress(OSError):
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(  # noqa: SIM115
                    self._path, "a", encoding="utf-8", errors="backslashreplace", buffering=1
                )
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: no text is held back."""

    def close(self) -> None:
        """Close the file if it was ever made."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        super().close()


@contextmanager
def captured_output(path: Path) -> Iterator[None]:
    """Send standard output and error to ``path``."""
    with closing(LazyFile(path)) as file, redirect_stdout(file), redirect_stderr(file):
        yield
