"""Population based training: poor members go on as perturbed copies of good ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from itwinai.hpo.schedulers.judge import Judge, Report, Verdict
from itwinai.hpo.schedulers.rungs import Rung


class Population(Judge):
    """Population based training (Jaderberg et al. 2017, section 4), truncation selection.

    Members train in turns of ``interval`` epochs and pause in between, so that a population may be
    larger than the number of slots. After a turn a member of the worst share is stopped; its
    successor starts from the checkpoint of one of the best share.

    Args:
        interval: Epochs of a turn.
        share: Of the population, what counts as worst, and as best.
        epochs: Epochs of a full training.
        seed: Of the choice among the best.
    """

    pauses: ClassVar[bool] = True

    def __init__(self, interval: int, share: float, epochs: int, seed: int | None) -> None:
        self._interval = interval
        self._share = share
        self._epochs = epochs
        self._rng = np.random.default_rng(seed)
        self._turns: dict[int, _Turn] = {}
        self._paused: dict[int, int] = {}
        self._models: dict[int, int] = {}

    def hear(self, report: Report) -> Verdict:
        """At the end of a turn, stop a poor member and let the others pause."""
        if report.epoch % self._interval or report.epoch >= self._epochs:
            return "continue"
        turn = self._turns.setdefault(report.epoch, _Turn())
        best = turn.best(self._share)
        if turn.is_poor(report, self._share) and best:
            self._models[report.number] = int(self._rng.choice(best))
            return "stop"
        self._paused[report.number] = report.epoch
        return "pause"

    def ended(self, number: int, completed: bool) -> None:
        """Forget a member that left while it paused."""
        self._paused.pop(number, None)

    def resume(self, more: bool, running: bool) -> int | None:
        """Once all members have begun, let the one that came least far go on."""
        if more or not self._paused:
            return None
        chosen = min(self._paused, key=lambda number: (self._paused[number], number))
        del self._paused[chosen]
        return chosen

    def successor(self, number: int) -> int | None:
        """The good member that a stopped one's successor copies."""
        return self._models.get(number)


class _Turn:
    """The members that ended a turn."""

    def __init__(self) -> None:
        self._rung = Rung()
        self._members: list[tuple[tuple[float, ...], int]] = []

    def best(self, share: float) -> list[int]:
        count = int(len(self._members) * share)
        ranked = sorted(self._members, key=lambda member: self._rung.better_than(member[0]))
        return [number for _, number in ranked[:count]]

    def is_poor(self, report: Report, share: float) -> bool:
        better = self._rung.enter(report.losses)
        self._members.append((report.losses, report.number))
        return better >= len(self._members) * (1 - share)
