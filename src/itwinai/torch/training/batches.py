"""The loop over the batches of one stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from itwinai.torch.data import batch_share, samples_in, with_last
from itwinai.torch.metrics import EpochMetrics

Step = Callable[[Any, int], tuple[Any, dict[str, Any]]]


@dataclass(frozen=True)
class Turn:
    """The place of a batch in its optimizer step.

    Attributes:
        share: Weight of its loss; 1 for a full batch that makes a step alone.
        is_last: Whether the step is made after it.
    """

    share: float = 1.0
    is_last: bool = True


def run_batches(
    loader: DataLoader[Any],
    step: Step,
    metrics: EpochMetrics,
    take_turn: Callable[[Turn], None],
    window: int = 1,
) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """Run one epoch's batches of a stage, adding their loss and metrics up.

    Args:
        loader: The data.
        step: Trains or evaluates on a batch; returns its loss and metrics.
        metrics: Adds them up.
        take_turn: Told the place of the coming batch.
        window: Batches whose gradients make one optimizer step.

    Yields:
        Index, loss and metrics of each batch.
    """
    metrics.reset()
    for index, (batch, is_last) in enumerate(with_last(loader, window)):
        share = batch_share(loader, index, window)
        take_turn(Turn(share, is_last))
        metrics.skip_batch(share == 0)
        loss, batch_metrics = step(batch, index)
        metrics.add(loss, batch_metrics, samples_in(batch))
        yield index, loss, batch_metrics
