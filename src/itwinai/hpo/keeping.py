"""Which checkpoints stay on disk once their trial has ended."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from itwinai.hpo.objectives import Losses, Objective, losses_of, pareto_front
from itwinai.hpo.results import StudyResult
from itwinai.hpo.trial import TrialState

#: Ends after which a trial may still go on.
_OPEN = (TrialState.INTERRUPTED, TrialState.PAUSED)


class CheckpointKeeper:
    """Deletes the checkpoints that nobody will ask for.

    Args:
        policy: Keep the best completed trial's (of several objectives, those of the Pareto front),
            all completed ones', or every trial's.
        objectives: What is optimised.
        result: The study so far, whose best checkpoints are the ones to beat.
    """

    def __init__(
        self,
        policy: Literal["best", "completed", "all"],
        objectives: Sequence[Objective],
        result: StudyResult,
    ) -> None:
        self._policy = policy
        self._best: list[tuple[Losses, Path]] = []
        for trial in result.front:
            losses = losses_of(objectives, trial.metrics)
            if trial.checkpoint is not None and losses is not None:
                self._best.append((losses, trial.checkpoint))

    def ended(self, state: TrialState, losses: Losses | None, checkpoint: Path | None) -> None:
        """Hear that a trial has ended with its losses; an interrupted one goes on later."""
        if checkpoint is None or self._policy == "all" or state in _OPEN:
            return
        if state is not TrialState.COMPLETED or losses is None:
            _delete(checkpoint)
        elif self._policy == "best":
            self._keep_the_front([*self._best, (losses, checkpoint)])

    def _keep_the_front(self, candidates: list[tuple[Losses, Path]]) -> None:
        single = len(candidates[0][0]) == 1
        # Of equally good trials with one objective, the first is the best.
        front = pareto_front([losses for losses, _ in candidates])[: 1 if single else None]
        self._best = [candidates[index] for index in front]
        for index, (_, checkpoint) in enumerate(candidates):
            if index not in front:
                _delete(checkpoint)


def _delete(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint, ignore_errors=True)
