"""Atomic writes: a name becomes visible only once what it names is complete and on disk."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

#: Seconds that a file of five bytes may take, written, forced to disk, renamed and deleted.
_SLOW_S = 1.0


def sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shortest(path: Path) -> str:
    """Write a path from the current folder if it lies in it, otherwise in full."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


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


@dataclass(frozen=True)
class Probe:
    """How a folder takes a file.

    Attributes:
        problem: Why it cannot hold files that last; nothing if it can.
        seconds: How long the file took.
    """

    problem: str
    seconds: float

    @property
    def is_slow(self) -> bool:
        """Whether the file took longer than anybody wants to wait for each end of a trial."""
        return self.seconds > _SLOW_S


def probe(folder: Path) -> Probe:
    """Try whether a folder holds files that last, and how quickly."""
    begin = time.monotonic()
    problem = why_unusable(folder)
    return Probe(problem, time.monotonic() - begin)


def why_unusable(folder: Path) -> str:
    """Say why a folder cannot hold files that last; nothing if it can.

    A file is written, locked, forced to disk, renamed and deleted there, or, as long as there is no
    such folder, in the one in which it would be made.
    """
    try:
        with suppress(FileNotFoundError):
            os.lstat(folder)  # refuses names that are too long, and files on the way
        place = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        descriptor, name = tempfile.mkstemp(dir=place, prefix=".probe-")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, b"probe")
            os.fsync(descriptor)
            os.replace(name, f"{name}.renamed")
            name = f"{name}.renamed"
        finally:
            os.close(descriptor)
            os.unlink(name)
    except OSError as error:
        return f"{error.strerror or error} ({error.filename or folder})"
    except ValueError as error:  # a null byte
        return str(error)
    return ""


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a scratch folder to fill; it takes the name ``path`` when the block ends well.

    An existing ``path`` stays in place as ``<path>.old`` for the moment of the exchange, so that a
    crash leaves one complete folder; :func:`newest_complete` finds it. A scratch folder that a
    killed process has left is deleted here, by the next one that writes the same ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}-*"):
        _delete_unused(left)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        with _locked(scratch):
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


@contextmanager
def temporary_folder(place: Path, prefix: str) -> Iterator[Path]:
    """Give a folder that goes with the block; after ``kill -9``, with the next one made there.

    Args:
        place: Where it is made, such as ``tempfile.gettempdir()``.
        prefix: Begin of its name, by which those of dead processes are found.
    """
    for left in place.glob(f"{prefix}*"):
        with suppress(OSError):  # another user's, or just gone
            if left.lstat().st_uid == os.geteuid():
                _delete_unused(left)
    # It takes its name once it is locked, so that nobody finds it unused.
    fresh = Path(tempfile.mkdtemp(dir=place, prefix=f".{prefix}"))
    with _locked(fresh):
        folder = fresh.rename(place / fresh.name.removeprefix("."))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _delete_unused(folder: Path) -> None:
    """Delete a folder that no process holds."""
    with _locked(folder) as nobody_uses:
        if nobody_uses:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a folder's lock, which ends with the process; say whether it could be had."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    locked = False
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        yield locked
    finally:
        os.close(descriptor)


def newest_complete(path: Path) -> Path | None:
    """Return ``path``, or what a crash in the middle of :func:`atomic_folder` left of it."""
    for candidate in (path, path.parent / f"{path.name}.old"):
        if candidate.exists():
            return candidate
    return None


def delete_folder(path: Path, within: Path) -> None:
    """Delete a folder, and the one that it lies in if nothing else does.

    Args:
        path: The folder.
        within: What does not lie in this one, links followed, stays.
    """
    if within.resolve() not in path.parent.resolve().joinpath(path.name).parents:
        return
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.parent.rmdir()
