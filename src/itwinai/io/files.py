"""Atomic writes: a name becomes visible only once what it names is complete and on disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by a file that holds ``text``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)
    sync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a scratch folder to fill; it takes the name ``path`` when the block ends well.

    An existing ``path`` stays in place as ``<path>.old`` for the moment of the exchange, so that a
    crash leaves one complete folder; :func:`newest_complete` finds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield scratch
        for entry in scratch.rglob("*"):
            sync(entry)
        sync(scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    old = path.with_name(path.name + ".old")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    scratch.rename(path)
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def newest_complete(path: Path) -> Path | None:
    """Return ``path``, or what a crash in the middle of :func:`atomic_folder` left of it."""
    for candidate in (path, path.with_name(path.name + ".old")):
        if candidate.exists():
            return candidate
    return None


def delete_folder(path: Path) -> None:
    """Delete a folder, and the one that it lies in if nothing else does."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.parent.rmdir()
