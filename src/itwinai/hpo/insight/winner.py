"""What the best trial is worth: its recorded value is the luckiest of many, and promises too much.

The search's model knows better than any single training, because similar configurations and
unfinished trainings speak for it, too. How much of a value is luck it has to leave open: with the
search's own prior it called most winners of a random search better where nothing but luck made
trials differ. Its interval is too narrow all the same, because the search looked where the model
was optimistic, and is widened (``benchmarks/winner.py``). It still is an estimate: only trainings
with fresh seeds prove a gain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from itwinai.hpo.insight.learnt import Learnt, learn
from itwinai.hpo.record import StudyResult
from itwinai.hpo.trial import TrialResult, TrialState

#: Half of a 95 % interval, in deviations of a normal distribution.
_HALF = 1.96
#: How many times wider than the model says an interval must be to hold what it promises.
_WIDENING = 2.4

#: Last words of the names of metrics that are never above 1, and of those never below 0.
_SHARES = ("accuracy", "acc", "auc", "auroc", "dice", "f1", "iou", "precision", "r2", "recall")
_ERRORS = ("error", "mae", "mape", "mse", "rmse")


@dataclass(frozen=True)
class Estimate:
    """A value of the primary metric with its 95 % interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class WinnerEstimate:
    """What is known of a study's best trial.

    Attributes:
        trial: The best trial.
        recorded: Its recorded value of the primary metric.
        expected: What another training of this configuration is expected to reach; None where the
            model has seen too few trials.
        default: The same of the default configuration; None if it has not run, or is the best.
        gain: How much better the best is than the default, positive if it is; None as before.
        trials: Trials that the model has seen.
    """

    trial: TrialResult
    recorded: float
    expected: Estimate | None = None
    default: Estimate | None = None
    gain: Estimate | None = None
    trials: int = 0

    @property
    def verdict(self) -> Literal["better", "open", "no default"]:
        """Whether it is better than the default: where the interval of the gain is above 0."""
        if self.gain is None:
            return "no default"
        return "better" if self.gain.lower > 0 else "open"


def estimate_winner(result: StudyResult) -> WinnerEstimate | None:
    """Estimate what a study's best trial is worth, from its record alone.

    Returns:
        The estimate, or None if no trial has reported the primary metric.
    """
    best = result.best
    recorded = None if best is None else best.metric(result.metric)
    if best is None or recorded is None or not math.isfinite(recorded):
        return None
    model = learn(result, open_to_luck=True)
    if model is None:
        return WinnerEstimate(best, recorded)
    default = _comparable(result, best)
    expected, *others = _estimates(result, model, [best] if default is None else [best, default])
    gain = _gain(result, expected, others[0]) if others else None
    return WinnerEstimate(
        best, recorded, expected, others[0] if others else None, gain, model.trials
    )


def _comparable(result: StudyResult, best: TrialResult) -> TrialResult | None:
    """The default trial, if another one is best and it was not left without a result."""
    default = result.default
    if default is None or default.number == best.number:
        return None
    known = default.metric(result.metric)
    usable = default.state in (TrialState.COMPLETED, TrialState.STOPPED, TrialState.PAUSED)
    return default if usable and known is not None and math.isfinite(known) else None


def _estimates(result: StudyResult, model: Learnt, trials: list[TrialResult]) -> list[Estimate]:
    means, deviations = model.predict([trial.params for trial in trials])
    half = _HALF * _WIDENING * deviations
    losses = model.scale.absolute(np.array([means, means - half, means + half]))
    # The scale has no end, an accuracy has: nothing is expected worse than what was ever reported.
    losses = np.clip(losses, _least(result, model), model.worst).T.tolist()
    if result.mode == "min":
        return [Estimate(*values) for values in losses]
    return [Estimate(-value, -upper, -lower) for value, lower, upper in losses]


def _least(result: StudyResult, model: Learnt) -> float:
    """The loss below which none can be, by the metric's name; of a share in percent none is."""
    word = result.metric.lower().rpartition("_")[2]
    if result.mode == "max":
        least = -1.0 if word in _SHARES else -math.inf
    else:
        least = 0.0 if word in _ERRORS else -math.inf
    return least if model.best >= least else -math.inf


def _gain(result: StudyResult, best: Estimate, default: Estimate) -> Estimate:
    """The difference of two independent estimates, whose intervals need not be symmetric.

    The method of variance estimates recovery (Zou and Donner, "Construction of confidence limits
    about effect measures", 2008, equation 8). Two similar configurations are not independent: their
    difference is known better than it says.
    """
    better, worse = (default, best) if result.mode == "min" else (best, default)
    value = better.value - worse.value
    down = math.hypot(better.value - better.lower, worse.upper - worse.value)
    up = math.hypot(better.upper - better.value, worse.value - worse.lower)
    return Estimate(value, value - down, value + up)
