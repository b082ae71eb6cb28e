"""What a study has spent."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from itwinai.hpo.record.attempts import Attempt
from itwinai.hpo.record.attributes import Start
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
        full_epochs: Epochs that would have been run without early stopping. A copy takes another
            trial's place, and adds none.
        elapsed: Seconds in which at least one trial ran.
    """

    epochs: float
    seconds: float
    full_epochs: float
    elapsed: float


def cost_of(attempts: Sequence[Attempt], trials: Sequence[TrialResult], epochs: int) -> Cost:
    """Add up what the trials of a study have cost, each in all its attempts.

    Args:
        attempts: All attempts at all trials.
        trials: The trials.
        epochs: Epochs of a full training.
    """
    run = sum(attempt.epochs for attempt in attempts)
    return Cost(
        epochs=epochs_as_kept(run),
        seconds=sum(attempt.seconds for attempt in attempts),
        full_epochs=epochs_as_kept(run + _spared(attempts, trials, epochs)),
        elapsed=_elapsed(attempts),
    )


def room_of(attempts: Sequence[Attempt], starts: Sequence[Start]) -> float:
    """Seconds of all slots that there were while any trial ran.

    In each run there were as many slots as were in use at once.

    Args:
        attempts: All attempts at all trials.
        starts: How the runs were started, the first one first.
    """
    times = [start.time for start in starts[1:]]
    runs: dict[int, list[Attempt]] = {}
    for attempt in attempts:
        runs.setdefault(bisect_right(times, attempt.began), []).append(attempt)
    return sum(most_at_once(run) * _elapsed(run) for run in runs.values())


def most_at_once(attempts: Iterable[Attempt]) -> int:
    """How many attempts overlap at most; where one ends another may begin."""
    known = list(attempts)
    changes = sorted([(a.ended, -1) for a in known] + [(a.began, 1) for a in known])
    return max(accumulate(change for _, change in changes), default=0)


def _spared(attempts: Sequence[Attempt], trials: Iterable[TrialResult], epochs: int) -> float:
    """Epochs that early stopping has spared: those that nobody trained in a stopped trial's place.

    A copy takes the place of a trial that was stopped, and is to train its own epochs there.
    """
    starts = {attempt.trial: attempt.start for attempt in reversed(attempts)}
    cut_short = sum(epochs - trial.epochs for trial in trials if trial.state in _CUT_SHORT)
    copied = sum(epochs - starts[t.number] for t in trials if t.parent is not None)
    return cut_short - copied


def _elapsed(attempts: Iterable[Attempt]) -> float:
    """Length of the union of the attempts' times."""
    total, until = 0.0, 0.0
    for attempt in sorted(attempts, key=lambda attempt: (attempt.began, attempt.ended)):
        total += max(0.0, attempt.ended - max(attempt.began, until))
        until = max(until, attempt.ended)
    return total
