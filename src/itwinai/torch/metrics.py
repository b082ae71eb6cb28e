"""Metrics of an epoch, exact over all samples and all ranks."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from itwinai.torch.strategies.base import TorchDistributedStrategy
from itwinai.torch.type import Metric

if TYPE_CHECKING:
    from torchmetrics import Metric as TorchMetric


class EpochMetrics:
    """Adds an epoch of one stage (train, validation, test) up.

    The loss is the mean over what it averages in each batch, on whatever rank. A torchmetrics
    object accumulates its own state, which is brought together over ranks; any other metric is a
    function of one batch, of which the mean over samples is taken.

    Args:
        metrics: By name; each stage works on copies.
    """

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self.metrics = {name: copy.deepcopy(metric) for name, metric in metrics.items()}
        self._sums: dict[str, float | torch.Tensor] = {}
        self._counts: dict[str, float] = {}
        self._counting = True
        #: Batches of this epoch on this rank.
        self.batches = 0

    def to(self, device: str) -> None:
        """Move the metrics' states to a device."""
        for metric in self.metrics.values():
            if isinstance(metric, torch.nn.Module):
                metric.to(device)

    def reset(self) -> None:
        """Begin an epoch."""
        self._sums, self._counts = {}, {}
        self.batches = 0
        for metric in self._stateful().values():
            metric.reset()

    def skip_batch(self, skip: bool) -> None:
        """Say whether the coming batch only repeats a sample of another rank's."""
        self._counting = not skip

    def observe(self, target: Any, prediction: Any) -> dict[str, Any]:
        """Add a batch's predictions; return its metrics."""
        if not self._counting:
            return {}
        return {name: metric(prediction, target) for name, metric in self.metrics.items()}

    def add(
        self,
        loss: Any,
        batch_metrics: Mapping[str, Any],
        samples: int,
        terms: float | None = None,
    ) -> None:
        """Add a batch's loss, and those of its metrics that did not accumulate by themselves.

        Args:
            loss: A mean over ``terms``.
            batch_metrics: By name.
            samples: Samples of the batch.
            terms: What the loss is a mean over; None: the samples.
        """
        self.batches += 1
        if not self._counting:
            return
        stateful = self._stateful() if self.metrics else {}
        accumulated = {name for name, metric in stateful.items() if metric.update_called}
        for name, value in {"loss": loss, **batch_metrics}.items():
            if name in accumulated:
                continue
            for part, number in flatten(name, value).items():
                # On a GPU, reading a number would wait for all that is to be computed before it.
                precise = number.item() if number.is_cpu else number.double()
                weight = samples if part != "loss" or terms is None else terms
                self._sums[part] = self._sums.get(part, 0.0) + weight * precise
                self._counts[part] = self._counts.get(part, 0) + weight

    def compute(self, strategy: TorchDistributedStrategy) -> dict[str, float]:
        """Return the epoch's loss and metrics; the same on all ranks."""
        stateful = self._stateful()
        updated = [name for name, metric in stateful.items() if metric.update_called]
        sums = {name: (float(total), self._counts[name]) for name, total in self._sums.items()}
        loss, count = sums.pop("loss", (0.0, 0))
        own = [loss, float(count), float(bool(sums or updated))]
        # Each message makes the ranks wait for each other: most trainings need only this one.
        loss, count, more = strategy.sum_over_ranks(torch.tensor(own, dtype=torch.float64)).tolist()
        result = {"loss": loss / count} if count else {}
        if not more:
            return result
        # A rank may have seen no batch of its own, so its names may be fewer than the others'.
        ranks = strategy.allgather_obj((sums, updated))
        result |= _means([sums for sums, _ in ranks])
        for name in sorted(set().union(*(updated for _, updated in ranks))):
            values = flatten(name, stateful[name].compute())
            result |= {part: number.item() for part, number in values.items()}
        return result

    def _stateful(self) -> dict[str, TorchMetric]:
        # Its import takes as long as torch's, so only those pay who have such a metric.
        if "torchmetrics" not in sys.modules:
            return {}
        from torchmetrics import Metric as TorchMetric

        return {n: metric for n, metric in self.metrics.items() if isinstance(metric, TorchMetric)}


def _means(ranks: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """Means over the samples of all ranks, from each rank's sums and counts."""
    means = {}
    for name in sorted(set().union(*ranks)):
        own = [rank[name] for rank in ranks if name in rank]
        means[name] = sum(total for total, _ in own) / sum(count for _, count in own)
    return means


def flatten(name: str, value: Any) -> dict[str, torch.Tensor]:
    """One number per metric.

    A vector (per class, say) becomes ``name_0``, ``name_1``, ..., and a dictionary ``name_key``.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        parts = (flatten(f"{name}_{key}", part) for key, part in value.items())
        return {key: number for part in parts for key, number in part.items()}
    if isinstance(value, torch.Tensor) and value.dim() == 0:
        return {name: value.detach()}
    numbers = torch.as_tensor(value).detach().flatten()
    if len(numbers) == 1:
        return {name: numbers[0]}
    return {f"{name}_{index}": number for index, number in enumerate(numbers)}
