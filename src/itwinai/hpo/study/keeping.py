"""Which checkpoints stay on disk once their trial has ended."""

from __future__ import annotations

from pathlib import Path

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.objectives import Losses, losses_of, pareto_front
from itwinai.hpo.record import StudyResult
from itwinai.hpo.study.running import RunningTrial
from itwinai.hpo.trial import OPEN, TrialState
from itwinai.io.files import delete_folder

#: Names of checkpoints in a trial's folder: of an epoch, and of what a program itself hands over.
_NAMES = ("epoch_*", "report_*")

#: Losses, number and checkpoint of a completed trial.
_Rival = tuple[Losses, int, Path]


def delete_superseded(result: StudyResult) -> None:
    """Delete what the last trial of each slot left besides its newest checkpoint.

    A trial that may go on keeps all: it may have one in the middle of an epoch.
    """
    kept = {trial.checkpoint for trial in result.trials}
    trials = result.record.parent / "trials"
    ended = [trial.number for trial in result.trials if trial.state not in OPEN]
    for folder in (trials / f"{number:05d}" for number in ended):
        for path in [path for name in _NAMES for path in folder.glob(name)]:
            if path not in kept:
                delete_folder(path, within=trials)


class CheckpointKeeper:
    """Deletes the checkpoints that nobody will ask for.

    Args:
        configuration: The study's settings; its ``keep_checkpoints`` are the best completed trial's
            (of several objectives, those of the Pareto front), all completed ones', or every
            trial's.
        result: The study so far, whose best checkpoints are the ones to beat.
        candidates: With one objective, how many of the best trials may still be the one that is
            recommended in the end.
    """

    def __init__(
        self, configuration: StudyConfiguration, result: StudyResult, candidates: int
    ) -> None:
        self._directory = configuration.directory
        self._objectives = configuration.objectives
        self._policy = configuration.keep_checkpoints
        self._single = len(self._objectives) == 1
        self._candidates = candidates
        self._best: list[_Rival] = []
        for trial in result.trials if self._single else result.front:
            if trial.state is not TrialState.COMPLETED:
                continue
            losses = losses_of(self._objectives, trial.metrics)
            if trial.checkpoint is not None and losses is not None:
                self._best.append((losses, trial.number, trial.checkpoint))

    def ended(self, trial: RunningTrial, state: TrialState) -> None:
        """Hear that a trial has ended; an interrupted one goes on later."""
        losses, checkpoint = losses_of(self._objectives, trial.metrics), trial.checkpoint
        if checkpoint is None or self._policy == "all" or state in OPEN:
            return
        if state is not TrialState.COMPLETED or losses is None:
            delete_folder(checkpoint, within=self._directory)
        elif self._policy == "best":
            number = trial.assignment.number
            self._keep_the_best([*self._best, (losses, number, checkpoint)])

    def close(self, best: Path | None) -> None:
        """Hear which checkpoint the finished study recommends; only that one stays."""
        if self._policy == "best" and self._single and best is not None:
            for *_, checkpoint in self._best:
                if checkpoint != best:
                    delete_folder(checkpoint, within=self._directory)

    def _keep_the_best(self, rivals: list[_Rival]) -> None:
        if self._single:  # of equally good trials that with the lowest number is the best
            kept = sorted(rivals)[: self._candidates]
        else:
            kept = [rivals[index] for index in pareto_front([losses for losses, *_ in rivals])]
        self._best = kept
        for rival in rivals:
            if rival not in kept:
                delete_folder(rival[-1], within=self._directory)
