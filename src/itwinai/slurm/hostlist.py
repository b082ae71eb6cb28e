"""Slurm's way of writing lists of hosts."""

from __future__ import annotations

import re


def expand(hosts: str) -> list[str]:
    """Return the names in a list such as ``node[003-005,007],login1``."""
    return [
        name for pattern in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", hosts) for name in _names(pattern)
    ]


def _names(pattern: str) -> list[str]:
    before, bracket, rest = pattern.partition("[")
    if not bracket:
        return [before]
    numbers, _, after = rest.partition("]")
    ends = _names(after)
    return [before + number + end for number in _numbers(numbers) for end in ends]


def _numbers(ranges: str) -> list[str]:
    found = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        found += [str(number).zfill(len(first)) for number in span]
    return found
