"""An exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from itwinai.errors import ConfigurationError


class WeightAverage:
    """Follows a model's parameters: ``average = decay * average + (1 - decay) * weights``.

    Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992). Buffers, such
    as the statistics of a batch normalisation, are not averaged; nor are frozen weights, whose
    average begins with the first step that may change them, and that of a lazy layer's after its
    first step. The average has single precision at least: the share of a step would be lost in that
    of 16-bit weights. Checkpoints hold it in the weights' own format.

    Args:
        model: The model, whose parameters keep their place in memory.
        decay: Share of the average that a step keeps.

    Raises:
        ConfigurationError: If the model is in parts that are gathered for each layer anew.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._weights = list(model.parameters())
        if any(hasattr(weight, "ds_id") for weight in self._weights):
            raise ConfigurationError(
                "config.ema_decay: DeepSpeed's ZeRO stage 3 keeps no weights to average. "
                "Use stage 0, 1 or 2, or another strategy."
            )
        self._decay = decay
        #: By index; of the weights that are, or were, trained.
        self._average: dict[int, torch.Tensor] = {}
        #: The model's own weights while it has the averaged ones, where those would not hold these.
        self._aside: dict[int, torch.Tensor] = {}
        self._is_applied = False
        self._follow_unfrozen()

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after an optimizer step into the average."""
        self._follow_unfrozen()
        for _, average, weight in self._pairs():
            average.lerp_(weight.detach().to(average.dtype), 1 - self._decay)

    @torch.no_grad()
    def exchange(self) -> None:
        """Put the averaged weights in the model's place, and the model's in theirs."""
        for index, average, weight in self._pairs():
            if index in self._aside:
                weight.copy_(self._aside.pop(index))
                continue
            kept = weight.detach().clone()
            weight.copy_(average)
            if average.dtype == weight.dtype:
                average.copy_(kept)
            else:
                self._aside[index] = kept

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights for the length of a block, and of those within."""
        if self._is_applied:
            yield
            return
        self.exchange()
        self._is_applied = True
        try:
            yield
        finally:
            self._is_applied = False
            self.exchange()

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Give the model its own weights for a block, also within one of the averaged ones."""
        if not self._is_applied:
            yield
            return
        self.exchange()
        self._is_applied = False
        try:
            yield
        finally:
            self._is_applied = True
            self.exchange()

    @torch.no_grad()
    def restart(self) -> None:
        """Take the model's present weights as the average."""
        self._follow_unfrozen()
        for _, average, weight in self._pairs():
            average.copy_(weight.detach())

    def _follow_unfrozen(self) -> None:
        for index, weight in enumerate(self._weights):
            if weight.requires_grad and index not in self._average and not is_lazy(weight):
                precision = torch.promote_types(weight.dtype, torch.float32)
                self._average[index] = weight.detach().to(precision, copy=True)

    def _pairs(self) -> Iterator[tuple[int, torch.Tensor, nn.Parameter]]:
        return ((i, average, self._weights[i]) for i, average in self._average.items())
