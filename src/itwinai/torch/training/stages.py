"""The stages of an epoch: training, validation and test, each over its own data."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch.utils.data import DataLoader

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.torch.metrics import OTHER_THAN_MEAN, EpochMetrics, flatten, names_no_mean
from itwinai.torch.reproducibility import random_numbers_kept
from itwinai.torch.training import hooks, state
from itwinai.torch.training.batches import Step, run_batches
from itwinai.torch.training.evaluating import evaluating, networks, running
from itwinai.torch.training.protocol import Stage, Training
from itwinai.torch.training.steps import EVALUATING, count_batch, end_batch, log_result
from itwinai.torch.training.turns import (
    Counting,
    Turn,
    collates_itself,
    counts_targets,
    take_turns,
)


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
    where = training.whereabouts
    where.hook = f"{stage}_step()"
    with running(training, stage):
        if stage == "train":
            _train(training, loader, metrics)
        else:
            metrics.reset()
            for _ in _batches(training, stage, loader, metrics):
                pass
    where.hook, where.batch = f"{stage}_epoch()", 0
    _tell_means(training, stage, metrics.of_steps)
    results = metrics.compute(training.strategy)
    if "loss" not in results and not metrics.batches:
        raise ConfigurationError(
            f"the {stage} set gave no batch: it is empty, or smaller than a batch that drop_last "
            "leaves out"
        )
    for name, value in results.items():
        training.epoch_metrics[f"{stage}_{name}"] = value
        log_result(training, f"{stage}_{name}", value)
    return torch.tensor(results["loss"], dtype=torch.float64) if "loss" in results else None


def _tell_means(training: Training, stage: Stage, names: Sequence[str]) -> None:
    """Say once that the mean is taken of what steps found by themselves and is no mean."""
    name = next(filter(names_no_mean, names), None)
    if name is not None and not training.is_mean_doubtful and training.strategy.is_main_worker:
        training.is_mean_doubtful = True
        training.reporter.note(
            "means",
            f"warning: {stage}_step() returns {name}, of which the mean over batches is taken; "
            f"{OTHER_THAN_MEAN} Give it to the trainer, as metrics={{...}}.",
        )


def remaining_batches(training: Training) -> Iterator[Any]:
    """Give an epoch's batches to a user's own loop, from where a checkpoint was."""
    position, where = training.position, training.whereabouts
    loader, where.hook = hooks.train_loader_of(training), "remaining_batches()"
    state.release_place(training)
    source, steps = position.begin(loader, training.torch_rng), training.optimization.steps
    if position.batches and training.strategy.is_main_worker:
        itwinai.logger.warning(
            "warning: epoch %d goes on after its batch %d: what a loop of your own adds up over "
            "the epoch, such as a mean loss, is of the rest alone",
            training.current_epoch + 1,
            position.batches,
        )
    try:
        for batch, turn in _turns(training, "train", source):
            training.turn, steps = turn, training.optimization.steps
            where.batch, position.is_in_batch = where.batch + 1, True
            with nullcontext() if turn.is_last else _accumulating(training):
                yield batch
            end_batch(training)
    except GeneratorExit:  # the loop was left at this batch
        if training.optimization.steps > steps:
            count_batch(training)
        raise
    else:
        _end_data(training)
    finally:
        position.is_in_batch = False
        training.optimization.end_window()
        training.turn, where.batch = Turn(), 0
        training.config.took_effect("gradient_accumulation_steps")


def _train(training: Training, loader: DataLoader[Any], metrics: EpochMetrics) -> None:
    """Train on what is left of an epoch's batches."""
    position, steps_before = training.position, training.optimization.steps
    state.release_place(training)
    source = position.begin(loader, training.torch_rng, metrics)
    for index, loss in _batches(training, "train", source, metrics, position.batches):
        position.nan_watch.see(loss, index + 1)
        end_batch(training)
    _end_data(training)
    training.first_nan = position.nan_watch.first
    if training.optimization.steps > steps_before:
        training.config.took_effect("gradient_accumulation_steps")


