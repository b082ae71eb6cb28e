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
        values = self._values(trial)
        if not values:
            return ""
        width = min(WIDTH, self._epochs)
        length = max(1, round(width * len(values) / max(self._epochs, len(values))))
        ends = np.ceil(np.linspace(0, len(values), length + 1)[1:]).astype(int)
        return "".join(self._level(values[end - 1]) for end in ends)

    def _values(self, trial: TrialResult) -> Sequence[float]:
        values = (metric_value(metrics, self._metric) for metrics in trial.history)
        return [math.nan if value is None else value for value in values]

    def _level(self, value: float) -> str:
        if not math.isfinite(value):
            return " "
        if self._high <= self._low:
            return _LEVELS[0]
        share = (value - self._low) / (self._high - self._low)
        return _LEVELS[min(len(_LEVELS) - 1, max(0, int(share * len(_LEVELS))))]


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
