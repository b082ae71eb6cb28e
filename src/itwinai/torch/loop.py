"""The loops of a training: epochs, and the batches of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

import itwinai
from itwinai.reporting import NullReporter, TrialStopped
from itwinai.torch.data import batch_share, samples_in
from itwinai.torch.metrics import EpochMetrics
from itwinai.torch.reporting import report_as_one

if TYPE_CHECKING:
    from itwinai.torch.trainer import TorchTrainer

Step = Callable[[Any, int], tuple[Any, dict[str, Any]]]


def run_epochs(trainer: TorchTrainer) -> None:
    """Train, validate, save and report, epoch by epoch.

    Raises:
        TrialStopped: If told to stop before the last epoch.
    """
    for epoch in range(trainer.current_epoch, trainer.epochs):
        trainer.current_epoch = epoch
        trainer.epoch_metrics = {}
        trainer.set_epoch()
        _note(trainer, "train_loss", trainer.train_epoch())
        _note(trainer, "validation_loss", trainer.validation_epoch())
        if trainer.lr_scheduler is not None:
            trainer.lr_scheduler.step()
        if trainer.test_every and (epoch + 1) % trainer.test_every == 0:
            trainer.test_epoch()
        _save(trainer)
        _show(trainer)
        if _report(trainer) and epoch + 1 < trainer.epochs:
            raise TrialStopped


def run_batches(
    loader: DataLoader[Any], step: Step, metrics: EpochMetrics, set_share: Callable[[float], None]
) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """Run one epoch's batches of a stage, adding their loss and metrics up.

    Args:
        loader: The data.
        step: Trains or evaluates on a batch; returns its loss and metrics.
        metrics: Adds them up.
        set_share: Told the weight of the coming batch in the mean over ranks.

    Yields:
        Index, loss and metrics of each batch.
    """
    metrics.reset()
    for index, batch in enumerate(loader):
        share = batch_share(loader, index)
        set_share(share)
        metrics.skip_batch(share == 0)
        loss, batch_metrics = step(batch, index)
        metrics.add(loss, batch_metrics, samples_in(batch))
        yield index, loss, batch_metrics


def _note(trainer: TorchTrainer, name: str, loss: Any) -> None:
    """Take the loss that a user's own epoch method returned, where nothing else recorded it."""
    if loss is not None and name not in trainer.epoch_metrics:
        trainer.epoch_metrics[name] = float(torch.as_tensor(loss).detach())


def _show(trainer: TorchTrainer) -> None:
    """Print the epoch of a training alone; a trial's is in the study's table and record."""
    if isinstance(trainer.reporter, NullReporter) and trainer.strategy.is_main_worker:
        values = "  ".join(f"{name}={value:.4g}" for name, value in trainer.epoch_metrics.items())
        itwinai.logger.info("epoch %d/%d  %s", trainer.current_epoch + 1, trainer.epochs, values)


def _save(trainer: TorchTrainer) -> None:
    """Write the checkpoints that are due after this epoch."""
    loss = trainer.epoch_metrics.get("validation_loss")
    improved = loss is not None and loss < trainer.best_validation_metric
    if loss is not None and improved:
        trainer.best_validation_metric = loss
    for name in trainer.checkpoints.due(trainer.current_epoch, improved):
        trainer.save_checkpoint(name)


def _report(trainer: TorchTrainer) -> bool:
    """Tell the study; it never sees the test set, which would be tuned on otherwise."""
    metrics = {k: v for k, v in trainer.epoch_metrics.items() if not k.startswith("test_")}
    return report_as_one(trainer.reporter, trainer.strategy, metrics, trainer.checkpoints)
