"""Where a scheduler compares trials, as data: what a study keeps of it, and a forecast reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

#: What grace periods and rungs count.
Unit = Literal["epochs", "steps", "seconds"]


@dataclass(frozen=True)
class Bracket:
    """Rungs that the same trials climb.

    Attributes:
        levels: Progress at each rung, increasing, the end excluded.
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
        unit: What the levels count.
    """

    brackets: tuple[Bracket, ...]
    turns: tuple[int, ...] = (0,)
    unit: Unit = "epochs"

    def in_epochs(self, amount: float, end: float) -> Rungs:
        """The same with levels in epochs, as far as they lie before the end.

        Args:
            amount: How much of the unit an epoch is.
            end: Epochs of a full training.
        """
        if self.unit == "epochs":
            return self
        each = [[level / amount for level in bracket.levels] for bracket in self.brackets]
        brackets = [
            replace(bracket, levels=tuple(level for level in levels if level < end))
            for bracket, levels in zip(self.brackets, each, strict=True)
        ]
        return Rungs(tuple(brackets), self.turns)
