"""How many epochs a study will train, before it starts.

Of ``m`` trials that reach a rung one after the other in random order, successive halving lets
``sum over j <= m of max(1, floor(j * keep)) / j`` go on. A search that learns proposes better
trials later, which pass more often: the share of each rung is raised to a power that was measured.
However short the training, no more go on than come. Trials that are audited come first and are
compared like all others, but train to the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.insight.powers import POWERS, Power
from itwinai.hpo.record import Setup
from itwinai.hpo.rungs import Bracket, Rungs

#: The scheduler that lets every trial train to its end.
NO_SCHEDULER = "none"

#: Algorithms that learn nothing, so that later trials are no better than earlier ones.
_BLIND = ("random", "qmc", "grid")

#: Algorithms that learn from stopped trials, too; what others learn counts as what ``tpe`` does.
_MODELLED = ("mfgp", "bohb")

#: A rung that keeps this share is as patient as those of ``auto``.
_PATIENT = 0.5

#: A scheduler without rungs compares a trial with the median of the others after each epoch.
_HALF = 0.5

#: For each bracket the share of the trials at each of its rungs that goes on.
Shares = tuple[tuple[float, ...], ...]


#: By epochs, the share that goes on of the trials that still come, once so many have.
GoingOn = Mapping[float, Callable[[int], float]]


@dataclass(frozen=True)
class Spread:
    """A number that is not known yet.

    Attributes:
        expected: Half of the studies stay below.
        low: 5 % of them do.
        high: 95 % of them do.
    """

    expected: float
    low: float
    high: float

    def times(self, factor: float) -> Spread:
        """Scale it."""
        return Spread(self.expected * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Passing:
    """What is expected at a rung.

    Attributes:
        level: Epochs at which it lies.
        reach: Trials that come so far.
        go_on: Trials that train on from there.
    """

    level: float
    reach: float
    go_on: float


@dataclass(frozen=True)
class Forecast:
    """What is expected of a study's trials before it starts.

    Attributes:
        full: Epochs if every trial trained to its end.
        epochs: Epochs over all trials; None where nothing was measured for the scheduler, so that
            ``full`` is the most that there can be.
        rungs: The rungs of all brackets together, by their level.
        going_on: For each bracket, by the epochs that a trial has trained, the share that goes on
            of those that still come, told by how many have come; every trial does where nothing
            stands. Without rungs there is one bracket.
    """

    full: int
    epochs: Spread | None
    rungs: tuple[Passing, ...] = ()
    going_on: tuple[GoingOn, ...] = ({},)


def forecast(setup: Setup, trials: int, epochs: int) -> Forecast:
    """Say what to expect of a study.

    That the default configuration is not stopped is no part of it: where the powers were measured
    there was one.

    Args:
        setup: Who proposes, who stops early, and whom it does not stop.
        trials: Trials in all.
        epochs: Epochs of a full training.
    """
    return _forecast(row_of(setup), setup.rungs, trials, epochs, min(setup.audit, trials))


@lru_cache(maxsize=8)
def _forecast(row: str, rungs: Rungs | None, trials: int, epochs: int, audited: int) -> Forecast:
    full = trials * epochs
    if row == NO_SCHEDULER:
        return Forecast(full, Spread(full, full, full))
    measured = POWERS.get(row)
    if rungs is None and measured is None:
        return Forecast(full, None)
    power = Power(trials, 1, 1, 1) if measured is None else _between(measured, trials)
    values = (power.median, power.high, power.low)
    spread = Spread(*(epochs_expected(rungs, trials, epochs, value, audited) for value in values))
    if rungs is None:
        share = _HALF**power.median
        return Forecast(full, spread, (), (_evenly(share, epochs),))
    sizes, nominal = _nominal(rungs, trials)
    shares = _raised(nominal, power.median)
    going_on = tuple(
        {
            level: partial(_later_share, bracket.keep, float(come), power.median)
            for level, come in zip(bracket.levels, _climbing(size, passing), strict=False)
        }
        for bracket, size, passing in zip(rungs.brackets, sizes, shares, strict=True)
    )
    coming = _coming(rungs, trials, power.median, audited)
    return Forecast(full, spread, _passing(rungs, coming), going_on)


def epochs_expected(
    rungs: Rungs | None, trials: int, epochs: int, power: float = 1.0, audited: int = 0
) -> float:
    """Epochs that a study trains if as many go on as in random order, raised to a power.

    Args:
        rungs: Where trials are compared; None: after each epoch, with half of them.
        trials: Trials in all.
        epochs: Epochs of a full training.
        power: Of each share that goes on; below 1, more do.
        audited: The first so many train to the end.
    """
    if rungs is None:
        each = float(np.sum(_HALF ** (power * np.arange(epochs))))
        return (trials - audited) * each + audited * epochs
    total = 0.0
    for bracket, came in zip(rungs.brackets, _coming(rungs, trials, power, audited), strict=True):
        total += float(np.dot(np.diff([0.0, *bracket.levels, epochs]), came))
    return total


def row_of(setup: Setup) -> str:
    """Under which name studies like this one were measured, if they were."""
    name = setup.scheduler
    if name == NO_SCHEDULER:
        return name
    if name == "asha" and setup.rungs and setup.rungs.brackets[0].keep >= _PATIENT:
        name = "asha, patient"
    if setup.algorithm in _BLIND:
        return f"{name}, random"
    return name if setup.algorithm in _MODELLED else f"{name}, tpe"


def bracket_of(rungs: Rungs, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of each trial's bracket."""
    return np.asarray(rungs.turns)[numbers % len(rungs.turns)]


