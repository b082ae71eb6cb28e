"""The stages of an epoch: training, validation and test, each over its own data."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from itwinai.errors import ConfigurationError
from itwinai.torch.metrics import EpochMetrics, flatten
from itwinai.torch.training.batches import Step, run_batches
from itwinai.torch.training.protocol import Stage, Training
from itwinai.torch.training.turns import Counting, Turn, take_turns


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
) -> torch.Tensor:
    """Take all batches of a stage's data through its step, and log what they give.

    Args:
        training: Whose step, and whose ``epoch_metrics`` the results go to.
        stage: Which step.
        loader: The data.
        metrics: Adds the batches up.

    Returns:
        The mean loss over all samples and ranks; NaN where there was none.
    """

    def take_turn(turn: Turn) -> None:
        training.turn = turn

    counter, watch = f"{stage}_glob_step", NanWatch()
    step, turns = getattr(training, f"{stage}_step"), _turns(training, stage, loader)
    if stage == "train":
        step = _synchronised_at_last(training, step)
    for index, loss, batch_metrics in run_batches(turns, step, metrics, take_turn):
        watch.see(loss, index + 1)
        glob_step = getattr(training, counter)
        if training.logger is not None:
            for name, value in {"loss": loss, **batch_metrics}.items():
                for part, number in flatten(f"{stage}_{name}", value).items():
                    training.log(number, part, step=glob_step, batch_idx=index)
        setattr(training, counter, glob_step + 1)
    if stage == "train":
        training.first_nan = watch.first
    results = metrics.compute(training.strategy)
    if "loss" not in results and not metrics.batches:
        raise ConfigurationError(
            f"the {stage} set gave no batch: it is empty, or smaller than a batch that drop_last "
            "leaves out"
        )
    for name, value in results.items():
        training.epoch_metrics[f"{stage}_{name}"] = value
        training.log(value, f"{stage}_{name}_epoch", step=training.current_epoch)
    return torch.tensor(results.get("loss", float("nan")))


def _turns(training: Training, stage: Stage, loader: DataLoader[Any]) -> Iterator[tuple[Any, Turn]]:
    counting = Counting(training.samples_in_batch, training.terms_in_loss, training.terms_vary)
    trains = stage == "train"
    window = training.config.gradient_accumulation_steps if trains else 1
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
    """Run a stage on the weights that are kept, without gradients; None without data."""
    if loader is None:
        return None
    training.model.eval()
    training.strategy.share_buffers(training.model)
    with torch.no_grad(), training.optimization.evaluated():
        return run_stage(training, stage, loader, metrics)
