"""How numbers and counts are written."""

from __future__ import annotations

import math
from typing import Any

from itwinai.errors import one_line
from itwinai.reporting import rounded


def number(value: Any, digits: int = 4) -> str:
    """Write a real number with few digits, anything else as it is, on one line."""
    return rounded(value, digits) if isinstance(value, float) else one_line(str(value))


def interval(value: float, lower: float, upper: float, digits: int = 3) -> tuple[str, str, str]:
    """Write a number and the ends of its interval, with more digits where they would be alike."""
    width, largest = upper - lower, max(abs(lower), abs(upper))
    if 0 < width < math.inf:
        digits = max(digits, math.floor(math.log10(largest)) - math.floor(math.log10(width)) + 2)
    return number(value, digits), number(lower, digits), number(upper, digits)


def plural(count: float, word: str) -> str:
    """Write a count of things."""
    return f"{number(count)} {word}{'' if count == 1 else 's'}"
