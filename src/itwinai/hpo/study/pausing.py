"""Trials that pause: how they go on, and the copies that take the place of poor ones."""

from __future__ import annotations

from pathlib import Path

from itwinai.hpo.record import StudyResult
from itwinai.hpo.study.memory import Memory
from itwinai.hpo.study.queue import TrialQueue
from itwinai.hpo.study.running import RunningTrial
from itwinai.hpo.trial import TrialState

#: A checkpoint, and the epochs that it holds.
Beginning = tuple[Path, float]


class PausedTrials:
    """The trials that wait until their scheduler lets them go on.

    Args:
        queue: Where they, and copies, wait for their turn.
        memory: The values of all trials.
        epochs: Epochs of a full training.
        result: The study so far.
    """

    def __init__(self, queue: TrialQueue, memory: Memory, epochs: int, result: StudyResult) -> None:
        self._queue = queue
        self._memory = memory
        self._epochs = epochs
        self._trials = {t.number: t for t in result.trials if t.state is TrialState.PAUSED}

    def add(self, trial: RunningTrial) -> None:
        """Take a trial that pauses."""
        self._trials[trial.assignment.number] = trial.shelved()

    def plan(self, number: int) -> None:
        """Queue the trial that goes on now."""
        self._queue.plan_again([self._trials[number]])

    def beginning(self, model: int, running: RunningTrial | None) -> Beginning | None:
        """What a copy of a trial that pauses or runs begins with.

        Returns:
            None if it has no checkpoint, or one from which there is nothing left to train.
        """
        source = running or self._trials.get(model)
        if source is None or source.checkpoint is None or source.checkpoint_epochs >= self._epochs:
            return None
        return source.checkpoint, source.checkpoint_epochs

    def plan_copy(self, model: int, beginning: Beginning) -> None:
        """Queue a copy of a trial."""
        self._queue.plan_copy(model, self._memory.params(model), *beginning)

    def begun(self, number: int) -> None:
        """Note that a trial begins, or goes on."""
        self._trials.pop(number, None)
