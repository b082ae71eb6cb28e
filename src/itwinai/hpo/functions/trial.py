"""A trial, as its function sees it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import itwinai
from itwinai.errors import CheckpointError, did_you_mean, one_line
from itwinai.hpo.engine import Place
from itwinai.hpo.errors import ReportError, UnusedParameterError
from itwinai.hpo.functions.configuration import TrialConfig
from itwinai.hpo.functions.states import load_state, restore_random, save_state
from itwinai.hpo.trial import Assignment, epochs_as_kept
from itwinai.io.newest import NewestCheckpoint
from itwinai.reporting import Progress, Reporter, TrialStopped


@dataclass(frozen=True)
class Task:
    """What a trial's process has to do.

    Attributes:
        assignment: The trial.
        place: The process among those of the trial.
        config: The default configuration with the trial's values.
        data: The study's data, this trial's own copy.
        total: Epochs of a full training.
        checkpoint: What there is to go on from.
    """

    assignment: Assignment
    place: Place
    config: TrialConfig
    data: Any
    total: int
    checkpoint: NewestCheckpoint


class Trial:
    """What a function knows of its trial, and whom it reports to.

    Args:
        task: What there is to do.
        reporter: Who gets the reports.
    """

    def __init__(self, task: Task, reporter: Reporter) -> None:
        self._task = task
        self._reporter = reporter
        self._random: Any = None
        #: Epochs of the last report, or of the checkpoint to go on from.
        self._done = 0.0
        self._begun = False
        #: Epochs of the last report of this attempt.
        self._last = 0.0

    @property
    def number(self) -> int:
        """The trial's number in its study, from 0."""
        return self._task.assignment.number

    @property
    def config(self) -> TrialConfig:
        """The configuration, as the function's first argument has it."""
        return self._task.config

    @property
    def data(self) -> Any:
        """What ``data`` was given to the study; changes of it are gone with the trial."""
        return self._task.data

    @property
    def seed(self) -> int | None:
        """The trial's seed, with which ``random``, NumPy and PyTorch were seeded; or None."""
        return self._task.assignment.seed

    @property
    def rank(self) -> int:
        """Number of this process among those of the trial, from 0."""
        return self._task.place.rank

    @property
    def world_size(self) -> int:
        """Processes that run the trial together."""
        return self._task.place.world_size

    @property
    def device(self) -> str:
        """``cuda`` if this process has a GPU, otherwise ``cpu``."""
        return "cuda" if self._task.place.gpus else "cpu"

    @property
    def total(self) -> int:
        """Epochs of a full training."""
        return self._task.total

    @property
    def folder(self) -> Path:
        """The trial's own folder, for whatever it writes."""
        folder = Path(self._task.assignment.directory)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def load(self) -> Any:
        """What the newest checkpoint holds, or None where the trial begins.

        The states of random numbers are put back too, those of rank 0 on all ranks. So what a trial
        that goes on must have as it began, such as a random split, is drawn before.
        A function that does not ask begins again, and its reports count from where it was.

        Raises:
            ReportError: If the trial has reported already.
        """
        if self._begun:
            raise ReportError("trial.load() after the first epoch: call it before trial.epochs()")
        assignment = self._task.assignment
        if assignment.checkpoint is None:
            return None
        try:
            state, self._random = load_state(Path(assignment.checkpoint))
        except CheckpointError as error:
            itwinai.logger.warning("warning: %s. The trial begins again.", error)
            return None
        self._task.checkpoint.continues(Path(assignment.checkpoint))
        self._done = assignment.epochs
        self._put_random_numbers_back()
        return state

    def epochs(self) -> Iterator[int]:
        """Numbers of the epochs to train, from 0, or from where :meth:`load` has gone on.

        The first one may be trained in part already.
        """
        self._put_random_numbers_back()
        yield from range(math.floor(self._done), self._task.total)

    def report(
        self,
        metrics: Mapping[str, float],
        checkpoint: Any = None,
        *,
        epoch: float | None = None,
        step: int | None = None,
    ) -> None:
        """Report an epoch, or a part of one, on every rank; it ends the function if the study does.

        Those of rank 0 count. What the study knows already is passed over.

        Args:
            metrics: Numbers, by name.
            checkpoint: What to go on from: plain data, arrays and tensors, in lists, tuples and
                dictionaries.
            epoch: Epochs trained, such as 2.25; None: to the end of the running one.
            step: Optimizer steps made, for a scheduler with ``unit: steps``.

        Raises:
            ReportError: If a metric is no number, for more epochs than a full training has, and if
                a report does not come after the one before.
            UnkeepableError: If loading the checkpoint would run code.
            UnusedParameterError: If the function has not read what its study tunes.
        """
        if not self._begun:
            self._begin()
        numbers = _numbers(metrics)
        if epoch is not None and not math.isfinite(epoch):
            raise ReportError(f"trial.report(epoch={epoch}): give the epochs trained so far")
        self._done = self._after(Progress(epoch if epoch is None else float(epoch)))
        if self._done <= self._task.assignment.epochs:
            if self._random is not None:
                self._tell_repeated()
            return
        kept = self._task.checkpoint
        if checkpoint is not None and self.rank == 0:
            kept.written(self._save(checkpoint))
        progress = Progress(self._done, step if step is None else int(step))
        # Whoever is told to stop cannot know whether the study has heard this report.
        if self._reporter.report(numbers, kept.newest, progress):
            raise TrialStopped
        kept.recorded()

    def _after(self, progress: Progress) -> float:
        """Epochs trained at a report."""
        done, total = epochs_as_kept(progress.after(self._done)), self._task.total
        if done > total:
            raise ReportError(
                f"trial.report(): report {done:g} of {total} epochs. Go through trial.epochs(), or "
                "say how many epochs a full training has: epochs=..."
            )
        if done <= self._last:
            raise ReportError(
                f"trial.report(epoch={done:g}): the report before was at {self._last:g}. Report "
                "the epochs trained so far, which grow from report to report."
            )
        self._last = done
        return done

    def _tell_repeated(self) -> None:
        """Say that what a checkpoint holds is trained once more."""
        held = self._task.assignment.epochs
        self._reporter.note(
            "trained twice",
            f"warning: trial {self.number} goes on from a checkpoint after epoch {held:g}, and "
            f"trains up to epoch {self._done:g} once more, with what it had learnt there already. "
            "Keep the place within the epoch in the checkpoint, too, and begin behind it.",
        )

    def _begin(self) -> None:
        """Before the first report: what is tuned was read."""
        self._begun = True
        unread = self.config.unread(self._task.assignment.params)
        if unread and self.rank == 0:
            hint = did_you_mean(unread[0], (name for name in self.config if name not in unread))
            raise UnusedParameterError(
                f"{unread[0]!r} was sampled but never read{hint or '.'} If only some "
                "configurations need it, read it before the branch."
            )

    def _save(self, state: Any) -> Path:
        whole = math.floor(self._done)
        part = epochs_as_kept(self._done - whole)
        path = self.folder / (f"epoch_{whole}_part_{part}" if part else f"epoch_{whole - 1}")
        save_state(path, state, self._done)
        return path

    def _put_random_numbers_back(self) -> None:
        if self._random is not None:
            restore_random(self._random)


def _numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise ReportError(
            f"trial.report({one_line(repr(metrics), 60)}): expected numbers by name, such as "
            '{"validation_loss": 0.1}'
        )
    return {str(name): _number(str(name), value) for name, value in metrics.items()}


def _number(name: str, value: Any) -> float:
    is_complex = getattr(getattr(value, "dtype", None), "kind", "") == "c"
    try:
        if not is_complex:  # of which NumPy would take the real part alone
            return float(value)
    except OverflowError:
        raise ReportError(
            f"trial.report(): {name} is larger than a floating-point number can be (1.8e308). "
            "Report its logarithm, say"
        ) from None
    except (TypeError, ValueError, RuntimeError):
        pass
    raise ReportError(
        f"trial.report(): {name} is a {type(value).__name__}, not a number: "
        f"{one_line(repr(value), 60)}. Report a number, such as its mean"
    )
