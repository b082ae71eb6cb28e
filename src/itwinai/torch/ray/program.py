"""What a trial's processes run: a fresh copy of the trainer, with the trial's values.

These processes load this module, and nothing of the study that drives them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import itwinai
from itwinai.errors import CheckpointError
from itwinai.hpo.engine import Place
from itwinai.hpo.errors import UnusedParameterError
from itwinai.hpo.isolation.known import AfterKnown
from itwinai.hpo.isolation.leftovers import Leftovers
from itwinai.hpo.isolation.undoing import put_back
from itwinai.hpo.trial import Assignment
from itwinai.loggers import RunContext
from itwinai.reporting import END_OF_EPOCH, Progress, Reporter
from itwinai.torch.checkpoints.files import check_whole, newest_within, run_of
from itwinai.torch.checkpoints.keeping import KeepNewest
from itwinai.torch.optimization.factories import SCHEDULE_KEYS
from itwinai.torch.ray.auditing import saves_are_heard
from itwinai.torch.ray.pickling import SharedDatasets, fresh_copy, pickled_trainer
from itwinai.torch.ray.tunables import apply_values
from itwinai.torch.ray.undoing import settings
from itwinai.torch.training.effects import CALLS, Effects
from itwinai.torch.training.names import suggestion
from itwinai.torch.training.protocol import Datasets
from itwinai.torch.training.trainer import LocalTrainer

#: Tag of a run: number of its trial.
TRIAL = "itwinai.trial"


class TrainerProgram:
    """What every trial runs: fresh copies of trainer and data sets, with the trial's values.

    Args:
        trainer: The trainer as the user configured it.
        datasets: Training, validation and test set; they cross to each node once.

    Raises:
        ConfigurationError: If one of these holds something that cannot leave its process.
    """

    def __init__(self, trainer: LocalTrainer, datasets: Datasets) -> None:
        self._trainer = pickled_trainer(trainer)
        self._datasets = SharedDatasets(datasets)
        self._leftovers = Leftovers()
        self._last: KeepNewest | None = None
        #: What the trials' runs belong to.
        self.run_context = RunContext()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _load_late_parts()

    def __call__(self, assignment: Assignment, place: Place, reporter: Reporter) -> None:
        """Train with a trial's values."""
        if self._last is not None:  # that trial has ended, and all of it is on record
            self._last.delete_superseded()
        with self._datasets.copies() as datasets:
            trainer = fresh_copy(self._trainer)
            self._leftovers.tell(assignment.number, reporter, trainer, trainer.model, *datasets)
            # But not what modules do when they are imported for those two.
            with put_back(settings()), saves_are_heard():
                torch.set_num_threads(place.cpus)
                self._train(trainer, datasets, assignment, reporter)

    def _train(
        self,
        trainer: LocalTrainer,
        datasets: Datasets,
        assignment: Assignment,
        reporter: Reporter,
    ) -> None:
        sampled = apply_values(trainer, assignment.params)
        recorded = _sound_checkpoint(assignment)
        continued = _within_next_epoch(assignment, recorded) or recorded
        if continued is None:
            reporter = AfterKnown(reporter, assignment.epochs)
        trainer.random_seed = (
            assignment.seed if trainer.random_seed is None else trainer.random_seed
        )
        trainer.run_name = f"{trainer.run_name or 'trial'}-{assignment.number}"
        trainer.run_context = replace(
            self.run_context,
            tags={**self.run_context.tags, TRIAL: str(assignment.number)},
            folder=Path(assignment.directory),
        )
        trainer.checkpoints_location = assignment.directory
        trainer.checkpoints = self._last = KeepNewest(
            trainer.checkpoint_every,
            previous=recorded,
            folder=Path(assignment.directory),
            steps=trainer.checkpoint_every_steps,
        )
        trainer.checkpoints.newest = continued
        trainer.from_checkpoint = continued or trainer.from_checkpoint
        trainer.reported = 0 if continued is None else assignment.epochs
        # One that the record does not know yet may hold more, of the same epoch.
        trainer.saved_within = None if continued is None else assignment.epochs
        trainer.reporter = ReadingCheck(reporter, trainer, sampled)
        trainer.train_in_this_process(*datasets)


def _load_late_parts() -> None:
    """Let PyTorch load what it would load at a process's first optimizer, in the first trial."""
    weight = torch.nn.Parameter(torch.zeros(1))
    torch.optim.SGD([weight]).zero_grad()


def _sound_checkpoint(assignment: Assignment) -> Path | None:
    """Return the checkpoint from which a trial goes on; None if there is none that can be read."""
    if assignment.checkpoint is None:
        return None
    try:
        return check_whole(Path(assignment.checkpoint))
    except CheckpointError as error:
        itwinai.logger.warning("warning: %s. The trial begins again.", error)
        return None


def _within_next_epoch(assignment: Assignment, recorded: Path | None) -> Path | None:
    """Return the newest checkpoint in the middle of the epoch after the whole ones on record.

    The record may know none of them, or an earlier one.
    """
    if recorded is None and assignment.epochs:
        return None
    run = None if recorded is None else run_of(recorded)
    return newest_within(Path(assignment.directory), math.floor(assignment.epochs), run)


class ReadingCheck:
    """Passes reports on, after making sure that the training has read what was sampled.

    Args:
        reporter: Who gets the reports.
        trainer: Whose configuration is watched.
        sampled: Names that were sampled into it.
    """

    def __init__(self, reporter: Reporter, trainer: LocalTrainer, sampled: list[str]) -> None:
        self._reporter = reporter
        self._trainer = trainer
        self._sampled = sampled
        self._reports = 0
        trainer.effects = Effects(trainer.config)

    def report(
        self,
        metrics: Mapping[str, float],
        checkpoint: Path | None = None,
        progress: Progress = END_OF_EPOCH,
    ) -> bool:
        """Pass a report on.

        Raises:
            UnusedParameterError: After the first whole epoch, if a sampled name was never read, or
                is not what the optimizer uses; after the second, if it is one of a schedule that
                has not gone on.
        """
        if progress.epochs is None or progress.epochs == int(progress.epochs):
            self._check()
        return self._reporter.report(metrics, checkpoint, progress)

    def _check(self) -> None:
        effects = self._trainer.effects
        overwritten = effects.overwritten(self._sampled)
        if overwritten:
            raise UnusedParameterError(
                f"{overwritten[0]!r} was sampled but has no effect: a state that was loaded into "
                "the optimizer brought another value. Pass from_checkpoint=... to the trainer, "
                "which keeps this trial's, or set it in the optimizer's groups after the loading."
            )
        unread = effects.missing(self._sampled)
        self._sampled = [name for name in unread if name in SCHEDULE_KEYS and not self._reports]
        self._reports += 1
        in_vain = [name for name in unread if name not in self._sampled]
        if in_vain:
            known = [name for name in self._trainer.config.snapshot() if name not in unread]
            raise UnusedParameterError(_unused(in_vain[0], known))

    def note(self, about: str, text: str) -> None:
        """Pass a note on."""
        self._reporter.note(about, text)


def _unused(name: str, known: list[str]) -> str:
    if name in CALLS:
        return f"{name!r} was sampled but had no effect: nothing called {CALLS[name]}"
    hint = suggestion(name, known)
    return (
        f"{name!r} was sampled but never read{hint or '.'} If only some configurations need it, "
        "read it before the branch."
    )
