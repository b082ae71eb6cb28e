"""Counts of failures that cost nothing but themselves, in small files that others sum up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from itwinai.io.files import write_text

#: Name of the file in the folder of a study or a trial; other ranks' have the rank in it.
FILE_NAME = "logger-failures.json"


@dataclass(frozen=True)
class Failures:
    """What failed of one logger.

    Attributes:
        count: Number of failed calls.
        first: What could not be done the first time, and why.
    """

    count: int
    first: str

    def __add__(self, later: Failures) -> Failures:
        """Sum two counts up; the first of both is the first."""
        return Failures(self.count + later.count, self.first or later.first)

    def of(self, name: str) -> str:
        """Say it in one line."""
        return f"{self.count} failure{'s' * (self.count != 1)} of {name}, the first: {self.first}"


def add_failures(path: Path, failures: Mapping[str, Failures]) -> None:
    """Add failures to those that a file holds; without any, write nothing."""
    if failures:
        total = _summed([read_failures([path]), failures])
        content = {name: vars(failed) for name, failed in total.items()}
        write_text(path, json.dumps(content, indent=2) + "\n")


def read_failures(paths: Iterable[Path]) -> dict[str, Failures]:
    """Sum up what files hold, by name; those that do not exist hold nothing."""
    contents = [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]
    return _summed([{k: Failures(**v) for k, v in content.items()} for content in contents])


def _summed(parts: Iterable[Mapping[str, Failures]]) -> dict[str, Failures]:
    total: dict[str, Failures] = {}
    for part in parts:
        for name, failures in part.items():
            total[name] = total[name] + failures if name in total else failures
    return total
