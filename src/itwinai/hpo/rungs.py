"""Where a scheduler compares trials, as data: what a study keeps of it, and a forecast reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bracket:
    """Rungs that the same trials climb.

    Attributes:
        levels: Epochs at each rung, increasing, the end excluded.
        keep: Of the trials at a rung, the share that goes on.
    """

    levels: tuple[float, ...]
    keep: float


@dataclass(frozen=True)
class Rungs:
    """The brackets of a scheduler, and who climbs which.

    Attributes:
        brackets: One or several.
        turns: Trial ``n`` is in the bracket of this index, at position ``n`` modulo their number.
    """

    brackets: tuple[Bracket, ...]
    turns: tuple[int, ...] = (0,)
