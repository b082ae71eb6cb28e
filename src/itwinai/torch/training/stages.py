"""The stages of an epoch: training, validation and test, each over its own data."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from itwinai.errors import ConfigurationError
from itwinai.torch.metrics import EpochMetrics, flatten
from itwinai.torch.reproducibility import random_numbers_kept
from itwinai.torch.training.batches import Step, run_batches
from itwinai.torch.training.protocol import Stage, Training
from itwinai.torch.training.turns import Counting, Turn, counts_targets, take_turns


class NanWatch:
    """Notes the first step whose loss is not a number, without waiting for a GPU."""

    def __init__(self) -> None:
        self._first: int | torch.Tensor = 0

    def see(self, loss: Any, step: int) -> None:
        """Look at the loss of a step, counted from 1."""
        if loss is None:
            return
        loss = loss.detach() if isinstance(loss, torch.Tensor) else loss
        if isinstance(loss, torch.Tensor) and not loss.is_cpu:
            first = torch.as_tensor(self._first, device=loss.device)
            self._first = torch.where(loss.isnan() & (first == 0), step, first)
        elif self._first == 0 and math.isnan(float(loss)):
            self._first = step

    @property
    def first(self) -> int | None:
        """The step; None if there was none."""
        return int(self._first) or None


def run_stage(
    training: Training, stage: Stage, loader: DataLoader[Any], metrics: EpochMetrics
) -> torch.Tensor | None:
    """Take all batches of a stage's data through its step, and log what they give.

    Args:
        training: Whose step, and whose ``epoch_metrics`` the results go to.
        stage: Which step.
        loader: The data.
        metrics: Adds the batches up.

    Returns:
        The mean loss over all samples and ranks; None where no step returned one.
    """
    where, steps_before = training.whereabouts, training.optimization.steps
    where.hook, watch = f"{stage}_step()", NanWatch()
    for index, loss, batch_metrics in _batches(training, stage, loader, metrics):
        watch.see(loss, index + 1)
        _log_batch(training, stage, index, {"loss": loss, **batch_metrics})
    where.hook, where.batch = f"{stage}_epoch()", 0
    if stage == "train":
        training.first_nan = watch.first
        if training.optimization.steps > steps_before:
            training.config.took_effect("gradient_accumulation_steps")
    results = metrics.compute(training.strategy)
    if "loss" not in results and not metrics.batches:
        raise ConfigurationError(
            f"the {stage} set gave no batch: it is empty, or smaller than a batch that drop_last "
            "leaves out"
        )
    for name, value in results.items():
        training.epoch_metrics[f"{stage}_{name}"] = value
        training.log(value, f"{stage}_{name}_epoch", step=training.current_epoch)
    return torch.tensor(results["loss"]) if "loss" in results else None


def _batches(
    training: Training, stage: Stage, loader: DataLoader[Any], metrics: EpochMetrics
) -> Iterator[tuple[int, Any, Mapping[str, Any]]]:
    def take_turn(turn: Turn) -> None:
        training.turn = turn
        training.whereabouts.batch += 1

    step = getattr(training, f"{stage}_step")
    if stage == "train":
        step = _synchronised_at_last(training, step)
    return run_batches(_turns(training, stage, loader), step, metrics, take_turn)


def _log_batch(training: Training, stage: Stage, index: int, values: Mapping[str, Any]) -> None:
    counter = f"{stage}_glob_step"
    step = getattr(training, counter)
    if training.logger is not None:
        for name, value in values.items():
            for part, number in flatten(f"{stage}_{name}", value).items():
                training.log(number, part, step=step, batch_idx=index)
    setattr(training, counter, step + 1)


def _turns(training: Training, stage: Stage, loader: DataLoader[Any]) -> Iterator[tuple[Any, Turn]]:
    varies = training.overrides("samples_in_batch", "terms_in_loss") or counts_targets(
        training.loss
    )
    counting = Counting(training.samples_in_batch, training.terms_in_loss, varies)
    trains = stage == "train"
    window = training.config.snapshot()["gradient_accumulation_steps"] if trains else 1
    return take_turns(loader, window, counting, training.strategy, weighs=trains)


def _synchronised_at_last(training: Training, step: Step) -> Step:
    """Let the ranks exchange gradients once in an optimizer step, after its last batch."""

    @functools.wraps(step)
    def accumulated(batch: Any, index: int) -> Any:
        if training.turn.is_last:
            return step(batch, index)
        with training.strategy.accumulating(training.model):
            return step(batch, index)

    return accumulated


def evaluate(
    training: Training, stage: Stage, loader: DataLoader[Any] | None, metrics: EpochMetrics
) -> torch.Tensor | None:
    """Run a stage on the weights that are kept, without gradients; None without data.

    A training does not depend on how often it is evaluated, even where that draws random numbers.
    """
    if loader is None:
        return None
    training.model.eval()
    training.strategy.share_buffers(training.model)
    with (
        torch.no_grad(),
        training.optimization.evaluated(),
        random_numbers_kept(training.torch_rng),
    ):
        return run_stage(training, stage, loader, metrics)
