"""How many epochs a study will train, before it starts.

Of ``m`` trials that reach a rung one after the other in random order, successive halving lets
``sum over j <= m of max(1, floor(j * keep)) / j`` go on. A search that learns proposes better
trials later, which pass more often: what comes out is multiplied by a ratio that was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.insight.ratios import RATIOS, Ratio
from itwinai.hpo.record import Setup
from itwinai.hpo.rungs import Bracket, Rungs

#: The scheduler that lets every trial train to its end.
NO_SCHEDULER = "none"

#: Algorithms that learn nothing, so that later trials are no better than earlier ones.
_BLIND = ("random", "qmc", "grid")

#: A rung that keeps this share is as patient as those of ``auto``.
_PATIENT = 0.5

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

    Args:
        setup: Who proposes and who stops early.
        trials: Trials in all.
        epochs: Epochs of a full training.
    """
    return _forecast(row_of(setup), setup.rungs, trials, epochs)


@lru_cache(maxsize=8)
def _forecast(row: str, rungs: Rungs | None, trials: int, epochs: int) -> Forecast:
    full = trials * epochs
    if row == NO_SCHEDULER:
        return Forecast(full, Spread(full, full, full))
    measured = RATIOS.get(row)
    ratio = Ratio(trials, 1, 1, 1) if measured is None else _between(measured, trials)
    if rungs is None and measured is None:
        return Forecast(full, None)
    if rungs is None:
        spread = _spread(ratio, full, full)
        return Forecast(full, spread, (), (_evenly(spread.expected / trials, epochs),))
    sizes = sizes_of(rungs, 0, trials)
    nominal = tuple(map(_shares, rungs.brackets, sizes))
    spread = _spread(ratio, _trained(rungs, sizes, nominal, epochs), full)
    lift = _lift(rungs, sizes, nominal, epochs, spread.expected)
    shares = _lifted(nominal, lift)
    going_on = tuple(
        {
            level: partial(_later_share, bracket.keep, float(come), lift)
            for level, come in zip(bracket.levels, _climbing(size, passing), strict=False)
        }
        for bracket, size, passing in zip(rungs.brackets, sizes, shares, strict=True)
    )
    return Forecast(full, spread, _passing(rungs, sizes, shares), going_on)


def epochs_by_rungs(rungs: Rungs | None, trials: int, epochs: int) -> float:
    """Epochs that a study trains if its trials come in random order: 1 in the measured ratios."""
    if rungs is None:
        return trials * epochs
    sizes = sizes_of(rungs, 0, trials)
    return _trained(rungs, sizes, tuple(map(_shares, rungs.brackets, sizes)), epochs)


def row_of(setup: Setup) -> str:
    """Under which name studies like this one were measured, if they were."""
    name = setup.scheduler
    if name == "asha" and setup.rungs and setup.rungs.brackets[0].keep >= _PATIENT:
        name = "asha, patient"
    blind = setup.algorithm in _BLIND and name != NO_SCHEDULER
    return f"{name}, random" if blind else name


def bracket_of(rungs: Rungs, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of each trial's bracket."""
    return np.asarray(rungs.turns)[numbers % len(rungs.turns)]


def sizes_of(rungs: Rungs, begin: int, end: int) -> list[int]:
    """Trials of each bracket among those with these numbers."""
    brackets = bracket_of(rungs, np.arange(begin, end))
    return [int(size) for size in np.bincount(brackets, minlength=len(rungs.brackets))]


def _between(measured: Sequence[Ratio], trials: int) -> Ratio:
    """Read a ratio off the measured ones, along the logarithm of the number of trials."""
    at, x = [math.log(ratio.trials) for ratio in measured], math.log(trials)
    median = float(np.interp(x, at, [ratio.median for ratio in measured]))
    low = float(np.interp(x, at, [ratio.low for ratio in measured]))
    high = float(np.interp(x, at, [ratio.high for ratio in measured]))
    return Ratio(trials, median, low, high)


def _spread(ratio: Ratio, base: float, full: float) -> Spread:
    return Spread(*(min(full, base * value) for value in (ratio.median, ratio.low, ratio.high)))


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


def _trained(rungs: Rungs, sizes: Sequence[int], shares: Shares, epochs: int) -> float:
    """Epochs of all trials if these shares go on."""
    total = 0.0
    for bracket, size, going_on in zip(rungs.brackets, sizes, shares, strict=True):
        steps = np.diff([0.0, *bracket.levels, epochs])
        total += float(np.dot(steps, _climbing(size, going_on)))
    return total


def _later_share(keep: float, come: float, lift: float, came: int) -> float:
    """The share of a rung's later trials: the first ones go on more often, the very first always.

    Args:
        keep: The rung's own share.
        come: Trials that are expected at the rung.
        lift: As of :func:`_lift`.
        came: Trials that have been there.
    """
    come = max(come, came + 1.0)
    share = (_passed(come, keep) - _passed(came, keep)) / (come - came)
    return math.pow(share, lift)


def _lifted(nominal: Shares, lift: float) -> Shares:
    return tuple(tuple(share**lift for share in bracket) for bracket in nominal)


def _lift(rungs: Rungs, sizes: Sequence[int], nominal: Shares, epochs: int, wanted: float) -> float:
    """The power of all shares at which so many epochs are trained: below 1, more trials go on."""

    def trained(lift: float) -> float:
        return _trained(rungs, sizes, _lifted(nominal, lift), epochs)

    return _falling_to(wanted, trained, 0.0, 8.0)


def _evenly(wanted: float, epochs: int) -> GoingOn:
    """The share that goes on, the same after each epoch, if a trial trains so many on average."""

    def trained(ending: float) -> float:
        return float(np.sum((1 - ending) ** np.arange(epochs)))

    share = 1 - _falling_to(wanted, trained, 0.0, 1.0)
    return dict.fromkeys(map(float, range(1, epochs)), lambda came: share)


def _falling_to(
    wanted: float, function: Callable[[float], float], low: float, high: float
) -> float:
    """Where a falling function has a value, by bisection; an end where it never has."""
    for _ in range(40):
        middle = (low + high) / 2
        if function(middle) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _passing(rungs: Rungs, sizes: Sequence[int], shares: Shares) -> tuple[Passing, ...]:
    reach: dict[float, float] = {}
    go_on: dict[float, float] = {}
    for bracket, size, going_on in zip(rungs.brackets, sizes, shares, strict=True):
        came = _climbing(size, going_on)
        for level, before, after in zip(bracket.levels, came, came[1:], strict=False):
            reach[level] = reach.get(level, 0.0) + float(before)
            go_on[level] = go_on.get(level, 0.0) + float(after)
    return tuple(Passing(level, reach[level], go_on[level]) for level in sorted(reach))
