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

import itwinai
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record.mending import Damage, is_begin, legible, mend, read_lines
from itwinai.hpo.record.sealing import sealed
from itwinai.hpo.record.tail import Tail
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

    @property
    def problem(self) -> str:
        """Why the last entries are not in the file; nothing if they are."""
        return ""

    def sync(self) -> None:
        """There is no disk."""

    def close(self) -> None:
        """There is no lock."""


class StudyRecord(MemoryRecord):
    """Optuna journal backend for a single writer.

    Args:
        path: The journal; made if it does not exist. A torn last line, left by a crash in the
            middle of a write, is cut off; damaged lines are left out, as :func:`repair` does.

    Raises:
        StudyError: If another live process writes this record, or what the study is cannot be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries in one write; those that the disk does not take are kept."""
        lines = [self._line_of(log) for log in logs]
        self._tail.append(("\n".join(lines) + "\n").encode())
        self._unread.extend(json.loads(line) for line in lines)

    def sync(self) -> None:
        """Force all entries to disk; what it does not take is kept for the next time."""
        self._tail.sync()

    @property
    def problem(self) -> str:
        """Why the last entries are not in the file; nothing if they are."""
        return self._tail.problem

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
            if self.problem:
                _warn_of_loss(self.path, self.problem)
            elif not os.path.lexists(self.path):
                self._write_again()
            self._file.close()

    def _write_again(self) -> None:
        """The system keeps a deleted file as long as it is open."""
        self._file.seek(0)
        with suppress(OSError):  # its place is gone as well
            write_text(self.path, self._file.read().decode())

    def _line_of(self, log: dict[str, Any]) -> str:
        if is_begin(log):
            # Optuna counts the begins, so that one which is lost would give its number to the next.
            log = {**log, "number": self._begun}
            self._begun += 1
        self._lines += 1
        return sealed(log, self._lines)

    def _open(self) -> None:
        self._file: BinaryIO = _locked(self.path)
        try:
            damages = self._read_all()
        except StudyError:
            self._file.close()
            raise
        if damages:
            self._file.close()
            damages, kept = repair(self.path)
            _warn(self.path, damages, f"The study goes on; {kept} is the damaged one")
            self._open()

    def _read_all(self) -> list[Damage]:
        """Read what is there, and cut a torn last line off."""
        self._file.seek(0)
        content = self._file.read()
        complete = content.rfind(b"\n") + 1
        with legible(self.path):
            entries, damages = read_lines(self.path, content[:complete])
            self._unread = _folded(entries)
        if complete < len(content):
            self._file.truncate(complete)
        self._begun = sum(map(is_begin, entries))
        self._lines = len(entries)
        self._tail = Tail(self._file)
        return damages


class ReadRecord(MemoryRecord):
    """A record that is only read, maybe while its study runs.

    A torn last line is left out, and so is what is damaged; that is said.

    Args:
        path: The journal.

    Raises:
        StudyError: If what the study is cannot be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        content = path.read_bytes()
        entries, damages = read_lines(path, content[: content.rfind(b"\n") + 1])
        if damages:
            _warn(path, damages, f"'itwinai hpo repair {path.parent}' mends the record")
        self._unread = _folded(entries)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse: the study's driver is the only writer."""
        raise StudyError(f"{self.path}: opened to be read only")


class LiveRecord(MemoryRecord):
    """A record that is read anew at each look, maybe while its study runs; nothing can be written.

    Args:
        path: The journal.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._bytes = 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Give the entries from ``log_number_from`` on, if the file has grown since the last time.

        Raises:
            StudyError: If what the study is cannot be read.
        """
        content = self.path.read_bytes()
        if len(content) == self._bytes and log_number_from == self._read:
            return iter(())
        entries, _ = read_lines(self.path, content[: content.rfind(b"\n") + 1])
        self._bytes, self._read = len(content), len(entries)
        return iter(entries[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse: the study's driver is the only writer."""
        raise StudyError(f"{self.path}: opened to be read only")


def repair(path: Path) -> tuple[list[Damage], Path]:
    """Mend a record whose study does not run; the damaged one is kept beside it.

    Args:
        path: The journal.

    Returns:
        What the damage was, and where the damaged one is; nothing is written if there was none.

    Raises:
        StudyError: If there is no such file, its study runs, or what the study is cannot be read.
    """
    if not path.is_file():
        raise StudyError(f"{path}: no such record. Give the study's folder, <storage_path>/<name>.")
    with _locked(path):
        return mend(path)


def _locked(path: Path) -> BinaryIO:
    """Open a record to be written by this process alone."""
    file = open(path, "a+b", buffering=0)  # noqa: SIM115 - lives as long as the study
    try:
        # The operating system drops the lock with its owner, so a dead driver holds nothing.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StudyError(
            f"{path}: another process is running this study. Wait for it, stop it, "
            "or give this study another name."
        ) from None
    return file


def _warn_of_loss(path: Path, problem: str) -> None:
    itwinai.logger.warning(
        "warning: %s: %s. What the study learnt since then is not in its record: with "
        "study.resume=true it trains those epochs again",
        path,
        problem,
    )


def _warn(path: Path, damages: list[Damage], remedy: str) -> None:
    """Name the first few damages."""
    shown = [str(damage) for damage in damages[:3]]
    more = len(damages) - len(shown)
    lines = ", ".join([*shown, f"{more} more"] if more else shown)
    verb = "is" if len(damages) == 1 else "are"
    itwinai.logger.warning(
        "warning: %s: %s %s damaged, and left out. %s", path, lines, verb, remedy
    )


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
