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
        seconds: Seconds that it held the slot, the start of its process included. Of one that runs,
            or whose driver was killed: seconds that it had trained at its last report.
        nodes: Names of the nodes on which it ran last; empty if nobody knew.
        start: Epochs that it began with, those of its checkpoint.
        epochs: Epochs that it has trained, those included that were trained again because a process
            was lost.
    """

    trial: int
    began: float
    seconds: float
    nodes: tuple[str, ...] = ()
    start: float = 0
    epochs: float = 0

    @property
    def ended(self) -> float:
        """When it ended, or reported last, in seconds since 1970."""
        return self.began + self.seconds

    @classmethod
    def of(
        cls, number: int, attempt: FrozenTrial, before: Mapping[float, attributes.Entry]
    ) -> Attempt:
        """Read it from Optuna's trial of it.

        Args:
            number: The trial's number.
            attempt: Optuna's trial.
            before: Earlier reports that it went on with.
        """
        reports = attributes.history_of(attempt.user_attrs)
        start = attributes.Plan.read(attempt.user_attrs).epochs
        seconds = attributes.End.read(attempt.user_attrs).seconds
        if seconds is None:
            # It counts on from the seconds at its checkpoint.
            since = max((entry.seconds for at, entry in before.items() if at <= start), default=0.0)
            seconds = max((entry.seconds - since for entry in reports.values()), default=0.0)
        return cls(
            trial=number,
            began=attempt.datetime_start.timestamp() if attempt.datetime_start else 0.0,
            seconds=max(0.0, seconds),
            nodes=tuple(attempt.user_attrs.get(attributes.RAN_ON, ())),
            start=start,
            epochs=max(reports, default=start)
            - start
            + attempt.user_attrs.get(attributes.REPEATED, 0),
        )


def attempts_of(study: optuna.Study) -> dict[int, list[FrozenTrial]]:
    """Return the attempts of all trials that have started, by the trial's number."""
    attempts: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        number = attributes.number_of(trial)
        if number is not None and trial.state != OptunaState.WAITING:
            attempts.setdefault(number, []).append(trial)
    return attempts
