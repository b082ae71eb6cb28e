"""From the loss of a batch to an optimizer step."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.optimization.averaging import WeightAverage
from itwinai.torch.optimization.schedules import goes_by_step
from itwinai.torch.strategies.base import TorchDistributedStrategy

_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Optimization:
    """Mixed precision, accumulation and clipping of gradients, and the average of the weights.

    All of it means the same under every strategy.

    Args:
        config: The training's configuration.
        strategy: How the processes work together.
        model: The user's model, without wrapper.
    """

    def __init__(
        self, config: TrainingConfiguration, strategy: TorchDistributedStrategy, model: nn.Module
    ) -> None:
        self._config = config
        self._strategy = strategy
        values = config.snapshot()  # a key counts as read once it has an effect
        self._format = _FORMATS.get(values["precision"])
        self._max_norm = values["gradient_clipping"]
        self._device = strategy.device().split(":")[0]
        scales = values["precision"] == "fp16" and not strategy.scales_loss
        self._scaler = torch.amp.GradScaler(self._device, enabled=scales)
        decay = values["ema_decay"]
        self._begins, self._casts = True, False
        self._is_told = False
        #: Optimizer steps made.
        self.steps = 0
        self.average = None if decay is None else WeightAverage(model, decay)

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of a forward pass."""
        if not self._casts and torch.is_grad_enabled():
            self._casts = True
            self._config.took_effect("precision")
        if self._format is None:
            return nullcontext()
        return torch.autocast(self._device, dtype=self._format)

    def add(
        self,
        loss: torch.Tensor,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: LRScheduler | None,
        is_last: bool,
    ) -> None:
        """Add the gradients of a batch; after the last one of a step, make the step.

        Args:
            loss: The batch's, weighted by its share in the step.
            model: As the strategy wrapped it.
            optimizer: As the strategy wrapped it.
            schedule: Goes on after the step, unless it goes by epochs.
            is_last: Whether the step is to be made.
        """
        if self._begins:
            optimizer.zero_grad()
        self._begins = is_last
        scaled = self._scaler.scale(loss)
        if not is_last:
            with self._strategy.accumulating(model):
                self._strategy.backward(scaled, model)
            return
        self._strategy.backward(scaled, model)
        self._step(model, optimizer)
        if schedule is not None and goes_by_step(schedule):
            schedule.step()

    def end_window(self) -> bool:
        """Leave gradients out that no step was made of; return whether there were any."""
        left, self._begins = not self._begins, True
        return left

    def has_overflown(self) -> bool:
        """Whether gradients overflow without any loss scaling, so that no step is made; said once.

        On a GPU this waits for all steps.
        """
        if self._is_told or not self._scaler.is_enabled() or self._scaler.get_scale() >= 1:
            return False
        self._is_told = True
        return True

    def evaluated(self) -> AbstractContextManager[None]:
        """Context in which the model has the weights to evaluate and to keep."""
        return nullcontext() if self.average is None else self.average.applied()

    def trained(self) -> AbstractContextManager[None]:
        """Context in which the model has the weights to train on, also within an evaluation."""
        return nullcontext() if self.average is None else self.average.lifted()

    def state_dict(self) -> dict[str, Any]:
        """State of the loss scaling."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a saved scale."""
        if self._scaler.is_enabled() and state:
            self._scaler.load_state_dict(state)

    def _step(self, model: nn.Module, optimizer: Optimizer) -> None:
        if self.steps == 0:
            self._config.took_effect("gradient_clipping", "ema_decay")
        self.steps += 1
        if self._max_norm is not None:
            self._scaler.unscale_(optimizer)
            self._strategy.clip_gradients(model, self._max_norm)
        self._scaler.step(optimizer)
        self._scaler.update()
        if self.average is not None:
            self.average.update()
