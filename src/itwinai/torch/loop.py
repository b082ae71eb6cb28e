"""The loops of a training: epochs, and the batches of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

import itwinai
from itwinai import job
from itwinai.reporting import NullReporter, TrialStopped
from itwinai.torch.checkpoints import state
from itwinai.torch.data import batch_share, samples_in, with_last
from itwinai.torch.metrics import EpochMetrics
from itwinai.torch.optimization.schedules import goes_by_step
from itwinai.torch.reporting import report_as_one

if TYPE_CHECKING:
    from itwinai.torch.trainer import TorchTrainer

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


@job.listening()
def run_epochs(trainer: TorchTrainer) -> None:
    """Train, validate, save and report, epoch by epoch.

    Raises:
        TrialStopped: If told to stop before the last epoch.
        JobEnds: If the job asked the training to stop before the last epoch.
    """
    for epoch in range(trainer.current_epoch, trainer.epochs):
        if trainer.early_stopping.is_due:
            return
        began = time.monotonic()
        trainer.current_epoch = epoch
        trainer.epoch_metrics = {}
        trainer.set_epoch()
        _note(trainer, "train_loss", trainer.train_epoch())
        _note(trainer, "validation_loss", trainer.validation_epoch())
        _step_schedule(trainer)
        if trainer.test_every and (epoch + 1) % trainer.test_every == 0:
            trainer.test_epoch()
        loss = trainer.epoch_metrics.get("validation_loss")
        trainer.early_stopping.observe(loss)
        if loss is not None:
            trainer.log(loss, "global_validation_loss_epoch", step=epoch)
        trainer.log(time.monotonic() - began, "epoch_time_s", step=epoch)
        job_ends = epoch + 1 < trainer.epochs and _job_ends(trainer)
        _save(trainer, always=job_ends)
        _show(trainer)
        if job_ends and isinstance(trainer.reporter, NullReporter):
            done = f"epoch {epoch + 1}/{trainer.epochs}"
            raise job.JobEnds(f"the training goes on after {done} in the next job")
        if trainer.profiler is not None:
            trainer.profiler.step()
        if _report(trainer) and epoch + 1 < trainer.epochs:
            raise TrialStopped


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


def _step_schedule(trainer: TorchTrainer) -> None:
    """Let a schedule go on that goes by epochs."""
    schedule = trainer.lr_scheduler
    if schedule is None or goes_by_step(schedule):
        return
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(trainer.epoch_metrics["validation_loss"])
    else:
        schedule.step()


def _note(trainer: TorchTrainer, name: str, loss: Any) -> None:
    """Take the loss that a user's own epoch method returned, where nothing else recorded it."""
    if loss is not None and name not in trainer.epoch_metrics:
        trainer.epoch_metrics[name] = float(torch.as_tensor(loss).detach())


def _show(trainer: TorchTrainer) -> None:
    """Print the epoch of a training alone; a trial's is in the study's table and record."""
    if isinstance(trainer.reporter, NullReporter) and trainer.strategy.is_main_worker:
        values = "  ".join(f"{name}={value:.4g}" for name, value in trainer.epoch_metrics.items())
        itwinai.logger.info("epoch %d/%d  %s", trainer.current_epoch + 1, trainer.epochs, values)


def _job_ends(trainer: TorchTrainer) -> bool:
    """Whether the job asks to stop; rank 0 decides for all.

    A training alone ends then. A trial ends when its study says so, which heard the same.
    """
    if not job.may_stop():
        return False
    return bool(trainer.strategy.broadcast_obj(job.stop_requested(), src_rank=0))


def _save(trainer: TorchTrainer, always: bool) -> None:
    """Write the checkpoints that are due after this epoch; one ``always``."""
    loss = trainer.epoch_metrics.get("validation_loss")
    improved = loss is not None and loss < trainer.best_validation_metric
    if loss is not None and improved:
        trainer.best_validation_metric = loss
    due = trainer.checkpoints.due(trainer.current_epoch, improved)
    if always and not any(name.startswith("epoch_") for name in due):
        due = [f"epoch_{trainer.current_epoch}", *due]
    if due:
        trainer.random_states = trainer.strategy.gather_obj(state.of_rank(trainer)) or []
    for name in due:
        trainer.save_checkpoint(name)
    trainer.random_states = []


def _report(trainer: TorchTrainer) -> bool:
    """Tell the study; it never sees the test set, which would be tuned on otherwise."""
    metrics = {k: v for k, v in trainer.epoch_metrics.items() if not k.startswith("test_")}
    began = time.monotonic()
    stop = report_as_one(trainer.reporter, trainer.strategy, metrics, trainer.checkpoints)
    if trainer.time_ray:
        seconds = time.monotonic() - began
        trainer.log(seconds, "ray_report_time_s_per_epoch", step=trainer.current_epoch)
    return stop
