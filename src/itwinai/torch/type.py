"""Types of the training side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from itwinai.errors import ItwinaiError

#: What a data loader yields: usually inputs and targets.
Batch = Any

#: A metric: ``metric(prediction, target)``; torchmetrics objects are exact over batches and ranks.
Metric = Callable[..., Any]


class UninitializedStrategyError(ItwinaiError):
    """A strategy was used before its ``init()``."""


class HookError(ItwinaiError, TypeError):
    """A user's hook returned what nothing can be done with."""


class DistributedStrategyError(ItwinaiError):
    """A strategy cannot do what it was asked to."""


class RankError(DistributedStrategyError):
    """Another rank of a training has failed, is gone, or waits for something else."""