def _end_data(training: Training) -> None:
    """Hear that an epoch's training data have ended, which a user's own hooks may follow."""
    hooks_after = ("train_epoch", *EVALUATING, "test_epoch", "test_step")
    if training.overrides(*hooks_after) and not training.overrides("train"):
        state.hold_place(training, again=True)


def _batches(
    training: Training, stage: Stage, data: Any, metrics: EpochMetrics, first: int = 0
) -> Iterator[tuple[int, Any]]:
    """Take batches through a stage's step and log them; give the number and loss of each."""

    def take_turn(turn: Turn) -> None:
        training.turn = turn
        training.whereabouts.batch += 1
        training.position.is_in_batch |= stage == "train"

    step = getattr(training, f"{stage}_step")
    if stage == "train":
        step = _synchronised_at_last(training, step)
    turns, before = _turns(training, stage, data), training.turn
    try:
        for index, loss, values in run_batches(turns, step, metrics, take_turn, first):
            _log_batch(training, stage, index, {"loss": loss, **values})
            yield index, loss
    finally:
        training.turn = before  # its share weighs whatever is optimised next


def _log_batch(training: Training, stage: Stage, index: int, values: Mapping[str, Any]) -> None:
    counter = f"{stage}_glob_step"
    step = getattr(training, counter)
    if training.logger is not None:
        for name, value in values.items():
            for part, number in flatten(f"{stage}_{name}", value).items():
                training.log(number, part, step=step, batch_idx=index)
    setattr(training, counter, step + 1)


def _turns(training: Training, stage: Stage, data: Any) -> Iterator[tuple[Any, Turn]]:
    is_own = training.overrides("samples_in_batch", "terms_in_loss")
    varies = is_own or counts_targets(training.loss) or collates_itself(data)
    counting = Counting(training.samples_in_batch, training.terms_in_loss, varies)
    trains = stage == "train"
    window = training.config.snapshot()["gradient_accumulation_steps"] if trains else 1
    return take_turns(data, window, counting, training.strategy, weighs=trains)


def _synchronised_at_last(training: Training, step: Step) -> Step:
    """Let the ranks exchange gradients once in an optimizer step, after its last batch."""

    @functools.wraps(step)
    def accumulated(batch: Any, index: int) -> Any:
        if training.turn.is_last:
            return step(batch, index)
        with _accumulating(training):
            return step(batch, index)

    return accumulated


@contextmanager
def _accumulating(training: Training) -> Iterator[None]:
    """Keep the gradients of a block on this rank, and let no step be made of them.

    Raises:
        ConfigurationError: If a user's own code makes one, by which the ranks would differ.
    """

    def refuse(*_: Any) -> None:
        raise ConfigurationError(
            "config.gradient_accumulation_steps: the optimizer makes a step in the middle of it, "
            "of the gradients of this rank alone. Call self.optimize(loss) in place of backward() "
            "and step(), or leave the key out."
        )

    hook = None
    with suppress(AttributeError):  # DeepSpeed's are optimizers in name alone
        if training.strategy.global_world_size() > 1:
            hook = training.optimizer.register_step_pre_hook(refuse)
    try:
        with training.strategy.accumulating(training.model):
            yield
    finally:
        if hook is not None:
            hook.remove()


def evaluate(
    training: Training, stage: Stage, loader: DataLoader[Any] | None, metrics: EpochMetrics
) -> torch.Tensor | None:
    """Run a stage on the weights that are kept, without gradients; None without data.

    A training does not depend on how often it is evaluated, even where that draws random numbers.
    """
    if loader is None:
        return None
    with evaluating(training), torch.no_grad(), random_numbers_kept(training.torch_rng):
        for network in networks(training):
            network.eval()
        return run_stage(training, stage, loader, metrics)