def sizes_of(rungs: Rungs, begin: int, end: int) -> list[int]:
    """Trials of each bracket among those with these numbers."""
    brackets = bracket_of(rungs, np.arange(begin, end))
    return [int(size) for size in np.bincount(brackets, minlength=len(rungs.brackets))]


def _between(measured: Sequence[Power], trials: int) -> Power:
    """Read a power off the measured ones, along the logarithm of the number of trials."""
    at, x = [math.log(power.trials) for power in measured], math.log(trials)
    median = float(np.interp(x, at, [power.median for power in measured]))
    low = float(np.interp(x, at, [power.low for power in measured]))
    high = float(np.interp(x, at, [power.high for power in measured]))
    return Power(trials, median, low, high)


def _nominal(rungs: Rungs, trials: int) -> tuple[list[int], Shares]:
    """The sizes of the brackets, and the shares that go on if trials come in random order."""
    sizes = sizes_of(rungs, 0, trials)
    return sizes, tuple(map(_shares, rungs.brackets, sizes))


def _shares(bracket: Bracket, trials: int) -> tuple[float, ...]:
    """The share of the trials at each rung that goes on, if they come in random order."""
    came, shares = float(trials), []
    for _ in bracket.levels:
        on = _passed(came, bracket.keep)
        shares.append(on / came if came else 1.0)
        came = on
    return tuple(shares)


def _passed(trials: float, keep: float) -> float:
    """Of the trials at a rung the number that goes on; the last of them may be a part of one."""
    order = np.arange(1, math.ceil(trials) + 1)
    chance = np.maximum(1, np.floor(order * keep + 1e-9)) / order
    part: NDArray[np.float64] = np.minimum(1, trials - order + 1)
    return float(np.dot(chance, part))


def _climbing(size: int, shares: Sequence[float]) -> NDArray[np.float64]:
    """Trials of a bracket that reach each rung, and, at last, the end."""
    return np.asarray(size * np.cumprod([1.0, *shares]), float)


def _coming(rungs: Rungs, trials: int, power: float, audited: int = 0) -> list[NDArray[np.float64]]:
    """Trials of each bracket that reach each of its rungs, and, at last, the end.

    Of the first so many, which are audited, those that would have been stopped come as well.
    """
    sizes, nominal = _nominal(rungs, trials)
    coming = [*map(_climbing, sizes, _raised(nominal, power))]
    if audited:
        stopped = _coming(rungs, audited, power)
        coming = [every + came[0] - came for every, came in zip(coming, stopped, strict=True)]
    return coming


def _later_share(keep: float, come: float, power: float, came: int) -> float:
    """The share of a rung's later trials: the first ones go on more often, the very first always.

    Args:
        keep: The rung's own share.
        come: Trials that are expected at the rung.
        power: Of what goes on in random order.
        came: Trials that have been there.
    """
    come = max(come, came + 1.0)
    share = (_passed(come, keep) - _passed(came, keep)) / (come - came)
    return math.pow(share, power)


def _raised(nominal: Shares, power: float) -> Shares:
    return tuple(tuple(share**power for share in bracket) for bracket in nominal)


def _evenly(share: float, epochs: int) -> GoingOn:
    """The same share goes on after each epoch."""
    return dict.fromkeys(map(float, range(1, epochs)), lambda came: share)


def _passing(rungs: Rungs, coming: Sequence[NDArray[np.float64]]) -> tuple[Passing, ...]:
    reach: dict[float, float] = {}
    go_on: dict[float, float] = {}
    for bracket, came in zip(rungs.brackets, coming, strict=True):
        for level, before, after in zip(bracket.levels, came, came[1:], strict=False):
            reach[level] = reach.get(level, 0.0) + float(before)
            go_on[level] = go_on.get(level, 0.0) + float(after)
    return tuple(Passing(level, reach[level], go_on[level]) for level in sorted(reach))
