"""How the trials of a running study stand, kept up to date with each that ends.

To tell it anew from all trials would take longer the more have ended.
"""

from __future__ import annotations

from dataclasses import replace

from itwinai.hpo.display.view import UNDECIDED
from itwinai.hpo.insight.remaining import GOES_ON, Remaining
from itwinai.hpo.record import StudyResult
from itwinai.hpo.trial import TrialResult, TrialState


class Tally:
    """Keeps what matters of the trials that have ended for good, and those that have not.

    Args:
        result: The study as it stands.
    """

    def __init__(self, result: StudyResult) -> None:
        self._result = replace(result, trials=())
        self._going_on = {t.number: t for t in result.trials if t.state in GOES_ON}
        ended = tuple(trial for trial in result.trials if trial.state not in GOES_ON)
        self._ended = len(ended)
        self._best = _best_ones(replace(result, trials=ended))
        self._remaining = Remaining(result.setup, result.epochs)
        for trial in ended:
            self._remaining.ended(trial)

    def heard(self, trial: TrialResult) -> None:
        """Take a trial that has begun or reported; its end may be decided already."""
        self._going_on[trial.number] = trial

    def ended(self, trial: TrialResult) -> None:
        """Take a trial that has ended; it may yet go on."""
        if trial.state in GOES_ON:
            self._going_on[trial.number] = trial
            return
        self._going_on.pop(trial.number, None)
        if trial.state is TrialState.COMPLETED:  # whatever was recommended was chosen without it
            self._result = replace(self._result, recommended=None)
        self._ended += 1
        self._best = _best_ones(replace(self._result, trials=(*self._best, trial)))
        self._remaining.ended(trial)

    @property
    def result(self) -> StudyResult:
        """The study with those of its trials alone that may be the best, or be on the front."""
        return replace(self._result, trials=(*self._best, *self._going_on.values()))

    @property
    def done(self) -> int:
        """Trials that have ended; a paused or interrupted one may yet go on."""
        decided = sum(trial.state not in UNDECIDED for trial in self._going_on.values())
        return self._ended + decided

    def epochs_left(self, total: int) -> float:
        """Estimate the epochs that are left of so many trials."""
        return self._remaining.epochs_left([*self._going_on.values()], total)


def _best_ones(result: StudyResult) -> tuple[TrialResult, ...]:
    """The best trial, and the best by values alone: one, or, of several objectives, the front."""
    several = len(result.objectives) > 1
    by_values = result.front if several else (replace(result, recommended=None).best,)
    known = [trial for trial in (result.best, *by_values) if trial is not None]
    return tuple({trial.number: trial for trial in known}.values())
