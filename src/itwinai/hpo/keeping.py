"""Which checkpoints stay on disk once their trial has ended."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from itwinai.hpo.results import StudyResult
from itwinai.hpo.trial import TrialState


class CheckpointKeeper:
    """Deletes the checkpoints that nobody will ask for.

    Args:
        policy: Keep the best completed trial's, all completed ones', or every trial's.
        result: The study so far, whose best checkpoint is the one to beat.
    """

    def __init__(self, policy: Literal["best", "completed", "all"], result: StudyResult) -> None:
        self._policy = policy
        self._higher_is_better = result.mode == "max"
        self._best: tuple[float, Path] | None = None
        best = result.best
        if best is not None and best.state is TrialState.COMPLETED and best.checkpoint is not None:
            value = best.metric(result.metric)
            self._best = None if value is None else (self._score(value), best.checkpoint)

    def ended(self, state: TrialState, value: float | None, checkpoint: Path | None) -> None:
        """Hear that a trial has ended with a metric's value; an interrupted one goes on later."""
        if checkpoint is None or self._policy == "all" or state is TrialState.INTERRUPTED:
            return
        if state is not TrialState.COMPLETED or value is None:
            shutil.rmtree(checkpoint, ignore_errors=True)
        elif self._policy == "best":
            self._keep_the_better(self._score(value), checkpoint)

    def _keep_the_better(self, score: float, checkpoint: Path) -> None:
        loser: tuple[float, Path] | None = (score, checkpoint)
        if self._best is None or score > self._best[0]:
            loser, self._best = self._best, (score, checkpoint)
        if loser is not None:
            shutil.rmtree(loser[1], ignore_errors=True)

    def _score(self, value: float) -> float:
        return value if self._higher_is_better else -value
