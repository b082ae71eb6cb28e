"""The attempts of each trial: Optuna has one trial for each, where we have one for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from itwinai.hpo.record import attributes


@dataclass(frozen=True)
class Attempt:
    """When a trial was in a slot; one that was interrupted and went on was there several times.

    Attributes:
        trial: The trial's number.
        began: Seconds since 1970.
        ended: The same; of an attempt without an end it is that of its last epoch.
    """

    trial: int
    began: float
    ended: float

    @classmethod
    def of(cls, number: int, attempt: FrozenTrial) -> Attempt:
        """Read it from Optuna's trial of it."""
        began = attempt.datetime_start.timestamp() if attempt.datetime_start else 0.0
        seconds = attributes.End.read(attempt.user_attrs).seconds
        if seconds is None:
            history = attributes.history_of(attempt.user_attrs)
            times = [entry.seconds for entry in history.values()]
            # An attempt that goes on with a checkpoint counts on from its seconds.
            seconds = max(times) - (min(times) if len(times) > 1 else 0.0) if times else 0.0
        return cls(number, began, began + seconds)


def times_of(attempts: Mapping[int, list[FrozenTrial]]) -> tuple[Attempt, ...]:
    """Return when all attempts were in their slots, the earliest first."""
    every = [Attempt.of(number, a) for number, several in attempts.items() for a in several]
    return tuple(sorted(every, key=lambda attempt: (attempt.began, attempt.trial)))


def attempts_of(study: optuna.Study) -> dict[int, list[FrozenTrial]]:
    """Return the attempts of all trials that have started, by the trial's number."""
    attempts: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        number = attributes.number_of(trial)
        if number is not None and trial.state != OptunaState.WAITING:
            attempts.setdefault(number, []).append(trial)
    return attempts
