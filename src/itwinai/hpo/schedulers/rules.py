"""Schedulers with a rule of their own instead of rungs."""

from __future__ import annotations

import math

from itwinai.hpo.objectives import Losses
from itwinai.hpo.rungs import Unit
from itwinai.hpo.schedulers.judge import Judge, Report, Verdict
from itwinai.hpo.schedulers.rungs import Rung


class Median(Judge):
    """Median stopping rule (Golovin et al. 2017, section 3.2.1).

    A trial stops whose best loss so far is worse than the median of the others' running averages up
    to the same epoch. Where there are reports within epochs, trials are compared at their first one
    in each tenth of an epoch.

    Args:
        grace: Progress before which no trial stops.
        least: Other trials that must have come as far.
        unit: What ``grace`` counts.
    """

    def __init__(self, grace: float, least: int, unit: Unit) -> None:
        self._grace = grace
        self._least = least
        self._unit = unit
        #: By tenths of an epoch.
        self._averages: dict[int, Rung] = {}
        #: Of each trial, the epochs that it has trained, and its losses summed up over them.
        self._sums: dict[int, tuple[float, Losses]] = {}
        self._best: dict[int, Losses] = {}

    def hear(self, report: Report) -> Verdict:
        """Compare a trial's best with the others' averages."""
        number, epoch, losses = report.number, report.epoch, report.losses
        before, total = self._sums.get(number, (0, (0.0,) * len(losses)))
        weight = epoch - before
        total = tuple(a + b * weight for a, b in zip(total, losses, strict=True))
        self._sums[number] = epoch, total
        self._best[number] = _elementwise_best(self._best.get(number, losses), losses)
        if _tenths(epoch) == _tenths(before):
            return "continue"
        rung = self._averages.setdefault(_tenths(epoch), Rung())
        others = len(rung)
        better = rung.better_than(self._best[number])
        rung.enter(tuple(value / epoch for value in total))
        if others < self._least or report.progress(self._unit) < self._grace:
            return "continue"
        return "stop" if better > others / 2 else "continue"

    def ended(self, number: int, completed: bool) -> None:
        """Forget the trial; its averages stay."""
        self._sums.pop(number, None)
        self._best.pop(number, None)


class Patience(Judge):
    """Stops a trial that has not improved for a while (Prechelt 1998, section 2.2).

    Args:
        patience: Epochs without improvement.
        least: What counts as an improvement of a loss.
        grace: Progress before which no trial stops.
        unit: What ``grace`` counts.
    """

    def __init__(self, patience: int, least: float, grace: float, unit: Unit) -> None:
        self._patience = patience
        self._least = least
        self._grace = grace
        self._unit = unit
        self._best: dict[int, tuple[Losses, float]] = {}

    def hear(self, report: Report) -> Verdict:
        """Note an improvement, or count the epochs since the last."""
        best, since = self._best.get(report.number, (report.losses, report.epoch))
        # Compared with the last improvement: many small steps are one together.
        better = [new < old - self._least for new, old in zip(report.losses, best, strict=True)]
        if any(better):
            since = report.epoch
            pairs = zip(better, report.losses, best, strict=True)
            best = tuple(new if improved else old for improved, new, old in pairs)
        self._best[report.number] = best, since
        patient = report.epoch - since < self._patience
        early = report.progress(self._unit) < self._grace
        return "continue" if patient or early else "stop"

    def ended(self, number: int, completed: bool) -> None:
        """Forget the trial."""
        self._best.pop(number, None)


class Threshold(Judge):
    """Stops a trial whose loss is above a fixed bound.

    Args:
        worst: The bound.
        grace: Progress before which no trial stops.
        unit: What ``grace`` counts.
    """

    def __init__(self, worst: float, grace: float, unit: Unit) -> None:
        self._worst = worst
        self._grace = grace
        self._unit = unit

    def hear(self, report: Report) -> Verdict:
        """Compare with the bound."""
        early = report.progress(self._unit) < self._grace
        return "continue" if early or report.losses[0] <= self._worst else "stop"


def _tenths(epochs: float) -> int:
    return math.floor(round(10 * epochs, 6))


def _elementwise_best(one: Losses, other: Losses) -> Losses:
    return tuple(min(a, b) for a, b in zip(one, other, strict=True))
