"""Learning-rate schedules that go on with each optimizer step, over the length of the training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR


@dataclass(frozen=True)
class Length:
    """How long a training is.

    Attributes:
        epochs: Its epochs.
        steps: Optimizer steps of each.
    """

    epochs: int
    steps: int

    def steps_in(self, epochs: float) -> int:
        """Steps of so many epochs, which may be a fraction; at most the whole training's."""
        return min(round(epochs * self.steps), self.epochs * self.steps)


class WarmupCosine(LambdaLR):
    """Rises in a straight line to the optimizer's rate, then falls along half a cosine to 0.

    Loshchilov and Hutter, SGDR (ICLR 2017), eq. 5, without restarts.

    Args:
        optimizer: Whose rate it sets.
        length: The training's.
        warmup_epochs: Epochs of the rise.
    """

    def __init__(self, optimizer: Optimizer, length: Length, warmup_epochs: float) -> None:
        rise = length.steps_in(warmup_epochs)
        fall = max(1, length.epochs * length.steps - rise)

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / (rise + 1)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / fall)))

        super().__init__(optimizer, factor)


class OneCycle(OneCycleLR):
    """PyTorch's one-cycle schedule: up to the optimizer's rate and down to almost 0.

    Smith and Topin, Super-Convergence (2018).

    Args:
        optimizer: Whose rate, and momentum if it has one, it sets.
        length: The training's.
        warmup_epochs: Epochs of the rise; 0: three tenths of all, as PyTorch's default.
    """

    def __init__(self, optimizer: Optimizer, length: Length, warmup_epochs: float) -> None:
        total = length.epochs * length.steps + 1  # one more rate than steps: after the last one
        rise = length.steps_in(warmup_epochs)
        super().__init__(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=total,
            pct_start=min(1.0, (rise + 1) / total) if rise > 0 else 0.3,
            cycle_momentum=bool({"momentum", "betas"} & optimizer.defaults.keys()),
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at a saved step; the length stays this training's."""
        own = {"total_steps", "_schedule_phases"}
        super().load_state_dict({k: v for k, v in state_dict.items() if k not in own})


def goes_by_step(schedule: LRScheduler | None) -> bool:
    """Whether a schedule goes on with each optimizer step, not with each epoch."""
    return isinstance(schedule, WarmupCosine | OneCycle)
