"""How numbers and counts are written."""

from __future__ import annotations

from typing import Any

from itwinai.errors import one_line


def number(value: Any, digits: int = 4) -> str:
    """Write a real number with few digits, anything else as it is, on one line."""
    return f"{value:.{digits}g}" if isinstance(value, float) else one_line(str(value))


def plural(count: float, word: str) -> str:
    """Write a count of things."""
    return f"{number(count)} {word}{'' if count == 1 else 's'}"
