"""The loop over a training's epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from torch.optim.lr_scheduler import ReduceLROnPlateau

import itwinai
from itwinai import job
from itwinai.errors import ConfigurationError, NotANumberError
from itwinai.reporting import NullReporter, TrialStopped, rounded
from itwinai.torch.optimization.schedules import goes_by_step, seems_by_step, stands
from itwinai.torch.training import hooks, state
from itwinai.torch.training.agreement import job_ends, run_hook
from itwinai.torch.training.own_values import bring_back_made
from itwinai.torch.training.protocol import Training
from itwinai.torch.training.reporting import report_epoch
from itwinai.torch.training.stateful import load_unclaimed
from itwinai.torch.training.step_watch import StepWatch
from itwinai.torch.training.steps import check_heard


@job.listening()
def run_epochs(training: Training) -> None:
    """Train, validate, save and report, epoch by epoch.

    Raises:
        TrialStopped: If told to stop before the last epoch.
        JobEnds: If the job asked the training to stop before its end.
    """
    hooks.check_loaders(training)
    for epoch in remaining_epochs(training):
        began, is_whole = time.monotonic(), not training.position.is_open
        run_hook(training, "train")
        _check_number(training)
        run_hook(training, "validation")
        if training.test_every and (epoch + 1) % training.test_every == 0:
            run_hook(training, "test")
        if is_whole:  # the rest of one would pass for a fast epoch
            training.log(time.monotonic() - began, "epoch_time_s", step=epoch)
        end_epoch(training)


def remaining_epochs(training: Training) -> Iterator[int]:
    """Begin one epoch after the other, until the last one or until early stopping is due."""
    if job.may_stop() or training.checkpoint_every_seconds is not None:
        training.step_watch = StepWatch(training.strategy, training.checkpoint_every_seconds)
    load_unclaimed(training)
    bring_back_made(training)
    for epoch in range(training.current_epoch, training.epochs):
        if training.early_stopping.is_due:
            return
        training.current_epoch = epoch
        training.whereabouts.epoch = epoch + 1
        training.epoch_metrics, training.first_nan = {}, None
        training.schedule_stood = stands(training.lr_scheduler)
        training.set_epoch()
        training.position.begin_epoch()
        yield epoch


def end_epoch(training: Training) -> None:
    """Do all that follows an epoch.

    Raises:
        TrialStopped: If told to stop before the last epoch.
        JobEnds: If the job asked the training to stop before the last epoch.
    """
    epoch, loss = training.current_epoch, training.epoch_metrics.get("validation_loss")
    state.release_place(training)
    check_heard(training)
    _step_schedule(training)
    _tell_overflow(training)
    training.config.took_effect("early_stopping_patience", "early_stopping_min_delta")
    if training.early_stopping.observe(loss) and training.strategy.is_main_worker:
        itwinai.logger.warning(
            "warning: the validation loss of epoch %d is not a number", epoch + 1
        )
    if loss is not None:
        training.log(loss, "global_validation_loss_epoch", step=epoch)
    if not training.position.was_at_end:
        training.effects.look(certain=True)
    ends = epoch + 1 < training.epochs and job_ends(training)
    state.save_due(training, always=ends)
    _show(training)
    if ends and isinstance(training.reporter, NullReporter):
        done = f"epoch {epoch + 1}/{training.epochs}"
        raise job.JobEnds(f"the training goes on after {done} in the next job")
    if training.profiler is not None:
        training.profiler.step()
    if report_epoch(training) and epoch + 1 < training.epochs:
        raise TrialStopped


def _step_schedule(training: Training) -> None:
    """Let a schedule go on that goes by epochs, unless the user's own code has done so."""
    schedule = training.lr_scheduler
    if schedule is None or goes_by_step(schedule) or _was_stepped(training):
        return
    _tell_pace(training)
    learnt = _learns(training)
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(_validation_loss(training))
    else:
        schedule.step()
    training.schedule_stood = stands(schedule)
    left = training.epochs - training.current_epoch - 1
    if learnt and left and not _learns(training) and training.strategy.is_main_worker:
        training.reporter.note(
            "learning rate",
            f"warning: {type(schedule).__name__} has brought the learning rate to 0 with {left} of "
            f"{training.epochs} epochs to come, which train no weight. Let it go on for longer "
            "(polynomial: lr_scheduler_step_size), or train fewer epochs.",
        )


