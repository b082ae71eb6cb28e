"""What a study has spent without getting anything for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.insight.finding import Finding, alike, ended
from itwinai.hpo.insight.forecast import NO_SCHEDULER
from itwinai.hpo.record import StudyResult
from itwinai.hpo.study.choosing import FIRST_RUNG
from itwinai.hpo.trial import TrialState

Array = NDArray[np.float64]

#: Trials trained to the end that there must be to say that they were in vain, and the best of them
#: that early stopping must not have ended.
_FEWEST, _BEST = 10, 3
#: Share of a study below which a waste is not worth a word, and seconds of idle slots.
_WORTH, _SECONDS = 0.1, 60.0
#: Share of the slots' time from which on their idleness is told.
_IDLE = 0.25


def never_led(result: StudyResult) -> Iterator[Finding]:
    """Find what early stopping would have saved in a study that stops no trial.

    The worse half at a third of the training is what it would have ended. Nothing is said if one of
    the best three trials is in that half.
    """
    curves = _curves(result)
    third = result.epochs // 3
    has_scheduler = result.setup is not None and result.setup.scheduler != NO_SCHEDULER
    if has_scheduler or _any(result, TrialState.STOPPED, TrialState.PAUSED):
        return
    if len(curves) < _FEWEST or result.epochs <= FIRST_RUNG:  # the remedy would stop none either
        return
    losses = curves[:, third - 1]
    # Of equal ones none is worse.
    worse = set(np.flatnonzero(losses > np.sort(losses)[(len(losses) - 1) // 2]).tolist())
    best = np.argsort(curves[:, -1], kind="stable")[:_BEST]
    if not worse or worse & set(best.tolist()):
        return
    saved = len(worse) * (result.epochs - third)
    yield Finding(
        kind="waste",
        evidence=f"No trial was stopped early, and of the {len(worse)} that were in the worse half "
        f"after epoch {third} none ended among the best {_BEST}.",
        cost=f"{saved} of {result.cost.epochs:g} epochs trained them to their end.",
        remedy="Let a scheduler stop such trials.",
        patch={"study": {"scheduler": "auto"}},
    )


def duplicates(result: StudyResult) -> Iterator[Finding]:
    """Find trials of values that an earlier trial had, where they are a tenth of all or more."""
    trials = [trial for trial in ended(result) if trial.parent is None]
    groups = alike(trials)
    repeated = [trial for _, *later in groups for trial in later]
    if not trials or len(repeated) < max(2, _WORTH * len(trials)):
        return
    different = len(trials) - len(repeated)
    sizes = [domain.size for domain in result.space.values()]
    # A default may lie outside the space.
    outside = sum(result.space.complaint(first.params) is not None for first, *_ in groups)
    points = None if None in sizes else int(np.prod([s for s in sizes if s is not None]))
    exhausted = points is not None and different - outside >= points
    yield Finding(
        kind="waste",
        evidence=f"{len(repeated)} of {len(trials)} trials had the values of an earlier one.",
        cost=f"{sum(trial.epochs for trial in repeated):g} epochs tried nothing new.",
        remedy=f"The space has {points} points; {different} trials are enough to try them all."
        if exhausted
        else "Give the search more values to choose from, or fewer trials.",
        patch={"study": {"num_samples": different}} if exhausted else {},
    )


def idle_slots(result: StudyResult) -> Iterator[Finding]:
    """Find slots that had no trial for a quarter of the time or more."""
    attempts = result.attempts
    if not attempts:
        return
    busy = sum(attempt.seconds for attempt in attempts)
    idle = result.slot_seconds - busy
    if idle < _SECONDS or idle < _IDLE * (idle + busy):
        return
    yield Finding(
        kind="waste",
        evidence=f"Slots had no trial for {idle / (idle + busy):.0%} of their time.",
        cost=f"{idle:.0f} seconds of a slot.",
        remedy="Run several times as many trials as there are slots, or fewer at the same time.",
    )


def _curves(result: StudyResult) -> Array:
    """Losses (n, epochs) of the trials that trained to the last epoch."""
    objective = result.objectives[0]
    complete = [t for t in result.trials if t.state is TrialState.COMPLETED]
    curves = [[objective.loss(m) for m in t.whole_epochs] for t in complete if t.parent is None]
    known = [c for c in curves if len(c) == result.epochs and None not in c]
    return np.array(known, float).reshape(len(known), result.epochs)


def _any(result: StudyResult, *states: TrialState) -> bool:
    return any(trial.state in states for trial in result.trials)
