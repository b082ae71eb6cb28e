"""The loop over the batches of one stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from itwinai.torch.metrics import EpochMetrics, is_number, is_numbers
from itwinai.torch.training.turns import Turn
from itwinai.torch.type import HookError, described

Step = Callable[[Any, int], tuple[Any, Mapping[str, Any]]]


def run_batches(
    turns: Iterable[tuple[Any, Turn]],
    step: Step,
    metrics: EpochMetrics,
    take_turn: Callable[[Turn], None],
    first: int = 0,
) -> Iterator[tuple[int, Any, Mapping[str, Any]]]:
    """Run one epoch's batches of a stage, adding their loss and metrics up.

    Args:
        turns: The batches with their turns.
        step: Trains or evaluates on a batch; returns its loss and metrics.
        metrics: Adds them up.
        take_turn: Told the turn of the coming batch.
        first: Index of the first one.

    Yields:
        Index, loss (None where it is a mean over nothing) and metrics of each batch.

    Raises:
        HookError: If the step, or the count, returned something else.
    """
    for index, (batch, turn) in enumerate(turns, first):
        take_turn(turn)
        metrics.skip_batch(turn.repeats)
        loss, batch_metrics = _checked(step, step(batch, index))
        metrics.add(loss, batch_metrics, turn.samples, turn.terms)
        yield index, loss if turn.terms or turn.repeats else None, batch_metrics


def _checked(step: Step, returned: Any) -> tuple[Any, Mapping[str, Any]]:
    """Refuse what is not a loss and a dictionary of metrics, naming the hook."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        expected = "; expected its loss and a dictionary of metrics, as in 'return loss, {}'"
        raise _returned(step, returned, expected)
    loss, metrics = returned
    if not (loss is None or is_number(loss)):
        raise _returned(step, loss, " as its loss; expected one number")
    if not isinstance(metrics, Mapping):
        raise _returned(step, metrics, " as its metrics; expected a dictionary")
    for key, value in metrics.items():
        if not is_numbers(value):
            raise _returned(step, value, f" as its metric {key!r}; expected numbers")
    if "loss" not in metrics:
        return loss, metrics
    if not _is_same(metrics["loss"], loss):
        complaint = " as its metric 'loss', another than its loss; give it another name"
        raise _returned(step, metrics["loss"], complaint)
    return loss, {key: value for key, value in metrics.items() if key != "loss"}


def _is_same(metric: Any, loss: Any) -> bool:
    if is_number(metric) and is_number(loss):
        one, other = _plain(metric), _plain(loss)
        return one == other or (math.isnan(one) and math.isnan(other))
    return metric is loss


def _plain(number: Any) -> float:
    return float(number.detach() if isinstance(number, torch.Tensor) else number)


def _returned(step: Step, value: Any, complaint: str) -> HookError:
    name = getattr(step, "__name__", "the step")
    return HookError(f"{name}() returned {described(value)}{complaint}")
