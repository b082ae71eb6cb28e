"""Whether a trial that begins now comes anywhere before its study has to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from statistics import median

from itwinai.hpo.record import StudyResult
from itwinai.hpo.rungs import Bracket, Rungs
from itwinai.hpo.study.running import RunningTrial
from itwinai.hpo.trial import TrialResult


@dataclass(frozen=True)
class Candidate:
    """A trial that could begin.

    Attributes:
        number: The trial; a new one's is the next.
        epochs: Epochs that it need not train again.
    """

    number: int
    epochs: float = 0


class Outlook:
    """Seconds until a trial can be told from others, or gone on with: at a rung or a checkpoint.

    What an epoch takes, it takes from the trial's own epochs, or else from the median of all
    trials. Of a study of which nothing is known yet it says nothing.

    Args:
        epochs: Epochs of a full training.
        rungs: Where the scheduler compares trials; None where that is not at certain places.
        so_far: The study as earlier runs have left it.
    """

    def __init__(self, epochs: int, rungs: Rungs | None, so_far: StudyResult) -> None:
        self._epochs = epochs
        self._rungs = rungs or Rungs((Bracket((), 1.0),))
        self._paces: dict[int, float] = {}
        #: Of each trial, the optimizer steps of an epoch, where the scheduler counts steps.
        self._steps: dict[int, float] = {}
        #: Epochs from one checkpoint to the next; None: no trial has ever had one.
        self._between: float | None = None
        for trial in so_far.trials:
            self._note_pace(trial)
            if trial.checkpoint is not None:
                self._note_checkpoint(trial.checkpoint_epochs)

    def heard(self, trial: RunningTrial) -> None:
        """Note a report of a trial."""
        trained = trial.epochs - trial.assignment.epochs
        self._paces[trial.assignment.number] = (trial.seconds - trial.earlier) / trained
        if trial.steps:
            self._steps[trial.assignment.number] = trial.steps / trial.epochs
        if trial.checkpoint_epochs > trial.assignment.epochs:
            self._note_checkpoint(trial.checkpoint_epochs - trial.assignment.epochs)

    def seconds_needed(self, start: Candidate) -> float:
        """Seconds to its next rung, its next checkpoint or its end; 0 where nobody can know."""
        if not self._paces:
            return 0.0
        pace = _of(start.number, self._paces)
        return pace * self._epochs_needed(start, pace)

    def _epochs_needed(self, start: Candidate, pace: float) -> float:
        rungs = self._rungs.in_epochs(self._amount(start, pace), self._epochs)
        bracket = rungs.brackets[rungs.turns[start.number % len(rungs.turns)]]
        goals = [level for level in (*bracket.levels, self._epochs) if level > start.epochs]
        if self._between is not None:
            goals.append(start.epochs + self._between)
        return min(goals, default=self._epochs) - start.epochs

    def _amount(self, start: Candidate, pace: float) -> float:
        """How much an epoch is of what the rungs count; with unknown steps none is ever reached."""
        if self._rungs.unit == "seconds":
            return pace or inf
        return _of(start.number, self._steps) if self._steps else inf

    def _note_pace(self, trial: TrialResult) -> None:
        if trial.seconds and trial.seconds[-1] > 0:
            self._paces[trial.number] = trial.seconds[-1] / trial.epochs
        if trial.steps and trial.steps[-1]:
            self._steps[trial.number] = trial.steps[-1] / trial.epochs

    def _note_checkpoint(self, epochs: float) -> None:
        self._between = min(epochs, self._between or epochs)


def _of(number: int, known: Mapping[int, float]) -> float:
    """What is known of a trial, or the median of all."""
    return known.get(number) or median(known.values())
