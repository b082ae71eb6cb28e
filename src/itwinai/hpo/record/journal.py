"""The record: Optuna's journal of a study, written by one process alone.

The file is Optuna's own JSON-lines journal and opens with its ``JournalFileBackend``. Because the
study's driver is the only writer, one lock serves the whole study instead of one per line. A line
reaches the operating system as soon as it is written (a killed driver loses none), and the disk
when a trial ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import BaseJournalBackend
from pydantic_core import from_json

from itwinai.hpo.errors import StudyError
from itwinai.io.files import write_text

FILE_NAME = "record.log"


class MemoryRecord(BaseJournalBackend):
    """A record without a file, for simulations."""

    path = Path(FILE_NAME)

    def __init__(self) -> None:
        self._unread: list[dict[str, Any]] = []
        self._read = 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Give the entries from ``log_number_from`` on; each is kept only until it is read."""
        skip = log_number_from - self._read
        entries, self._unread = self._unread[skip:], []
        self._read = log_number_from + len(entries)
        return iter(entries)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries as they would read back from a file."""
        self._unread.extend(json.loads(json.dumps(log)) for log in logs)

    @property
    def is_in_place(self) -> bool:
        """Whether what is written is still found under its path."""
        return True

    def sync(self) -> None:
        """There is no disk."""

    def close(self) -> None:
        """There is no lock."""


class StudyRecord(MemoryRecord):
    """Optuna journal backend for a single writer.

    Args:
        path: The journal; made if it does not exist. A torn last line, left by a crash in the
            middle of a write, is cut off.

    Raises:
        StudyError: If another live process writes this record, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = open(path, "a+b")  # noqa: SIM115 - lives as long as the study
        self._lock()
        try:
            self._cut_torn_tail()
        except StudyError:
            self._file.close()
            raise

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries in one write."""
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        self._file.write(("\n".join(lines) + "\n").encode())
        self._file.flush()
        self._unread.extend(json.loads(line) for line in lines)

    def sync(self) -> None:
        """Force all entries to disk."""
        os.fsync(self._file.fileno())

    @property
    def is_in_place(self) -> bool:
        """Whether the file of this name is still the one that is written."""
        try:
            there = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # a disk that does not answer now may do so again
            return True
        return os.path.samestat(there, os.fstat(self._file.fileno()))

    def close(self) -> None:
        """Sync and give up the lock; a file that was deleted is written again."""
        if not self._file.closed:
            self.sync()
            if not os.path.lexists(self.path):
                self._write_again()
            self._file.close()

    def _write_again(self) -> None:
        """The system keeps a deleted file as long as it is open."""
        self._file.seek(0)
        with suppress(OSError):  # its place is gone as well
            write_text(self.path, self._file.read().decode())

    def _lock(self) -> None:
        # The operating system drops the lock with its owner, so a dead driver holds nothing.
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise StudyError(
                f"{self.path}: another process is running this study. Wait for it, stop it, "
                "or give this study another name."
            ) from None

    def _cut_torn_tail(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            self._file.truncate(complete)
        self._unread = _entries(self.path, content[:complete])


class ReadRecord(MemoryRecord):
    """A record that is only read, maybe while its study runs; a torn last line is left out.

    Args:
        path: The journal.

    Raises:
        StudyError: If it is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        content = path.read_bytes()
        self._unread = _entries(path, content[: content.rfind(b"\n") + 1])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse: the study's driver is the only writer."""
        raise StudyError(f"{self.path}: opened to be read only")


def _entries(path: Path, content: bytes) -> list[dict[str, Any]]:
    """Parse complete lines, all in one piece: a record may have a million of them."""
    try:
        entries: list[Any] = from_json(b"[" + content[:-1].replace(b"\n", b",") + b"]")
    except ValueError:  # neither JSON nor text
        entries = []
    if len(entries) != content.count(b"\n"):
        entries = [_entry(line) for line in content.split(b"\n")[:-1]]
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise StudyError(
                f"{path}, line {number}: not a journal entry. The record is damaged in the middle; "
                "restore it from a copy, or remove the lines from there on."
            )
    return _folded(entries)


def _folded(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put what was learnt of a trial epoch by epoch into the entry that made the trial.

    Optuna copies the whole trial for each entry, and most entries are of epochs: a long record
    opens in half the time. Optuna's entries have room for it, because a trial can also be added
    whole; should another version write them differently, they are left as they are.
    """
    trials: list[dict[str, Any]] = []
    kept = []
    for entry in entries:
        trial = entry.get("trial_id", sys.maxsize)
        if trial < len(trials) and "user_attr" in entry:
            trials[trial].setdefault("user_attrs", {}).update(entry["user_attr"])
        elif trial < len(trials) and "intermediate_value" in entry:
            values = trials[trial].setdefault("intermediate_values", {})
            values[entry["step"]] = entry["intermediate_value"]
        else:
            if "study_id" in entry and "datetime_start" in entry:
                trials.append(entry)
            kept.append(entry)
    return kept


def _entry(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
