"""Reports of a training of several processes: rank 0 speaks, all ranks hear the answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from itwinai.reporting import NullReporter, Reporter
from itwinai.torch.strategies.base import TorchDistributedStrategy


def report_as_one(
    reporter: Reporter,
    strategy: TorchDistributedStrategy,
    metrics: Mapping[str, Any],
    checkpoint: Path | None,
) -> bool:
    """Report once for all ranks; return on each whether the training shall end.

    Args:
        reporter: Who hears it, on rank 0.
        strategy: Brings the answer to the other ranks, so that all stop at the same step.
        metrics: Numbers, or tensors of one element.
        checkpoint: The newest checkpoint, or None.
    """
    if isinstance(reporter, NullReporter):
        return False
    stop = False
    if strategy.is_main_worker:
        numbers = {name: _number(value) for name, value in metrics.items()}
        stop = reporter.report(numbers, checkpoint)
    return bool(strategy.broadcast_obj(stop, src_rank=0))


def _number(value: Any) -> float:
    return float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
