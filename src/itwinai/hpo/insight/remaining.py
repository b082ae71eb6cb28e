"""How many epochs a running study has left, by what its own trials did and what was expected."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.insight.forecast import GoingOn, forecast, sizes_of
from itwinai.hpo.record import Setup, StudyResult
from itwinai.hpo.rungs import Bracket, Rungs
from itwinai.hpo.trial import OPEN, TrialResult, TrialState

#: What was expected after an epoch weighs as much as so many trials that have trained it.
_WEIGHT = 25

#: States from which a trial goes on.
GOES_ON = (TrialState.RUNNING, *OPEN)

#: Where nobody knows of rungs.
_ONE_BRACKET = Rungs((Bracket((), 1.0),))
_UNKNOWN: tuple[GoingOn, ...] = ({},)

#: Parts of an epoch that are counted where trials report in the middle of one.
_TENTHS = 10


def epochs_left(result: StudyResult, total: int) -> float:
    """Estimate the epochs that a running study still trains.

    Args:
        result: The study as it stands.
        total: Trials that it runs in all.
    """
    return Remaining(result.setup, result.epochs).epochs_left(result.trials, total)


class Remaining:
    """Estimates the epochs that are left from the trials that have ended for good.

    Of the trials that train an epoch, the share that ends there is estimated from those so far,
    the running ones being censored (Kaplan and Meier 1958); at a rung what was expected of it
    counts as well, so that an estimate is there from the first epoch on. A trial that its scheduler
    would have stopped counts as one that has ended there, and is sure to train to its end.

    Args:
        setup: Who decides in the study; None where nobody knows.
        epochs: Epochs of a full training.
    """

    def __init__(self, setup: Setup | None, epochs: int) -> None:
        self._setup = setup
        self._epochs = epochs
        self._rungs = (setup and setup.rungs) or _ONE_BRACKET
        #: Of each bracket: how many trials have ended after so many tenths of an epoch.
        self._ends: list[Counter[int]] = [Counter() for _ in self._rungs.brackets]
        self._ended = 0
        self._in_parts = False

    def ended(self, trial: TrialResult) -> None:
        """Take a trial that has ended for good."""
        self._note_parts(trial)
        self._ended += 1
        self._ends[self._bracket_of(trial)][self._came(trial)] += 1

    def epochs_left(self, others: Sequence[TrialResult], total: int) -> float:
        """Estimate the epochs that are left.

        Args:
            others: All trials that have begun and were not taken as ended.
            total: Trials that the study runs in all.
        """
        setup, begun = self._setup, self._ended + len(others)
        total = max(begun, total)
        expected = _UNKNOWN if setup is None else forecast(setup, total, self._epochs).going_on
        audited = min(max(begun, 0 if setup is None else setup.audit), total)
        for trial in others:
            self._note_parts(trial)
        left = float(audited - begun) * self._epochs
        new = sizes_of(self._rungs, audited, total)
        for index, prior in enumerate(expected):
            own = [trial for trial in others if self._bracket_of(trial) == index]
            survival = self._survival(index, own, prior)
            left += new[index] * survival.whole
            left += sum(self._ahead(trial, survival) for trial in own)
        return left

    def _ahead(self, trial: TrialResult, survival: _Survival) -> float:
        """What a trial that has begun is expected to train."""
        if trial.state not in GOES_ON:
            return 0.0
        if trial.is_audited or trial.spared is not None:
            return max(0.0, self._epochs - _done(trial))
        return survival.ahead(_done(trial))

    def _survival(self, index: int, others: Sequence[TrialResult], prior: GoingOn) -> _Survival:
        """How far the trials of a bracket come."""
        ends, censored = self._ends[index].copy(), Counter[int]()
        for trial in others:
            goes_on = trial.state in GOES_ON and trial.spared is None
            (censored if goes_on else ends)[self._came(trial)] += 1
        return _Survival(ends, censored, self._levels(prior), self._epochs)

    def _levels(self, prior: GoingOn) -> dict[int, Callable[[int], float]]:
        """What is expected, by the tenths of an epoch at which trials report first after a rung."""
        parts = _TENTHS if self._in_parts else 1
        return {
            math.ceil(level * parts - 1e-6) * (_TENTHS // parts): share
            for level, share in prior.items()
        }

    def _note_parts(self, trial: TrialResult) -> None:
        """Note whether trials report in the middle of an epoch."""
        self._in_parts |= any(at != int(at) for at in (*trial.at[:1], trial.epochs))

    def _bracket_of(self, trial: TrialResult) -> int:
        return self._rungs.turns[trial.number % len(self._rungs.turns)]

    def _came(self, trial: TrialResult) -> int:
        """Tenths of an epoch after which it ended, or would have ended, or to which it has come."""
        epochs = trial.epochs if trial.spared is None else trial.spared
        return min(int(epochs * _TENTHS + 1e-6), self._epochs * _TENTHS)


class _Survival:
    """The share of the trials that trains on after each place, in tenths of an epoch.

    Args:
        ends: How many trials have ended at a place.
        censored: How many have come as far and not ended.
        prior: What was expected at some places.
        epochs: Epochs of a full training.
    """

    def __init__(
        self,
        ends: Mapping[int, int],
        censored: Mapping[int, int],
        prior: Mapping[int, Callable[[int], float]],
        epochs: int,
    ) -> None:
        end = epochs * _TENTHS
        places = np.array(sorted(place for place in {0, *ends, *prior} if place < end), int)
        seen = _as_far(places, ends) + _as_far(places, censored)
        # One trial more, which trains to its end: the first that ends early does not speak for all.
        weight = np.ones(len(places))
        ended = np.array([ends.get(int(place), 0) for place in places], float)
        for index, place in enumerate(places):
            if int(place) in prior:
                weight[index] = _WEIGHT
                ended[index] += _WEIGHT * (1 - prior[int(place)](int(seen[index])))
        self._places = np.append(places, end) / _TENTHS
        self._share = np.cumprod(1 - ended / (seen + weight))
        areas = self._share * np.diff(self._places)
        self._areas = np.append(np.cumsum(areas[::-1])[::-1], 0.0)

    @property
    def whole(self) -> float:
        """Epochs that a new trial is expected to train, which may end before its first one."""
        return float(self._areas[0])

    def ahead(self, done: float) -> float:
        """Epochs that a trial is expected to train which has gone on after so many."""
        if done >= self._places[-1]:
            return 0.0
        index = int(np.searchsorted(self._places, done + 1e-9, side="right")) - 1
        here = self._share[index] * (self._places[index + 1] - done)
        return float((here + self._areas[index + 1]) / self._share[index])


def _as_far(places: NDArray[np.int64], counts: Mapping[int, int]) -> NDArray[np.int64]:
    """How many have come to each place, or beyond."""
    known = sorted(counts)
    below = np.cumsum([0, *(counts[place] for place in known)])
    return np.asarray(below[-1] - below[np.searchsorted(known, places)])


def _done(trial: TrialResult) -> float:
    """Epochs that a trial which goes on need not train again."""
    if trial.state is TrialState.INTERRUPTED:
        return 0 if trial.checkpoint is None else trial.checkpoint_epochs
    return trial.epochs
