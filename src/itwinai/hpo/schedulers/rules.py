"""Schedulers with a rule of their own instead of rungs."""

from __future__ import annotations

from itwinai.hpo.objectives import Losses
from itwinai.hpo.schedulers.judge import Judge, Report, Unit, Verdict
from itwinai.hpo.schedulers.rungs import Rung


class Median(Judge):
    """Median stopping rule (Golovin et al. 2017, section 3.2.1).

    A trial stops whose best loss so far is worse than the median of the others' running averages up
    to the same epoch.

    Args:
        grace: Progress before which no trial stops.
        least: Other trials that must have come as far.
        unit: What ``grace`` counts.
    """

    def __init__(self, grace: float, least: int, unit: Unit = "epochs") -> None:
        self._grace = grace
        self._least = least
        self._unit = unit
        self._averages: dict[int, Rung] = {}
        self._sums: dict[int, Losses] = {}
        self._best: dict[int, Losses] = {}

    def hear(self, report: Report) -> Verdict:
        """Compare a trial's best with the others' averages."""
        number, epoch, losses = report.number, report.epoch, report.losses
        total = self._sums.get(number, (0.0,) * len(losses))
        self._sums[number] = tuple(a + b for a, b in zip(total, losses, strict=True))
        self._best[number] = _elementwise_best(self._best.get(number, losses), losses)
        rung = self._averages.setdefault(epoch, Rung())
        others = len(rung)
        better = rung.better_than(self._best[number])
        rung.enter(tuple(value / epoch for value in self._sums[number]))
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
        self._best: dict[int, tuple[Losses, int]] = {}

    def hear(self, report: Report) -> Verdict:
        """Note an improvement, or count the epochs since the last."""
        best, since = self._best.get(report.number, (report.losses, report.epoch))
        if any(new < old - self._least for new, old in zip(report.losses, best, strict=True)):
            since = report.epoch
        self._best[report.number] = _elementwise_best(best, report.losses), since
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


def _elementwise_best(one: Losses, other: Losses) -> Losses:
    return tuple(min(a, b) for a, b in zip(one, other, strict=True))
