"""The end of a file that grows: what its disk does not take now is kept, and written later."""

from __future__ import annotations

import os
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
        if self.problem:
            return
        try:
            self._write(content)
        except OSError as error:
            self._note(error)

    def sync(self) -> None:
        """Force everything to disk, what an earlier try has failed to write included."""
        try:
            if self.problem:
                self._file.truncate(self._begin)
                self._write(bytes(self._content))
            os.fsync(self._file.fileno())
        except OSError as error:
            self._note(error)
            return
        self._begin += len(self._content)
        self._content.clear()
        self.problem = ""

    def _note(self, error: OSError) -> None:
        self.problem = error.strerror or str(error)

    def _write(self, content: bytes) -> None:
        while content:
            content = content[self._file.write(content) :]
