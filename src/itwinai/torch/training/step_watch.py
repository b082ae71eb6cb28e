"""Hearing between the steps of a training what a clock decides, on all ranks alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from itwinai import job
from itwinai.torch.strategies.base import Communicator

#: Seconds between two looks at the clock, and the most steps, for they may become slower.
_PERIOD_S, _MOST_STEPS = 1.0, 100


class Heard(NamedTuple):
    """What the ranks hear at the end of a step."""

    #: That the job ends; this is told once.
    job_ends: bool = False
    #: That a checkpoint is due.
    save: bool = False


class StepWatch:
    """Hears that the job ends or a checkpoint is due, on all ranks at the end of the same step.

    About once a second rank 0 looks and tells the others, in a message that travels during the next
    step: no rank waits for it. With it goes after how many steps it will look again, so that all
    ranks expect the message at the same step, however fast each of them is.

    Args:
        ranks: Who trains together.
        save_every_s: Seconds between two checkpoints; None: none is due.
    """

    def __init__(self, ranks: Communicator, save_every_s: float | None = None) -> None:
        self._ranks = ranks
        self._save_every_s = save_every_s
        self._steps = self._until_look = 1
        self._looked = self._saved = time.monotonic()
        self._told_end = False
        self._message: Callable[[], torch.Tensor] | None = None

    def hear(self) -> Heard:
        """Hear what there is, once at the end of each step."""
        self._until_look -= 1
        if self._message is not None:
            job_ends, save, self._steps = (int(number) for number in self._message().tolist())
            self._message, self._until_look = None, self._steps
            heard = Heard(bool(job_ends) and not self._told_end, bool(save))
            self._told_end |= heard.job_ends
            return heard
        if self._until_look <= 0:
            own = [float(job.stop_requested()), float(self._save_is_due()), self._next_steps()]
            told = own if self._ranks.is_main_worker else [0.0] * len(own)
            self._message = self._ranks.begin_sum(torch.tensor(told))
        return Heard()

    def saved(self) -> None:
        """Count the seconds to the next checkpoint from now on."""
        self._saved = time.monotonic()

    def _save_is_due(self) -> bool:
        every = self._save_every_s
        return every is not None and time.monotonic() - self._saved >= every

    def _next_steps(self) -> float:
        """Steps until the next look, as fast as those since the last one were."""
        now = time.monotonic()
        seconds, self._looked = now - self._looked, now
        fitting = _PERIOD_S * self._steps / max(seconds, 1e-9)
        return float(int(min(max(1.0, fitting), _MOST_STEPS)))
