"""What happens between the steps of an epoch: checkpoints, evaluations, and the end of the job."""

from __future__ import annotations

from collections.abc import Mapping

import itwinai
from itwinai import job
from itwinai.errors import ConfigurationError
from itwinai.reporting import NullReporter, TrialStopped
from itwinai.torch.training import state
from itwinai.torch.training.agreement import job_ends, run_hook
from itwinai.torch.training.protocol import Training
from itwinai.torch.training.reporting import report_as_one
from itwinai.torch.training.source import check_keeps_place
from itwinai.torch.training.step_watch import Heard

#: The trainer's arguments that ask for checkpoints in the middle of epochs.
_SAVING = ("checkpoint_every_steps", "checkpoint_every_seconds")


#: Hooks that evaluate, in the middle of an epoch too.
EVALUATING = ("validation_epoch", "validation_step")


def check_steps(training: Training) -> None:
    """Refuse what the trainer's arguments ask for in the middle of epochs and cannot have.

    Raises:
        ConfigurationError: If nothing tells where the training data stands, or there is no
            validation set.
    """
    loader = training.train_dataloader
    saves = [name for name in _SAVING if getattr(training, name) is not None]
    if saves and loader is not None:
        check_keeps_place(loader, saves[0])
    own = training.overrides("validation_epoch", "train")
    lacks = training.validation_dataloader is None and not own
    if training.validate_every_steps is not None and lacks:
        raise ConfigurationError(
            "validate_every_steps: there is no validation set. Pass one, or leave "
            "validate_every_steps out."
        )


def check_saving(training: Training, name: str) -> None:
    """Refuse a checkpoint by a user's own code that could not be gone on from.

    Raises:
        ConfigurationError: If it is in the middle of an epoch, and not between two steps of data
            that keep their place.
    """
    position = training.position
    if (position.is_in_batch or training.is_within_epoch) and not position.is_saved:
        raise ConfigurationError(
            f"save_checkpoint({name!r}) in the middle of epoch {training.current_epoch + 1}: "
            "nothing tells how much of the epoch it holds, so a training that goes on from it "
            "would leave samples out. Give the trainer checkpoint_every_steps or "
            "checkpoint_every_seconds, which save between steps, or save after the last batch."
        )


def check_heard(training: Training) -> None:
    """Refuse a loop of the user's own whose steps nothing hears of, at the end of an epoch.

    Raises:
        ConfigurationError: If something is due at steps, or the checkpoint stands in the middle of
            the epoch.
    """
    asked = _asked(training)
    if training.position.is_open:
        asked.append("from_checkpoint, which is in the middle of an epoch")
    elif training.position.batches:
        return
    if asked:
        raise ConfigurationError(
            f"{', '.join(asked)}: nothing of this epoch was taken from self.remaining_batches(). "
            "Let the loop go over it, in place of self.train_dataloader."
        )


def warn_unheard(training: Training) -> None:
    """Say at the end of a user's own ``train()`` what has had no effect, as nothing of it heard."""
    asked = _asked(training)
    if asked and not training.optimizer_steps and training.strategy.is_main_worker:
        itwinai.logger.warning(
            "warning: %s has had no effect: nothing went over self.remaining_batches()",
            ", ".join(asked),
        )


def end_batch(training: Training) -> None:
    """Hear that a batch was trained on; after the last one of a step, do what is due.

    Raises:
        JobEnds: If the job asked a training alone to stop, which it can do here.
        TrialStopped: If the study ends this trial.
    """
    count_batch(training)
    if training.turn.is_last:
        _end_window(training)
        _end_step(training)


def count_batch(training: Training) -> None:
    """Count a batch that was trained on, and the step that it ends."""
    ends_step = training.turn.is_last
    training.position.took_batch(ends_step)
    training.optimizer_steps += ends_step


def log_result(training: Training, name: str, value: float) -> None:
    """Log what a stage came to: of an epoch, or at a step in the middle of one."""
    if training.is_within_epoch:
        training.log(value, f"{name}_step", step=training.optimizer_steps)
    else:
        training.log(value, f"{name}_epoch", step=training.current_epoch)


def _asked(training: Training) -> list[str]:
    """The trainer's arguments that ask for something at steps."""
    named = (*_SAVING, "validate_every_steps")
    return [name for name in named if getattr(training, name) is not None]


def _end_window(training: Training) -> None:
    """Keep the gradients of batches whose step was not made out of the next one."""
    if training.optimization.end_window() and training.strategy.is_main_worker:
        training.reporter.note(
            "gradient_accumulation_steps",
            "warning: the last batch of an optimizer step was not handed to self.optimize(), so "
            "there was no step, and the gradients of the batches before it are left out. Hand each "
            "batch over; multiply the loss of one that shall not count by 0.",
        )


def _end_step(training: Training) -> None:
    watch, position = training.step_watch, training.position
    told = Heard() if watch is None or not position.keeps_place else watch.hear()
    if told.job_ends and isinstance(training.reporter, NullReporter):
        state.save_within_epoch(training)
        done = f"epoch {training.current_epoch + 1}/{training.epochs}, step {position.steps}"
        raise job.JobEnds(f"the training goes on after {done} in the next job")
    steps, every = training.optimizer_steps, training.validate_every_steps
    found = _validate(training) if every is not None and steps % every == 0 else None
    heard = found if found and _reports(training) else None
    ends = heard is not None and position.keeps_place and job_ends(training)
    due = told.job_ends or told.save or training.checkpoints.due_at_step(steps)
    if ends or due:
        state.save_within_epoch(training)
    if heard is not None and report_as_one(training, heard, position.share or 0.0):
        raise TrialStopped


def _reports(training: Training) -> bool:
    """Whether a study hears of an evaluation here; after the last step it hears of the epoch."""
    # Rank 0's, because ranks may have unequally many batches, and all must go on alike.
    share = training.strategy.broadcast_obj(training.position.share, 0)
    if share is None and not isinstance(training.reporter, NullReporter):
        training.reporter.note(
            "validate_every_steps",
            "warning: the training set has no length, so nothing tells how far an epoch has come "
            "after a step: the study hears whole epochs. Give the data set a __len__.",
        )
    return share is not None and share < 1 and not isinstance(training.reporter, NullReporter)


def _validate(training: Training) -> Mapping[str, float]:
    """Evaluate in the middle of an epoch, whose metrics and batches do not notice it."""
    where, metrics = training.whereabouts, training.epoch_metrics
    hook, batch = where.hook, where.batch
    training.epoch_metrics, training.is_within_epoch = {}, True
    if training.overrides(*EVALUATING):
        state.hold_place(training, again=False)
    try:
        run_hook(training, "validation")
        found = training.epoch_metrics
    finally:
        state.release_place(training)
        training.epoch_metrics, training.is_within_epoch = metrics, False
        where.hook, where.batch = hook, batch
    return found
