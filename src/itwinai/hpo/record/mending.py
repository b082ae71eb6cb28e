"""What a damaged record still tells: all but what its damaged lines held."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from itwinai.errors import one_line, text_of, visible
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record.attributes import FACTS
from itwinai.hpo.record.sealing import is_sound, sealed
from itwinai.io.files import write_text

Entry = dict[str, Any]

#: What a line held, by what can still be read of it.
_HELD = (
    (rb'"study_name"', "the study's name"),
    (rb'"user_attr":\{"itwinai"', "the study's search space and objectives"),
    (rb'"user_attr":\{"epoch (\d+(?:\.\d+)?)"', "epoch %s"),
    (rb'"param_name":"([^"]*)"', "the value of %s"),
    (rb'"intermediate_value"', "the objective at an epoch"),
    (rb'"datetime_start"', "the begin"),
    (rb'"state"', "the state"),
    (rb'"user_attr":\{"([^"]*)"', "the entry %r"),
)
_TRIAL = re.compile(rb'"trial_id":(\d+)')
#: Optuna's operations.
_OPERATIONS = frozenset(range(11))


@dataclass(frozen=True)
class Damage:
    """Lines that cannot be read as they were written.

    Attributes:
        line: The number of the first, from 1.
        held: What it held, as far as that can be told.
    """

    line: int
    held: str

    def __str__(self) -> str:
        return f"line {self.line} ({self.held})"


def read_lines(path: Path, content: bytes) -> tuple[list[Entry], list[Damage]]:
    """Read the complete lines of a record.

    Args:
        path: The record, for messages.
        content: What is in it, up to the end of its last complete line.

    Returns:
        The entries, and what was left out. A trial whose begin was left out has another one in its
        place, because Optuna counts trials by their begins.

    Raises:
        StudyError: If the damage is to what the study is.
    """
    lines = content.split(b"\n")[:-1]
    entries, damages = _sound_entries(lines)
    if damages:
        entries = list(_with_all_begins(entries, len(lines)))
        _check_is_study(path, entries, damages)
    return entries, damages


def is_begin(entry: Entry) -> bool:
    """Whether an entry makes a trial."""
    return "study_id" in entry and "datetime_start" in entry


def mend(path: Path) -> tuple[list[Damage], Path]:
    """Put a mended copy in a record's place, and keep the damaged one beside it.

    The caller sees to it that nobody writes the record.

    Returns:
        What the damage was, and where the damaged one is; nothing is written if there was none.

    Raises:
        StudyError: If the damage is to what the study is.
    """
    content = path.read_bytes()
    entries, damages = read_lines(path, content[: content.rfind(b"\n") + 1])
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    kept = next(name for name in names if not name.exists())
    if damages:
        kept.hardlink_to(path)
        lines = [sealed(entry, number) for number, entry in enumerate(_bare(entries), start=1)]
        write_text(path, "\n".join(lines) + "\n")
    return damages, kept


@contextmanager
def legible(record: Path) -> Iterator[None]:
    """Say of a record without check sums that it makes no sense, where Optuna finds none.

    Raises:
        StudyError: Instead of the error that a block raises.
    """
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise StudyError(
            f"{record}: damaged; what stands there makes no sense ({type(error).__name__}: "
            f"{one_line(text_of(error))}). Restore the record from a copy."
        ) from error


def _sound_entries(lines: Sequence[bytes]) -> tuple[list[Entry], list[Damage]]:
    """The entries of all lines that are as they were written, each once and by its number."""
    sums = [is_sound(line) for line in lines]
    sealed_from = next((place for place, sound in enumerate(sums) if sound is not None), len(sums))
    spoilt = {place for place, sound in enumerate(sums) if not sound and place >= sealed_from}
    parsed = _parsed([line for place, line in enumerate(lines) if place not in spoilt])
    if [entry and entry.get("line") for entry in parsed] == list(range(1, len(lines) + 1)):
        return [entry for entry in parsed if entry], []
    known = iter(parsed)
    found: dict[int, Entry] = {}
    odd: list[Damage] = []
    number = highest = 0
    for place, line in enumerate(lines):
        entry = None if place in spoilt else next(known)
        if entry is None:
            number += 1
            odd.append(Damage(number, _held(line)))
            continue
        number = entry.get("line", number + 1)
        if number <= highest:
            odd.append(Damage(place + 1, f"line {number}, out of its place"))
        highest = max(highest, number)
        found.setdefault(number, entry)
    return [found[number] for number in sorted(found)], [*odd, *_gaps(found, odd)]


def _gaps(found: Mapping[int, Entry], odd: Sequence[Damage]) -> Iterator[Damage]:
    """The lines of which nothing is left."""
    known = sorted({0, *found, *(damage.line for damage in odd)})
    for before, after in pairwise(known):
        if after - before > 1:
            yield Damage(before + 1, f"missing, {after - before - 1} in all")


def _parsed(lines: list[bytes]) -> list[Entry | None]:
    """Parse lines, all in one piece where that succeeds: a record may have a million of them."""
    try:
        entries: list[Any] = from_json(b"[" + b",".join(lines) + b"]")
    except ValueError:  # neither JSON nor text
        entries = []
    if len(entries) != len(lines):
        entries = [_entry(line) for line in lines]
    return [entry if _is_entry(entry) else None for entry in entries]


def _entry(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_entry(entry: Any) -> bool:
    return (
        type(entry) is dict
        and type(entry.get("op_code")) is int
        and entry["op_code"] in _OPERATIONS
        and type(entry.get("line", 0)) is int
        and type(entry.get("number", 0)) is int
        and type(entry.get("trial_id", 0)) is int
    )


def _held(line: bytes) -> str:
    trial = _TRIAL.search(line)
    whose = f" of the trial with trial_id {trial[1].decode()}" if trial else ""
    for pattern, words in _HELD:
        found = re.search(pattern, line)
        if found:
            names = tuple(group.decode(errors="replace") for group in found.groups())
            return visible(words % names + whose)
    return f"something{whose}" if trial else "unknown"


def _with_all_begins(entries: Iterable[Entry], most: int) -> Iterator[Entry]:
    """Give the entries with a begin for each trial that others speak of.

    An entry that speaks of a trial far beyond ``most`` begins is none of this record.
    """
    begun = 0
    for entry in entries:
        begins = is_begin(entry)
        due = entry.get("number", begun) if begins else entry.get("trial_id", -1) + 1
        if due - begun > most:
            continue
        for _ in range(begun, due):
            yield {"op_code": 4, "worker_id": "", "study_id": 0, "datetime_start": None}
        begun = max(begun, due) + begins
        yield entry


def _check_is_study(path: Path, entries: Iterable[Entry], damages: Sequence[Damage]) -> None:
    kinds = [("study_name" in entry, FACTS in entry.get("user_attr", ())) for entry in entries]
    if not all(map(any, zip(*kinds, strict=True))) or not kinds:
        raise StudyError(
            f"{path}, {damages[0]}: the line is damaged, and without it nothing tells what the "
            "study is. Restore the record from a copy."
        )


def _bare(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries without their seals."""
    for entry in entries:
        yield {key: value for key, value in entry.items() if key not in ("line", "sum")}
