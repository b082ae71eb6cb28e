"""Memory that is there once, and that each trial may change for itself."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from itwinai.hpo.ray_private import object_store_at

#: Of the buffers in a file, so that any type can lie there.
_ALIGNMENT = 64


class OriginalMemory:
    """Buffers that can be had again and again as they were.

    Each copy is a private mapping of one file: a page is copied when it is first written to. In a
    process of Ray's the file is the node's object store, where the buffers lie already. Elsewhere
    they are copied into one without a name, once.

    Args:
        buffers: The originals, of bytes.
    """

    def __init__(self, buffers: Sequence[memoryview]) -> None:
        found = _in_object_store(buffers)
        #: Ray keeps them in the store for as long as they are referred to.
        self._held = buffers if found else ()
        self._file, offsets = found or _in_new_file(buffers)
        ends = [offset + len(buffer) for offset, buffer in zip(offsets, buffers, strict=True)]
        weakref.finalize(self, self._file.close)
        first = min(offsets, default=0)
        self._begin = first - first % mmap.ALLOCATIONGRANULARITY
        self._length = max(ends, default=0) - self._begin
        self._places = [
            slice(offset - self._begin, end - self._begin)
            for offset, end in zip(offsets, ends, strict=True)
        ]

    @contextmanager
    def copy(self) -> Iterator[list[memoryview]]:
        """Give the buffers as they were, to be changed at will until the block ends.

        What was written is gone then, even where somebody still refers to it.
        """
        if not self._places:
            yield []
            return
        copy = mmap.mmap(
            self._file.fileno(),
            self._length,
            flags=mmap.MAP_PRIVATE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
            offset=self._begin,
        )
        try:
            yield [memoryview(copy)[place] for place in self._places]
        finally:
            copy.madvise(mmap.MADV_DONTNEED)


def _in_object_store(buffers: Sequence[memoryview]) -> tuple[BinaryIO, list[int]] | None:
    """The file of Ray's object store, and where in it the buffers lie; None if they do not."""
    addresses = [np.frombuffer(buffer, np.uint8).ctypes.data for buffer in buffers]
    first = min(addresses, default=0)
    found = object_store_at(first)
    if found is None:
        return None
    path, offset = found
    try:
        file = open(path, "rb")  # noqa: SIM115 - for as long as there is memory of it
    except OSError:  # of another user
        return None
    return file, [offset + address - first for address in addresses]


def _in_new_file(buffers: Sequence[memoryview]) -> tuple[BinaryIO, list[int]]:
    """A file without a name that holds the buffers, and where."""
    file = _nameless_file()
    offsets = []
    for buffer in buffers:
        offsets.append(file.seek(-(-file.tell() // _ALIGNMENT) * _ALIGNMENT))
        file.write(buffer)
    file.flush()
    return file, offsets


def _nameless_file() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("itwinai"), "w+b")
    return tempfile.TemporaryFile()
