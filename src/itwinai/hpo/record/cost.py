"""What a study has spent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from itwinai.hpo.record import attributes
from itwinai.hpo.record.attempts import Attempt
from itwinai.hpo.trial import TrialResult, TrialState, epochs_as_kept

#: Ends of trials that would have trained on without early stopping.
_CUT_SHORT = (TrialState.STOPPED, TrialState.PAUSED)


@dataclass(frozen=True)
class Cost:
    """What a study has spent.

    Attributes:
        epochs: Epochs run, over all trials.
        seconds: Seconds of training, added up over all trials (two at once count twice).
        full_epochs: Epochs that the same trials would have run without early stopping.
        elapsed: Seconds in which at least one trial ran.
    """

    epochs: float
    seconds: float
    full_epochs: float
    elapsed: float


def cost_of(
    attempts: Iterable[list[FrozenTrial]],
    times: Iterable[Attempt],
    trials: Iterable[TrialResult],
    epochs: int,
) -> Cost:
    """Add up what the trials of a study have cost, each in all its attempts.

    Args:
        attempts: The attempts of each trial.
        times: When each of them ran.
        trials: The trials.
        epochs: Epochs of a full training.
    """
    every = [attempt for of_trial in attempts for attempt in of_trial]
    full = sum(epochs if trial.state in _CUT_SHORT else trial.epochs for trial in trials)
    return Cost(
        epochs=epochs_as_kept(sum(attributes.epochs_trained(a.user_attrs) for a in every)),
        seconds=sum(attributes.End.read(attempt.user_attrs).seconds or 0.0 for attempt in every),
        full_epochs=epochs_as_kept(full),
        elapsed=_elapsed(times),
    )


def _elapsed(times: Iterable[Attempt]) -> float:
    """Length of the union of the attempts' times."""
    total, until = 0.0, 0.0
    for time in sorted(times, key=lambda time: (time.began, time.ended)):
        total += max(0.0, time.ended - max(time.began, until))
        until = max(until, time.ended)
    return total
