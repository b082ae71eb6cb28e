"""The stages of an epoch: training, validation and test, each over its own data."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from itwinai.torch.metrics import EpochMetrics, flatten
from itwinai.torch.training.batches import Turn, run_batches
from itwinai.torch.training.protocol import Stage, Training


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

    step, counter = getattr(training, f"{stage}_step"), f"{stage}_glob_step"
    window = training.config.gradient_accumulation_steps if stage == "train" else 1
    for index, loss, batch_metrics in run_batches(loader, step, metrics, take_turn, window):
        glob_step = getattr(training, counter)
        if training.logger is not None:
            for name, value in {"loss": loss, **batch_metrics}.items():
                for part, number in flatten(f"{stage}_{name}", value).items():
                    training.log(number, part, step=glob_step, batch_idx=index)
        setattr(training, counter, glob_step + 1)
    results = metrics.compute(training.strategy)
    for name, value in results.items():
        training.epoch_metrics[f"{stage}_{name}"] = value
        training.log(value, f"{stage}_{name}_epoch", step=training.current_epoch)
    return torch.tensor(results.get("loss", float("nan")))


def evaluate(
    training: Training, stage: Stage, loader: DataLoader[Any] | None, metrics: EpochMetrics
) -> torch.Tensor | None:
    """Run a stage on the weights that are kept, without gradients; None without data."""
    if loader is None:
        return None
    training.model.eval()
    with torch.no_grad(), training.optimization.evaluated():
        return run_stage(training, stage, loader, metrics)
