"""What a study has spent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from itwinai.hpo.record.attempts import Attempt
from itwinai.hpo.trial import TrialResult, TrialState, epochs_as_kept

#: Ends of trials that would have trained on without early stopping.
_CUT_SHORT = (TrialState.STOPPED, TrialState.PAUSED)


@dataclass(frozen=True)
class Cost:
    """What a study has spent.

    Attributes:
        epochs: Epochs run, over all trials.
        seconds: Seconds that trials held their slots, added up over all of them (two at once count
            twice). One that runs, or whose driver was killed, counts until its last report.
        full_epochs: Epochs that the same trials would have run without early stopping.
        elapsed: Seconds in which at least one trial ran.
    """

    epochs: float
    seconds: float
    full_epochs: float
    elapsed: float


def cost_of(attempts: Sequence[Attempt], trials: Iterable[TrialResult], epochs: int) -> Cost:
    """Add up what the trials of a study have cost, each in all its attempts.

    Args:
        attempts: All attempts at all trials.
        trials: The trials.
        epochs: Epochs of a full training.
    """
    full = sum(epochs if trial.state in _CUT_SHORT else trial.epochs for trial in trials)
    return Cost(
        epochs=epochs_as_kept(sum(attempt.epochs for attempt in attempts)),
        seconds=sum(attempt.seconds for attempt in attempts),
        full_epochs=epochs_as_kept(full),
        elapsed=_elapsed(attempts),
    )


def _elapsed(attempts: Iterable[Attempt]) -> float:
    """Length of the union of the attempts' times."""
    total, until = 0.0, 0.0
    for attempt in sorted(attempts, key=lambda attempt: (attempt.began, attempt.ended)):
        total += max(0.0, attempt.ended - max(attempt.began, until))
        until = max(until, attempt.ended)
    return total