def _was_stepped(training: Training) -> bool:
    """Whether the user's own code has let the schedule go on in this epoch."""
    now, (schedule, before) = stands(training.lr_scheduler), training.schedule_stood
    if training.position.was_at_end:  # that was before the checkpoint, if it was
        return now[1] is not None and now[1] != training.current_epoch
    return now[0] is schedule and now[1] != before


def _tell_pace(training: Training) -> None:
    """Say once that a schedule of the user's own goes on by something else than it was made for."""
    schedule, epochs = training.lr_scheduler, training.epochs
    is_own = training.overrides("create_model_loss_optimizer")
    if not is_own or training.current_epoch > 0 or not training.strategy.is_main_worker:
        return
    name = type(schedule).__name__
    if isinstance(schedule, ReduceLROnPlateau) and schedule.mode == "max":
        training.reporter.note(
            name,
            f"warning: {name} waits for a rise (mode='max') and hears the validation loss, which "
            "falls as the model gets better. Take mode='min', or call self.lr_scheduler.step() "
            "with a value of your own in validation_epoch().",
        )
    elif seems_by_step(schedule, epochs):
        training.reporter.note(
            name,
            f"warning: {name} goes on with each of the {epochs} epochs here, and seems meant for "
            "steps. Take lr_scheduler: cosine or onecycle in the config, which go by steps, or "
            "call self.lr_scheduler.step() in train_step().",
        )


def _tell_overflow(training: Training) -> None:
    if training.optimization.has_overflown() and training.strategy.is_main_worker:
        training.reporter.note(
            "overflow",
            "warning: in 16 bits the gradients overflow in each step, which is then left out, so "
            "nothing is learnt. With precision: bf16 or fp32, or targets and losses of a smaller "
            "size, they do not.",
        )


def _learns(training: Training) -> bool:
    """Whether a step changes any weight."""
    return any(float(group["lr"]) for group in training.optimizer.param_groups)


def _validation_loss(training: Training) -> float:
    if "validation_loss" not in training.epoch_metrics:
        raise ConfigurationError(
            "lr_scheduler: ReduceLROnPlateau goes by the validation loss, and there is none. Pass "
            "a validation set, or take another schedule."
        )
    return training.epoch_metrics["validation_loss"]


def _check_number(training: Training) -> None:
    """End a training alone whose loss is not a number; a trial's study says that it diverged."""
    loss = training.epoch_metrics.get("train_loss", 0.0)
    if not math.isnan(loss) or not isinstance(training.reporter, NullReporter):
        return
    values = training.config.snapshot()
    # A step that overflows in 16 bits is left out, and the training goes on after it.
    if not values["stop_on_nan"] or values["precision"] == "fp16":
        return
    first = min(filter(None, training.strategy.allgather_obj(training.first_nan)), default=None)
    where = f"epoch {training.current_epoch + 1}" + (f", step {first}" if first else "")
    raise NotANumberError(
        f"the loss became NaN in {where}. A smaller learning rate, gradient_clipping or another "
        "precision may help; with stop_on_nan: false in the config the training goes on."
    )


def _show(training: Training) -> None:
    """Print the epoch of a training alone; a trial's is in the study's table and record."""
    if isinstance(training.reporter, NullReporter) and training.strategy.is_main_worker:
        metrics = training.epoch_metrics.items()
        values = "  ".join(f"{name}={rounded(value)}" for name, value in metrics)
        itwinai.logger.info("epoch %d/%d  %s", training.current_epoch + 1, training.epochs, values)
