"""How many epochs a running study has left, by what its own trials did and what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.insight.forecast import GoingOn, bracket_of, forecast, sizes_of
from itwinai.hpo.record import StudyResult
from itwinai.hpo.rungs import Bracket, Rungs
from itwinai.hpo.trial import OPEN, TrialResult, TrialState

#: What was expected after an epoch weighs as much as so many trials that have trained it.
_WEIGHT = 25

#: States from which a trial goes on.
_GOES_ON = (TrialState.RUNNING, *OPEN)

#: Where nobody knows of rungs.
_ONE_BRACKET = Rungs((Bracket((), 1.0),))
_UNKNOWN: tuple[GoingOn, ...] = ({},)

#: Parts of an epoch that are counted where trials report in the middle of one.
_TENTHS = 10


def epochs_left(result: StudyResult, total: int) -> float:
    """Estimate the epochs that a running study still trains.

    Of the trials that train an epoch, the share that ends there is estimated from those so far,
    the running ones being censored (Kaplan and Meier 1958); at a rung what was expected of it
    counts as well, so that an estimate is there from the first epoch on.

    Args:
        result: The study as it stands.
        total: Trials that it runs in all.
    """
    setup = result.setup
    rungs = (setup and setup.rungs) or _ONE_BRACKET
    going_on = _UNKNOWN if setup is None else forecast(setup, total, result.epochs).going_on
    new = sizes_of(rungs, len(result.trials), max(total, len(result.trials)))
    parts = _parts(result.trials)
    most = result.epochs * parts
    came = np.array([min(int(t.epochs * parts + 1e-6), most) for t in result.trials], int)
    goes_on = np.array([t.state in _GOES_ON for t in result.trials], bool)
    done = np.array([min(int(_done(t) * parts + 1e-6), most) for t in result.trials], int)
    brackets = bracket_of(rungs, np.array([t.number for t in result.trials], int))
    left = 0.0
    for index, prior in enumerate(going_on):
        own = brackets == index
        scaled = {math.ceil(level * parts - 1e-6): share for level, share in prior.items()}
        reached = _reached(came[own], came[own & ~goes_on], most, scaled)
        ahead = np.append(np.cumsum(reached[::-1])[::-1] / reached, 0.0)
        left += new[index] * float(reached.sum()) + float(ahead[done[own & goes_on]].sum())
    return left / parts


def _parts(trials: Iterable[TrialResult]) -> int:
    """Into how many parts an epoch is divided: by the first and last reports of the trials."""
    places = [place for trial in trials for place in (*trial.at[:1], trial.epochs)]
    return 1 if all(place == int(place) for place in places) else _TENTHS


def _reached(
    came: NDArray[np.int64],
    ended: NDArray[np.int64],
    epochs: int,
    prior: Mapping[int, Callable[[int], float]],
) -> NDArray[np.float64]:
    """Estimate the share of the trials that trains each epoch, or each part of one.

    Args:
        came: Epochs, or parts, of all trials that have begun.
        ended: Those of the ones that have ended.
        epochs: Those of a full training.
        prior: What was expected after some of them.
    """
    seen = np.bincount(came, minlength=epochs + 1)[::-1].cumsum()[::-1]
    ends = np.bincount(ended, minlength=epochs + 1)
    # One trial more, which trains to its end: the first that ends early does not speak for all.
    weight, expected = np.ones(epochs + 1), np.zeros(epochs + 1)
    for epoch, share in prior.items():
        weight[epoch], expected[epoch] = _WEIGHT, _WEIGHT * (1 - share(int(seen[epoch])))
    going_on: NDArray[np.float64] = 1 - (ends + expected) / (seen + weight)
    return np.asarray(np.cumprod(going_on[:epochs]), float)


def _done(trial: TrialResult) -> float:
    """Epochs that a trial which goes on need not train again."""
    if trial.state is TrialState.INTERRUPTED:
        return 0 if trial.checkpoint is None else trial.checkpoint_epochs
    return trial.epochs
