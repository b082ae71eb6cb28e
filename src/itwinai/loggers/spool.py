"""Calls to a service, kept in a file from before they are made until the service has taken them.

A spool is a folder of one run. What it holds is data, JSON and copies of files, and none of it is
code. A process that is killed loses nothing of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from itwinai.errors import ItwinaiError
from itwinai.io.files import delete_folder
from itwinai.io.ownership import make_own

#: Name of the folder of spools, in a logger's ``savedir``.
UNSENT = "unsent"

#: One call: its name, by the key ``call``, and what it needs.
Call = Mapping[str, Any]

_CALLS, _TAKEN, _FILES = "calls.jsonl", "taken", "files"
_CHUNK = 1 << 16


class SpoolError(ItwinaiError):
    """A spool is damaged, or something in it points out of it."""


class SpoolInUseError(SpoolError):
    """Another process sends what the spool holds."""


class Spool:
    """One run's calls, in the order in which they are to be made; the first one opens the run.

    Memory holds none of them. Who has a spool open has it alone.

    Args:
        folder: As :meth:`made` made it.

    Raises:
        SpoolError: If there is no spool.
        SpoolInUseError: If another process, or another object of this one, has it open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count()
        try:
            self._file = os.open(folder / _CALLS, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise SpoolError(f"{folder}: cannot be read: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise SpoolInUseError(f"{folder}: a process that still runs sends it") from error
        except OSError:  # some network file systems have no locks
            pass

    @classmethod
    def made(cls, folder: Path, first: Call) -> Spool:
        """Make a spool in a folder of spools.

        Args:
            folder: The folder of spools, which only this user can read.
            first: The call that opens the run.
        """
        scratch = _private_folder_in(folder)
        (scratch / _FILES).mkdir()
        (scratch / _CALLS).write_text(_line(first), encoding="utf-8")
        spool = cls(scratch)
        # Their order is that of their making, because a run below another comes after it.
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        spool.folder = scratch.rename(folder / f"{moment}-{time.time_ns()}-{os.getpid()}")
        return spool

    def append(self, call: Call) -> None:
        """Add a call; when this returns, the death of the process does not lose it.

        Raises:
            OSError: If the disk is full; nothing of the call is left then.
        """
        line = _line(call).encode()
        before = os.fstat(self._file).st_size
        if os.write(self._file, line) != len(line):
            os.ftruncate(self._file, before)
            raise OSError(f"{self.folder}: no space is left for what a logger keeps there")

    def keep(self, path: Path) -> str:
        """Copy a file or folder into the spool, and return what a call names the copy by."""
        place = self.folder / _FILES / str(next(self._numbers))
        place.mkdir()
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, place / path.name)
        return str((place / path.name).relative_to(self.folder))

    def kept(self, name: str) -> Path:
        """The copy that :meth:`keep` returned this name of.

        Raises:
            SpoolError: If the name leads out of the spool.
        """
        files, path = (self.folder / _FILES).resolve(), (self.folder / name).resolve()
        if files not in path.parents:
            raise SpoolError(f"{self.folder}: {name!r} is no file of this spool")
        return path

    def forget(self, name: str) -> None:
        """Delete a copy that the service has."""
        with suppress(SpoolError):
            shutil.rmtree(self.kept(name).parent, ignore_errors=True)

    def all(self) -> Iterator[Call]:
        """All calls, whether the service has them or not."""
        return self._all_from(0)

    def first(self) -> Call:
        """The call that opens the run."""
        for call, _ in self._from(0):
            return call
        raise SpoolError(f"{self.folder / _CALLS}: is damaged: it has no line")

    def untaken(self) -> list[tuple[Call, int]]:
        """Some of the next calls, each with the position behind it; none if all are taken."""
        return list(self._from(self._taken()))

    def take(self, position: int) -> None:
        """Note that the service has all calls before a position."""
        path = self.folder / _TAKEN
        path.with_suffix(".new").write_text(str(position))
        path.with_suffix(".new").replace(path)

    def all_untaken(self) -> Iterator[Call]:
        """All calls that the service does not have."""
        return self._all_from(self._taken())

    def _all_from(self, position: int) -> Iterator[Call]:
        while some := list(self._from(position)):
            yield from (call for call, _ in some)
            position = some[-1][1]

    def last_change_ms(self) -> int:
        """When the last call was added, in milliseconds since 1970."""
        return os.fstat(self._file).st_mtime_ns // 1_000_000

    def close(self) -> None:
        """Leave the spool to others, also where forked processes have its file."""
        with suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)

    def delete(self) -> None:
        """Delete the spool, and the folder of spools if it was the last."""
        delete_folder(self.folder, within=self.folder.parent)

    def _taken(self) -> int:
        path = self.folder / _TAKEN
        return int(path.read_text()) if path.exists() else 0

    def _from(self, position: int) -> Iterator[tuple[Call, int]]:
        size = _CHUNK
        chunk = os.pread(self._file, size, position)
        while b"\n" not in chunk and len(chunk) == size:
            size *= 2
            chunk = os.pread(self._file, size, position)
        whole, _, _ = chunk.rpartition(b"\n")  # a line that a crash has torn was never a call
        for line in whole.split(b"\n") if whole else ():
            position += len(line) + 1
            yield self._read(line), position

    def _read(self, line: bytes) -> Call:
        with suppress(ValueError):
            call = json.loads(line)
            if isinstance(call, dict) and isinstance(call.get("call"), str):
                return call
        raise SpoolError(f"{self.folder / _CALLS}: is damaged: {line[:80]!r}")


def spools_in(folder: Path) -> list[Path]:
    """The spools in a folder of spools, the oldest first; the folder itself if it is a spool."""
    if (folder / _CALLS).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"[!.]*/{_CALLS}"))


def _private_folder_in(folder: Path) -> Path:
    """Make a folder in one that only this user can read."""
    while True:
        make_own(folder)
        with suppress(FileNotFoundError):  # the last spool in it was deleted at this moment
            return Path(tempfile.mkdtemp(dir=folder, prefix=".new-"))


def _line(call: Call) -> str:
    return json.dumps(call) + "\n"
