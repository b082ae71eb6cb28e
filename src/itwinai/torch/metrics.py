"""Metrics of an epoch, exact over all samples and all ranks."""

from __future__ import annotations

import copy
import re
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.torch.metric_states import load_states, state_of
from itwinai.torch.strategies.base import TorchDistributedStrategy
from itwinai.torch.type import HookError, Metric, Metrics, described

if TYPE_CHECKING:
    from torchmetrics import Metric as TorchMetric

_EXPECTED = "a number, or a tensor, list or dictionary of numbers"


class EpochMetrics:
    """Adds an epoch of one stage (train, validation, test) up.

    The loss is the mean over what it averages in each batch, on whatever rank. A torchmetrics
    object accumulates its own state, which is brought together over ranks; any other metric is a
    function of one batch, of which the mean over samples is taken.

    Args:
        metrics: By name; each stage works on copies.

    Raises:
        ConfigurationError: If one of them is no metric.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = {name: copy.deepcopy(m) for name, m in metrics_by_name(metrics).items()}
        self._sums: dict[str, float | torch.Tensor] = {}
        self._counts: dict[str, float] = {}
        #: Metrics that accumulate an epoch by themselves, and have seen some of this one.
        self._accumulated: set[str] = set()
        self._names_are_known = False
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
        self._sums, self._counts, self._accumulated = {}, {}, set()
        self.batches = 0
        for metric in self._stateful().values():
            metric.reset()

    def skip_batch(self, skip: bool) -> None:
        """Say whether the coming batch only repeats a sample of another rank's."""
        self._counting = not skip

    def observe(self, target: Any, prediction: Any) -> dict[str, Any]:
        """Add a batch's predictions; return its metrics.

        Raises:
            HookError: If a metric gives what is not one number for each name.
            ConfigurationError: If two metrics give numbers of the same name.
        """
        if not self._counting:
            return {}
        stateful = self._stateful()
        values = {}
        for name, metric in self.metrics.items():
            if name not in stateful:
                values[name] = metric(prediction, target)
            elif _holds_others(stateful[name]):
                # The forward() of some makes the metric within forget the batches before.
                stateful[name].update(prediction, target)
            else:
                values[name] = _of_batch(stateful[name], prediction, target)
        for name, value in values.items():
            if value is None and name not in stateful:
                raise self._error(name, value, "; {} where a batch has none")
            self._check(name, value)
        if not self._names_are_known:
            _check_names(values)
            self._names_are_known = True
        self._accumulated.update(stateful)
        return values

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
        for name, value in {"loss": loss, **batch_metrics}.items():
            if name in self._accumulated:
                continue
            for part, number in flatten(name, value).items():
                # On a GPU, reading a number would wait for all that is to be computed before it.
                precise = number.item() if number.is_cpu else number.double()
                weight = samples if part != "loss" or terms is None else terms
                part_sum = weight * precise if weight else 0.0  # a mean over nothing may be NaN
                self._sums[part] = self._sums.get(part, 0.0) + part_sum
                self._counts[part] = self._counts.get(part, 0) + weight

    def compute(self, strategy: TorchDistributedStrategy) -> dict[str, float]:
        """Return the epoch's loss and metrics; the same on all ranks.

        Raises:
            HookError: If a metric gives what is not one number for each name.
        """
        sums = {name: (float(total), self._counts[name]) for name, total in self._sums.items()}
        loss, count = sums.pop("loss", (0.0, 0))
        own = [loss, float(count), float(bool(sums or self._accumulated))]
        # Each message makes the ranks wait for each other: most trainings need only this one.
        loss, count, more = strategy.sum_over_ranks(torch.tensor(own, dtype=torch.float64)).tolist()
        result = {"loss": _mean(loss, count)} if count or "loss" in self._sums else {}
        if not more:
            return result
        # A rank may have seen no batch of its own, so its names may be fewer than the others'.
        ranks = strategy.allgather_obj((sums, self._accumulated))
        result |= _means([sums for sums, _ in ranks])
        for name in sorted(set().union(*(accumulated for _, accumulated in ranks))):
            result |= self._value_of_epoch(name)
        return result

    @property
    def of_steps(self) -> list[str]:
        """What the steps of this epoch found by themselves, of which the mean is taken."""
        known = ("loss", *self.metrics)
        parts = tuple(f"{name}_" for name in self.metrics)
        return [n for n in self._sums if n not in known and not n.startswith(parts)]

    def state_dict(self) -> dict[str, Any]:
        """What this rank has added up of a running epoch, as plain values and tensors."""
        accumulated = {name: state_of(self._stateful()[name]) for name in sorted(self._accumulated)}
        sums = {name: float(total) for name, total in self._sums.items()}
        return {
            "sums": sums,
            "counts": dict(self._counts),
            "accumulated": accumulated,
            "batches": self.batches,
        }

    def load_state_dicts(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on adding up where one or several ranks have stopped."""
        self.reset()
        for state in states:
            self.batches += state["batches"]
            for name, total in state["sums"].items():
                self._sums[name] = self._sums.get(name, 0.0) + total
                self._counts[name] = self._counts.get(name, 0) + state["counts"][name]
        for name, metric in self._stateful().items():
            ranks = [s["accumulated"][name] for s in states if name in s["accumulated"]]
            if ranks:
                self._accumulated.add(name)
                load_states(name, metric, ranks)

    def _value_of_epoch(self, name: str) -> dict[str, float]:
        with warnings.catch_warnings():
            # A rank without a batch, and torchmetrics' wrappers, were not updated themselves.
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
            value = self._stateful()[name].compute()
        self._check(name, value)
        return {part: float(number) for part, number in flatten(name, value).items()}

    def _check(self, name: str, value: Any) -> None:
        if not is_numbers(value):
            raise self._error(name, value)

    def _error(self, name: str, value: Any, hint: str = "") -> HookError:
        kind = getattr(self.metrics[name], "__name__", type(self.metrics[name]).__name__)
        came = described(value)
        if isinstance(value, Mapping):
            key = next(key for key, part in value.items() if not is_numbers(part))
            came += f" whose {key!r} is {described(value[key])}"
        return HookError(f"metrics: {name!r} ({kind}) gave {came}; expected {_EXPECTED}{hint}")

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
        means[name] = _mean(sum(total for total, _ in own), sum(count for _, count in own))
    return means


def _mean(total: float, count: float) -> float:
    if not count:
        raise HookError(
            "nothing counts in any batch of an epoch: all targets are ignored, or terms_in_loss() "
            "or samples_in_batch() returned 0 for each"
        )
    return total / count


def _of_batch(metric: TorchMetric, prediction: Any, target: Any) -> Any:
    """Let a torchmetrics object see a batch.

    Returns:
        Its value for the batch; None where it has none for so few samples, as R2 for a single one.
    """
    compute = metric.compute

    def attempt() -> Any:
        with suppress(ValueError, RuntimeError):  # an epoch without a value raises them
            return compute()

    metric.compute = attempt
    try:
        return metric(prediction, target)
    finally:
        metric.compute = compute


def _holds_others(metric: TorchMetric) -> bool:
    """Whether a torchmetrics object wraps others."""
    from torchmetrics import Metric as TorchMetric

    return any(isinstance(p, TorchMetric) for p in metric.modules() if p is not metric)


def metrics_by_name(metrics: Metrics | None) -> dict[str, Metric]:
    """Return all metrics, those of a collection each under a name of its own.

    Raises:
        ConfigurationError: If one of them is no metric.
    """
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping | torch.nn.ModuleDict):
        raise ConfigurationError(
            f"metrics: {described(metrics)}; expected a dictionary of metrics by name, or a "
            "MetricCollection"
        )
    found: dict[str, Metric] = {}
    for name, metric in metrics.items():
        if isinstance(metric, Mapping | torch.nn.ModuleDict):
            members = metrics_by_name(metric)
            found |= {f"{name}_{member}": one for member, one in members.items()}
        elif isinstance(metric, type) or not callable(metric):
            raise ConfigurationError(
                f"metrics: {name!r} is {described(metric)}; expected a torchmetrics object or a "
                "function metric(prediction, target)"
            )
        else:
            found[str(name)] = metric
    _refuse_taken_names(found)
    return found


def _refuse_taken_names(names: Mapping[str, Metric]) -> None:
    if "loss" in names:
        raise ConfigurationError("metrics: 'loss' is the name of the loss; take another one")
    for name in names:
        base = re.sub("_(epoch|step)$", "", name)
        if base != name and base in (*names, "loss"):
            raise ConfigurationError(
                f"metrics: {name!r} is the name under which {base!r} is logged; take another one"
            )


#: Words in the names of metrics that are no mean over samples.
_NO_MEAN = {"f1", "fbeta", "precision", "recall", "auc", "auroc", "r2", "rmse", "iou", "dice"}


def warn_of_means(metrics: Mapping[str, Metric]) -> None:
    """Say which metrics are functions of a batch, although no mean over batches is what they name.

    Args:
        metrics: By name.
    """
    for name, metric in metrics.items():
        if hasattr(metric, "update") or not names_no_mean(name):
            continue
        itwinai.logger.warning(
            "warning: metrics.%s is a function, of which the mean over batches is taken; %s",
            name,
            OTHER_THAN_MEAN,
        )


#: What is said where a mean is taken of what is none.
OTHER_THAN_MEAN = (
    "of an F1, AUC or R2 that is another number than over all samples. An object of torchmetrics "
    "is exact."
)


def names_no_mean(name: str) -> bool:
    """Whether a name is one of metrics that are no mean over samples."""
    return bool(_NO_MEAN & set(re.split(r"[^a-z0-9]+", name.lower())))


def is_number(value: Any) -> bool:
    """Whether a value is one real number."""
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and _is_real(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.size == 1 and _is_real(value)
    return isinstance(value, int | float)


def is_numbers(value: Any) -> bool:
    """Whether a metric's value is made of numbers, each of which can have a name.

    Tensors within a list have one element each: with several they are a curve, which is as long as
    it happens to be.
    """
    if isinstance(value, Mapping):
        return all(map(is_numbers, value.values()))
    if isinstance(value, list | tuple):
        return all(is_numbers(p) if isinstance(p, list | tuple) else is_number(p) for p in value)
    if isinstance(value, torch.Tensor | np.ndarray):
        return _is_real(value)
    return value is None or is_number(value)


def _is_real(value: torch.Tensor | np.ndarray[Any, Any] | np.generic) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_complex()
    return value.dtype.kind in "biuf"


def flatten(name: str, value: Any) -> dict[str, torch.Tensor]:
    """One number per metric.

    A vector (per class, say) becomes ``name_0``, ``name_1``, ..., and a dictionary ``name_key``.
    """
    if isinstance(value, torch.Tensor) and value.dim() == 0:
        return {name: value.detach()}
    if value is None:
        return {}
    if isinstance(value, Mapping):
        parts = (flatten(f"{name}_{key}", part) for key, part in value.items())
        return {key: number for part in parts for key, number in part.items()}
    numbers = _row(value)
    if len(numbers) == 1:
        return {name: numbers[0]}
    return {f"{name}_{index}": number for index, number in enumerate(numbers)}


def _row(value: Any) -> Sequence[torch.Tensor]:
    if isinstance(value, list | tuple):
        return [number for part in value for number in _row(part)]
    # PyTorch would keep seven digits of one of Python's numbers, or fewer.
    precision = torch.float64 if isinstance(value, float) else None
    return list(torch.as_tensor(value, dtype=precision).detach().flatten())


def _check_names(values: Mapping[str, Any]) -> None:
    """Refuse metrics of which one's numbers would be lost behind another's of the same name."""
    counts = Counter(part for name, value in values.items() for part in flatten(name, value))
    twice = [part for part, count in counts.items() if count > 1]
    if twice:
        raise ConfigurationError(
            f"metrics: two of them give a number of the name {twice[0]!r}; rename one"
        )
