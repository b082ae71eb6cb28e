"""Learning curves of a few characters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from itwinai.hpo.record import StudyResult
from itwinai.hpo.trial import TrialResult, metric_value

_LEVELS = "▁▂▃▄▅▆▇█"

#: Characters of a curve at most.
WIDTH = 10

#: Of all values of a study, the share that lies between the lowest and the highest level.
_SHOWN = (5, 95)


class Sparks:
    """Draws the learning curves of some trials at one scale, so that they can be compared.

    Args:
        result: Their study, by whose primary metric.
        trials: The trials.
    """

    def __init__(self, result: StudyResult, trials: Iterable[TrialResult]) -> None:
        self._metric = result.metric
        self._epochs = result.epochs
        values = _finite(v for trial in trials for v in self._values(trial))
        low, high = np.percentile(values, _SHOWN) if values else (0.0, 0.0)
        self._low, self._high = float(low), float(high)

    def of(self, trial: TrialResult) -> str:
        """One character for each epoch, or for some: as long as the trial came of its training."""
        shares = self.shares(trial)
        if not shares:
            return ""
        width = min(WIDTH, self._epochs)
        length = max(1, round(width * trial.epochs / max(self._epochs, trial.epochs)))
        ends = np.searchsorted(trial.at, np.linspace(0, trial.epochs, length + 1)[1:])
        return "".join(_level(shares[min(end, len(shares) - 1)]) for end in ends)

    def shares(self, trial: TrialResult) -> Sequence[float]:
        """How high the value of each report lies in the scale, from 0 to 1; NaN where none is."""
        span = self._high - self._low
        return [
            min(1.0, max(0.0, (value - self._low) / span if span > 0 else 0.0))
            if math.isfinite(value)
            else math.nan
            for value in self._values(trial)
        ]

    def _values(self, trial: TrialResult) -> Sequence[float]:
        values = (metric_value(metrics, self._metric) for metrics in trial.history)
        return [math.nan if value is None else value for value in values]


def _level(share: float) -> str:
    return _LEVELS[min(len(_LEVELS) - 1, int(share * len(_LEVELS)))] if share >= 0 else " "


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
