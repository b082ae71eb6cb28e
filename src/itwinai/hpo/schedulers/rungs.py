"""Schedulers that compare trials at rungs: successive halving and what is built on it."""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from itwinai.hpo.objectives import Losses, dominated_by
from itwinai.hpo.rungs import Bracket, Rungs, Unit
from itwinai.hpo.schedulers.judge import Judge, Report, Verdict

#: With several objectives, so many of a rung's newest entries are compared.
_COMPARED = 500

#: A round of brackets is cut off here: with many rungs it has more trials than any study.
_MOST_TURNS = 10_000


class Rung:
    """The losses of all trials that came so far."""

    def __init__(self) -> None:
        self._losses: list[Losses] = []  # sorted where there is one objective

    def __len__(self) -> int:
        return len(self._losses)

    def enter(self, losses: Losses) -> int:
        """Add a trial; return how many are better than it."""
        better = self.better_than(losses)
        if len(losses) == 1:
            bisect.insort(self._losses, losses)
        else:
            self._losses.append(losses)
        return better

    def better_than(self, losses: Losses) -> int:
        """Count the trials that are better; with several objectives, less often dominated."""
        if len(losses) == 1:
            return bisect.bisect_left(self._losses, losses)
        ranks = dominated_by([*self._losses[-_COMPARED:], losses])
        share = float(np.mean(ranks < ranks[-1]))
        return math.floor(share * (len(self._losses) + 1))


class SuccessiveHalving(Judge):
    """Asynchronous successive halving, stopping variant (Li et al. 2020, algorithm 2).

    Args:
        levels: Progress at each rung, increasing.
        keep: Of the trials at a rung, the share that goes on; the first always does.
        unit: What ``levels`` counts.
    """

    def __init__(self, levels: Sequence[float], keep: float, unit: Unit) -> None:
        self._levels = tuple(levels)
        self._rungs = [Rung() for _ in levels]
        self._keep = keep
        self._unit = unit
        #: By trial, the rungs that it has entered: one that has ended may yet run again.
        self._passed: dict[int, int] = {}

    @property
    def rungs(self) -> Rungs:
        """One bracket."""
        return Rungs((Bracket(self._levels, self._keep),), unit=self._unit)

    def hear(self, report: Report) -> Verdict:
        """Stop a trial that is not among the better share of those at its rung."""
        index = self.reached(report)
        return "continue" if index is None or self.goes_on(index, report.losses) else "stop"

    def reached(self, report: Report) -> int | None:
        """The rung that a trial has just reached, counted from 0, or None."""
        reached = bisect.bisect_right(self._levels, report.progress(self._unit))
        new = reached > self._passed.get(report.number, 0)
        self._passed[report.number] = reached
        return reached - 1 if new else None

    def goes_on(self, index: int, losses: Losses) -> bool:
        """Enter a trial at a rung; tell whether it is among the share that goes on."""
        rung = self._rungs[index]
        better = rung.enter(losses)
        return better < max(1, math.floor(len(rung) * self._keep + 1e-9))


class Hyperband(Judge):
    """Asynchronous Hyperband: brackets of successive halving (Li et al. 2018, algorithm 1).

    Each bracket has one rung less than the one before, the last none at all; trials are dealt out
    in the paper's proportions.

    Args:
        levels: Progress at each rung of the first bracket.
        factor: Reduction factor.
        unit: What ``levels`` counts.
    """

    def __init__(self, levels: Sequence[float], factor: int, unit: Unit) -> None:
        self._brackets = [
            SuccessiveHalving(levels[start:], 1 / factor, unit) for start in range(len(levels) + 1)
        ]
        self._turns = _turns(len(levels), factor)
        self._unit = unit

    @property
    def rungs(self) -> Rungs:
        """All brackets."""
        each = [bracket.rungs for bracket in self._brackets]
        brackets = tuple(bracket for rungs in each for bracket in rungs.brackets)
        return Rungs(brackets, tuple(self._turns), self._unit)

    def hear(self, report: Report) -> Verdict:
        """Ask the trial's bracket."""
        return self._of(report.number).hear(report)

    def _of(self, number: int) -> SuccessiveHalving:
        return self._brackets[self._turns[number % len(self._turns)]]


def _turns(halvings: int, factor: int) -> list[int]:
    """One round of brackets, each as often as the paper starts trials in it."""
    sizes = [math.ceil((halvings + 1) / (s + 1) * factor**s) for s in range(halvings, -1, -1)]
    due = heapq.merge(*itertools.starmap(_evenly, enumerate(sizes)))
    return [bracket for _, bracket in itertools.islice(due, _MOST_TURNS)]


def _evenly(bracket: int, size: int) -> Iterator[tuple[float, int]]:
    """When in a round each of a bracket's trials is due."""
    return (((turn + 1) / size, bracket) for turn in range(size))


class Pasha(Judge):
    """Progressive ASHA (Bohdal et al. 2023, algorithm 1).

    Trials pause at a cap, the second rung at first. The cap rises as long as the ranking of the
    trials at it differs from their ranking one rung below; values closer than the mean distance
    between neighbours count as equal there. In the end the best paused trial is trained to its end.

    Args:
        levels: Progress at each rung.
        keep: Of the trials at a rung, the share that goes on.
        unit: What ``levels`` counts.
    """

    def __init__(self, levels: Sequence[float], keep: float, unit: Unit) -> None:
        self._halving = SuccessiveHalving(levels, keep, unit)
        self._at: list[dict[int, float]] = [{} for _ in levels]
        self._cap = min(1, len(levels) - 1)
        self._paused: dict[int, int] = {}
        self._any_completed = False
        self._first_pause = levels[self._cap] if levels else None

    @property
    def first_pause(self) -> float | None:
        """The first cap."""
        return self._first_pause

    def hear(self, report: Report) -> Verdict:
        """Stop a trial that is not good enough at its rung, pause one at the cap."""
        index = self._halving.reached(report)
        if index is None:
            return "continue"
        self._at[index][report.number] = report.losses[0]
        good = self._halving.goes_on(index, report.losses)
        if index == self._cap and self._cap > 0 and not self._agree():
            self._cap += 1
        if not good:
            return "stop"
        if index < self._cap or self._cap >= len(self._at):
            return "continue"
        self._paused[report.number] = index
        return "pause"

    def began(self, number: int) -> None:
        """Note that a trial does not pause any more."""
        self._paused.pop(number, None)

    def ended(self, number: int, completed: bool) -> None:
        """Note whether any trial was trained to its end."""
        self._paused.pop(number, None)
        self._any_completed = self._any_completed or completed

    def resume(self, more: bool, running: bool) -> int | None:
        """Let trials below the cap go on; in the end the best one, if none is complete."""
        below = [n for n, index in self._paused.items() if index < self._cap]
        if not below and not more and not running and not self._any_completed:
            below = list(self._paused)
        chosen = min(below, key=self._rank, default=None)
        if chosen is not None:
            del self._paused[chosen]
        return chosen

    def _rank(self, number: int) -> tuple[int, float]:
        index = self._paused[number]
        return -index, self._at[index][number]

    def _agree(self) -> bool:
        """Whether the two highest rungs rank the trials at the cap alike."""
        top, below = self._at[self._cap], self._at[self._cap - 1]
        ranked = sorted(top, key=lambda number: top[number])
        before = [below[number] for number in ranked if number in below]
        tolerance = float(np.mean(np.diff(sorted(below.values())))) if len(below) > 1 else 0.0
        return all(
            before[i] <= value + tolerance for i in range(len(before)) for value in before[i:]
        )
