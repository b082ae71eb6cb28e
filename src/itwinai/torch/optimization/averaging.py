"""An exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from itwinai.errors import ConfigurationError


class WeightAverage:
    """Follows a model's parameters: ``average = decay * average + (1 - decay) * weights``.

    Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992). Buffers, such
    as the statistics of a batch normalisation, are not averaged.

    Args:
        model: The model, whose parameters keep their place in memory.
        decay: Share of the average that a step keeps.

    Raises:
        ConfigurationError: If the model is in parts that are gathered for each layer anew.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._weights = [p for p in model.parameters() if p.requires_grad]
        if any(hasattr(weight, "ds_id") for weight in self._weights):
            raise ConfigurationError(
                "config.ema_decay: DeepSpeed's ZeRO stage 3 keeps no weights to average. "
                "Use stage 0, 1 or 2, or another strategy."
            )
        self._decay = decay
        self._average = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after an optimizer step into the average."""
        for average, weight in zip(self._average, self._weights, strict=True):
            average.lerp_(weight.detach().to(average.dtype), 1 - self._decay)

    @torch.no_grad()
    def exchange(self) -> None:
        """Put the averaged weights in the model's place, and the model's in theirs."""
        for average, weight in zip(self._average, self._weights, strict=True):
            kept = weight.detach().clone()
            weight.copy_(average)
            average.copy_(kept)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights for the length of a block."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def restart(self) -> None:
        """Take the model's present weights as the average."""
        for average, weight in zip(self._average, self._weights, strict=True):
            average.copy_(weight.detach())
