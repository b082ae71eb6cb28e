"""Learning-rate schedules that go on with each optimizer step, over the length of the training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CyclicLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
)

#: What schedules call the number of their own steps until something has happened.
_SPANS = ("T_max", "T_0", "total_iters", "step_size")


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
        self.epochs, self.steps_per_epoch = length.epochs, length.steps
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
        self.epochs, self.steps_per_epoch = length.epochs, length.steps
        total = length.epochs * length.steps + 1  # one more rate than steps: after the last one
        rise = length.steps_in(warmup_epochs)
        super().__init__(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=total,
            pct_start=min(1.0, (rise + 1) / total) if rise > 0 else 0.3,
            cycle_momentum=bool({"momentum", "betas"} & optimizer.defaults.keys()),
        )


def goes_by_step(schedule: LRScheduler | None) -> TypeGuard[WarmupCosine | OneCycle]:
    """Whether a schedule goes on with each optimizer step, not with each epoch."""
    return isinstance(schedule, WarmupCosine | OneCycle)


def stands(schedule: Any) -> tuple[Any, int | None]:
    """The schedule, and the number of its steps, if it says how many."""
    return schedule, getattr(schedule, "last_epoch", None)


def seems_by_step(schedule: Any, epochs: int) -> bool:
    """Whether one of PyTorch's schedules is meant for steps, as far as that shows.

    Args:
        schedule: The schedule.
        epochs: Of the training; one that is meant for them has about as many to go.
    """
    if isinstance(schedule, OneCycleLR | CyclicLR):
        return True
    is_known = isinstance(schedule, LRScheduler)
    return is_known and max(_spans(schedule.state_dict()), default=0) > 2 * epochs


def _spans(state: Mapping[str, Any]) -> Iterator[int]:
    """Steps that a schedule, or those that it is made of, have to go."""
    yield from (state[name] for name in _SPANS if isinstance(state.get(name), int))
    yield from state.get("milestones", ())
    for inner in state.get("_schedulers", ()):
        yield from _spans(inner)


def stand_after(schedule: LRScheduler, epochs: int, steps_left: int | None = None) -> None:
    """Let a schedule stand where it stands after so many epochs of this training.

    However many steps those epochs had: they may have been trained with other ranks, batches or
    data. A schedule that waits for a loss to fall stays where it is.

    Args:
        schedule: The schedule.
        epochs: Those that have ended.
        steps_left: Steps that are left of the next one; None: that has not begun.
    """
    if isinstance(schedule, ReduceLROnPlateau):
        return
    with warnings.catch_warnings():
        # No step of the optimizer goes before these.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        if goes_by_step(schedule):
            # What these set depends on the number of the step alone.
            begun = 0 if steps_left is None else schedule.steps_per_epoch - steps_left
            schedule._step_count = epochs * schedule.steps_per_epoch + begun
            schedule.last_epoch = schedule._step_count - 1
            schedule.step()
        else:
            for _ in range(epochs):
                schedule.step()
