"""Whether a trial that begins now comes anywhere before its study has to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from itwinai.hpo.record import StudyResult
from itwinai.hpo.rungs import Bracket, Rungs
from itwinai.hpo.study.running import RunningTrial


@dataclass(frozen=True)
class Candidate:
    """A trial that could begin.

    Attributes:
        number: The trial; a new one's is the next.
        epochs: Epochs that it need not train again.
    """

    number: int
    epochs: int = 0


class Outlook:
    """Seconds until a trial can be told from others, or gone on with: at a rung or a checkpoint.

    What an epoch takes, it takes from the trial's own epochs, or else from the median of all
    trials. Of a study of which nothing is known yet it says nothing.

    Args:
        epochs: Epochs of a full training.
        rungs: Where the scheduler compares trials; None where that is not at certain epochs.
        so_far: The study as earlier runs have left it.
    """

    def __init__(self, epochs: int, rungs: Rungs | None, so_far: StudyResult) -> None:
        self._epochs = epochs
        self._rungs = rungs or Rungs((Bracket((), 1.0),))
        self._paces: dict[int, float] = {}
        #: Epochs from one checkpoint to the next; None: no trial has ever had one.
        self._between: int | None = None
        for trial in so_far.trials:
            self._note_pace(trial.number, trial.seconds)
            if trial.checkpoint is not None:
                self._note_checkpoint(trial.checkpoint_epochs)

    def heard(self, trial: RunningTrial) -> None:
        """Note an epoch of a trial."""
        trained = trial.epochs - trial.assignment.epochs
        self._paces[trial.assignment.number] = (trial.seconds - trial.earlier) / trained
        if trial.checkpoint_epochs > trial.assignment.epochs:
            self._note_checkpoint(trial.checkpoint_epochs - trial.assignment.epochs)

    def seconds_needed(self, start: Candidate) -> float:
        """Seconds to its next rung, its next checkpoint or its end; 0 where nobody can know."""
        if not self._paces:
            return 0.0
        pace = self._paces.get(start.number) or median(self._paces.values())
        return pace * self._epochs_needed(start)

    def _epochs_needed(self, start: Candidate) -> float:
        turns = self._rungs.turns
        bracket = self._rungs.brackets[turns[start.number % len(turns)]]
        goals = [level for level in (*bracket.levels, self._epochs) if level > start.epochs]
        if self._between is not None:
            goals.append(start.epochs + self._between)
        return min(goals, default=self._epochs) - start.epochs

    def _note_pace(self, number: int, seconds: Sequence[float]) -> None:
        if seconds and seconds[-1] > 0:
            self._paces[number] = seconds[-1] / len(seconds)

    def _note_checkpoint(self, epochs: int) -> None:
        self._between = min(epochs, self._between or epochs)
