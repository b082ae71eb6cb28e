"""How many epochs a running study has left, by what its own trials did and what was expected."""

from __future__ import annotations

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
    came = np.array([min(t.epochs, result.epochs) for t in result.trials], int)
    goes_on = np.array([t.state in _GOES_ON for t in result.trials], bool)
    done = np.array([min(_done(t), result.epochs) for t in result.trials], int)
    brackets = bracket_of(rungs, np.array([t.number for t in result.trials], int))
    left = 0.0
    for index, prior in enumerate(going_on):
        own = brackets == index
        reached = _reached(came[own], came[own & ~goes_on], result.epochs, prior)
        ahead = np.append(np.cumsum(reached[::-1])[::-1] / reached, 0.0)
        left += new[index] * float(reached.sum()) + float(ahead[done[own & goes_on]].sum())
    return left


def _reached(
    came: NDArray[np.int64], ended: NDArray[np.int64], epochs: int, prior: GoingOn
) -> NDArray[np.float64]:
    """Estimate the share of the trials that trains each epoch, from the first to the last.

    Args:
        came: Epochs of all trials that have begun.
        ended: Epochs of those that have ended.
        epochs: Epochs of a full training.
        prior: What was expected.
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
