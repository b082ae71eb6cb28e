"""Types of the training side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from itwinai.errors import ItwinaiError

#: What a data loader yields: usually inputs and targets.
Batch = Any

#: A metric: ``metric(prediction, target)``; torchmetrics objects are exact over batches and ranks.
Metric = Callable[..., Any]

#: Metrics by name; a torchmetrics ``MetricCollection`` is a ``ModuleDict``.
Metrics = Mapping[str, Metric] | torch.nn.ModuleDict


class UninitializedStrategyError(ItwinaiError):
    """A strategy was used before its ``init()``."""


class HookError(ItwinaiError, TypeError):
    """A user's hook returned what nothing can be done with."""


class DistributedStrategyError(ItwinaiError):
    """A strategy cannot do what it was asked to."""


class RankError(DistributedStrategyError):
    """Another rank of a training has failed, is gone, or waits for something else."""


def described(value: Any) -> str:
    """Say of what kind a value is, for an error's message."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, list | tuple):
        are_tensors = len(value) > 1 and all(isinstance(part, torch.Tensor) for part in value)
        return f"a {type(value).__name__} of {len(value)}{' tensors' if are_tensors else ''}"
    if isinstance(value, torch.Tensor):
        return f"a {'complex ' if value.is_complex() else ''}tensor of shape {tuple(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
