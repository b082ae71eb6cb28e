"""Hearing between the steps of a training that its batch job ends."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from itwinai import job
from itwinai.torch.strategies.base import Communicator

#: Seconds between two looks whether the job ends, and the most steps, for they may become slower.
_PERIOD_S, _MOST_STEPS = 1.0, 100


class JobWatch:
    """Hears that the job ends, on all ranks at the end of the same step.

    About once a second rank 0 looks and tells the others, in a message that travels during the next
    step: no rank waits for it. With it goes after how many steps it will look again, so that all
    ranks expect the message at the same step, however fast each of them is.

    Args:
        ranks: Who trains together.
    """

    def __init__(self, ranks: Communicator) -> None:
        self._ranks = ranks
        self._steps = self._until_look = 1
        self._looked = time.monotonic()
        self._message: Callable[[], torch.Tensor] | None = None

    def hears_end(self) -> bool:
        """Whether the job ends, asked once at the end of each step."""
        self._until_look -= 1
        if self._message is not None:
            ends, self._steps = (int(number) for number in self._message().tolist())
            self._message, self._until_look = None, self._steps
            return bool(ends)
        if self._until_look <= 0:
            own = [float(job.stop_requested()), float(self._next_steps())]
            told = own if self._ranks.is_main_worker else [0.0, 0.0]
            self._message = self._ranks.begin_sum(torch.tensor(told))
        return False

    def _next_steps(self) -> int:
        """Steps until the next look, as fast as those since the last one were."""
        now = time.monotonic()
        seconds, self._looked = now - self._looked, now
        fitting = _PERIOD_S * self._steps / max(seconds, 1e-9)
        return int(min(max(1.0, fitting), _MOST_STEPS))
