"""The attempts of each trial: Optuna has one trial for each, where we have one for all."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from itwinai.hpo.record import attributes


def attempts_of(study: optuna.Study) -> dict[int, list[FrozenTrial]]:
    """Return the attempts of all trials that have started, by the trial's number."""
    attempts: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        number = attributes.number_of(trial)
        if number is not None and trial.state != OptunaState.WAITING:
            attempts.setdefault(number, []).append(trial)
    return attempts
