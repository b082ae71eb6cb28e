"""Population based training: poor members go on as perturbed copies of good ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from itwinai.hpo.objectives import Losses, dominated_by
from itwinai.hpo.schedulers.judge import Judge, Report, Verdict


class Population(Judge):
    """Population based training (Jaderberg et al. 2017, section 4), truncation selection.

    Members train in turns of ``interval`` epochs and pause in between, so that a population may be
    larger than the number of slots. A member that is to go on, but is among the worst share of its
    turn, is replaced: its successor starts from the checkpoint of one of the best share.

    Args:
        interval: Epochs of a turn.
        share: Of the population, what counts as worst, and as best.
        epochs: Epochs of a full training.
        seed: Of the choice among the best.
    """

    def __init__(self, interval: int, share: float, epochs: int, seed: int | None) -> None:
        self._interval = interval
        self._share = share
        self._epochs = epochs
        self._rng = np.random.default_rng(seed)
        self._turns: dict[int, dict[int, Losses]] = {}
        self._paused: dict[int, int] = {}
        self._ended: set[int] = set()
        self._models: dict[int, int] = {}

    @property
    def first_pause(self) -> float:
        """The end of the first turn."""
        return self._interval

    def hear(self, report: Report) -> Verdict:
        """Let a member pause at the end of its turn."""
        if report.epoch % self._interval or report.epoch >= self._epochs:
            return "continue"
        epoch = int(report.epoch)  # a part of one is never a multiple
        self._turns.setdefault(epoch, {})[report.number] = report.losses
        self._paused[report.number] = epoch
        return "pause"

    def began(self, number: int) -> None:
        """Note that a member does not pause any more."""
        self._paused.pop(number, None)

    def ended(self, number: int, completed: bool) -> None:
        """Note that a member has left."""
        self._ended.add(number)
        self._paused.pop(number, None)

    def resume(self, more: bool, running: bool) -> int | None:
        """Once all members have begun, let the one that came least far go on, or be replaced."""
        if more or not self._paused:
            return None
        chosen = min(self._paused, key=lambda number: (self._paused[number], number))
        turn = self._turns[self._paused.pop(chosen)]
        ranked = sorted(turn, key=dict(zip(turn, _ranks(turn.values()), strict=True)).__getitem__)
        count = int(len(ranked) * self._share)
        # A member that has ended may have no checkpoint any more.
        models = [number for number in ranked[:count] if number not in self._ended]
        if models and chosen in ranked[-count:]:
            self._models[chosen] = int(self._rng.choice(models))
        return chosen

    def successor(self, number: int) -> int | None:
        """The good member that a poor one's successor copies, told once."""
        return self._models.pop(number, None)


def _ranks(losses: Iterable[Losses]) -> list[float]:
    """Losses of one objective; of several, how many others are better in all of them."""
    listed = list(losses)
    if len(listed[0]) == 1:
        return [loss for (loss,) in listed]
    return [float(rank) for rank in dominated_by(listed)]
