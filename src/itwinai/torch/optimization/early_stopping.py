"""Ending a training whose validation loss no longer falls."""

from __future__ import annotations

import math
from typing import Any


class EarlyStopping:
    """Counts the epochs since the loss last fell.

    Prechelt, Early stopping - but when? (1998), criterion UP with strips of one epoch.

    Args:
        patience: Epochs without a better loss after which to end; None: never.
        min_delta: What the loss must fall by to be better.
    """

    def __init__(self, patience: int | None, min_delta: float = 0.0) -> None:
        self._patience = patience
        self._min_delta = min_delta
        self.restart()

    @property
    def is_due(self) -> bool:
        """Whether the training shall end."""
        return self._patience is not None and self._waited >= self._patience

    def restart(self) -> None:
        """Forget all losses so far."""
        self._best, self._waited = math.inf, 0

    def observe(self, loss: float | None) -> bool:
        """Hear the validation loss of an epoch; None: there was no validation.

        Returns:
            Whether it is not a number, and so is no better one.
        """
        if loss is None:
            return False
        if loss < self._best - self._min_delta:
            self._best, self._waited = loss, 0
        else:
            self._waited += 1
        return math.isnan(loss)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to go on counting."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self._best, self._waited = state["best"], state["waited"]
