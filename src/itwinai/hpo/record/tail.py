"""The end of a file that grows: what its disk does not take now is kept, and written later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


class Tail:
    """Appends to a file, and keeps in memory what is not on disk yet.

    A write or sync that fails may have left any part of it in the file (on a network's disk a sync
    tells of writes that seemed to succeed), so that all of it is written anew.

    Args:
        file: Opened unbuffered, to append.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begin = os.fstat(file.fileno()).st_size
        self._content = bytearray()
        #: What the system says of the last try, if it failed.
        self.problem = ""

    def append(self, content: bytes) -> None:
        """Add to the file; after a failure, to what the next :meth:`sync` writes."""
        self._content += content
        if not self.problem:
            with self._noted():
                self._write(content)

    def sync(self) -> None:
        """Force everything to disk, what an earlier try has failed to write included."""
        with self._noted():
            if self.problem:
                self._file.truncate(self._begin)
                self._write(self._content)
            os.fsync(self._file.fileno())
            self._begin += len(self._content)
            self._content.clear()
            self.problem = ""

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.problem = error.strerror or str(error)

    def _write(self, content: bytes | bytearray) -> None:
        rest = memoryview(bytes(content))
        while rest:
            rest = rest[self._file.write(rest) :]
