"""Values of trainings that ended at different epochs, on the scale of complete ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: What is believed of the step from one epoch to a later one before any trial has shown it: that
#: values stay, give or take this much (in units of the distance from the best to the median value),
#: with the weight of so many trials.
_SPREAD, _WEIGHT = 0.5, 2.0


@dataclass(frozen=True)
class Observation:
    """What is known of a trial.

    Attributes:
        params: The active hyper-parameters, the user's values.
        curve: The metric at each report, lower is better; it may end in NaN or infinity (the
            training diverged).
        state: ``completed`` was trained to the last epoch, ``stopped`` ended before.
        at: Epochs trained at each report; 1, 2, 3, ... where nothing is given.
    """

    params: Mapping[str, Any]
    curve: Sequence[float]
    state: Literal["running", "completed", "stopped", "diverged"]
    at: Sequence[float] = ()

    def __post_init__(self) -> None:
        if not self.at:
            object.__setattr__(self, "at", range(1, len(self.curve) + 1))

    @property
    def finished(self) -> bool:
        """Tell whether the training came to its end, with a value."""
        return self.state == "completed" and len(self.curve) > 0 and not self.diverged

    @property
    def diverged(self) -> bool:
        """Tell whether the training ended in values that are no numbers."""
        return self.state == "diverged" or not np.isfinite(self.curve).all()


@dataclass(frozen=True)
class Line:
    """Predicts values at a later epoch from those at an earlier one, with a variance around it."""

    intercept: float = 0.0
    slope: float = 1.0
    variance: float = 0.0

    def then(self, later: Line) -> Line:
        """Return the line that follows this one and then ``later``."""
        return Line(
            later.intercept + later.slope * self.intercept,
            later.slope * self.slope,
            later.variance + later.slope**2 * self.variance,
        )


@dataclass(frozen=True)
class Scale:
    """Values of a metric as a regression sees them.

    It is linear from the best latest value, 0, to the median, 1, and logarithmic beyond, where it
    does not matter how bad a trial is.

    Attributes:
        best: The best latest value.
        unit: The distance from there to the median.
    """

    best: float
    unit: float

    def relative(self, values: Array) -> Array:
        """Return values of the metric on this scale."""
        relative = (values - self.best) / self.unit
        return np.where(relative > 1, 1 + np.log(np.maximum(relative, 1)), relative)

    def absolute(self, values: Array) -> Array:
        """Return the values of the metric that lie at these places of the scale."""
        beyond = np.exp(np.maximum(values, 1) - 1)
        return np.asarray(self.best + self.unit * np.where(values > 1, beyond, values))


def scale_of(observations: Sequence[Observation], epochs: int) -> Scale | None:
    """Return the scale of :func:`final_values`; None if no trial has reported anything."""
    table, lengths, _ = _table(observations, epochs)
    return _scale(table, lengths) if lengths.any() else None


def final_values(observations: Sequence[Observation], epochs: int) -> tuple[Array, Array]:
    """Predict each trial's value after the last epoch from its latest value.

    Trials are compared at the epochs where some have ended. From each of these to the next leads a
    regression over the trials that have values at both, so that many trials tell of the early
    steps and the few complete ones only of the last. One that ended within an epoch is compared
    where it ended, and with the ends of that epoch from there: each further comparison on the way
    to the last epoch costs certainty.

    Args:
        observations: The trials (n of them).
        epochs: Epochs of a complete training.

    Returns:
        Values (n,) on the :class:`Scale` of these trials, NaN for a trial that has reported
        nothing, and the variances (n,) of the predictions. Diverged trials get the worst
        value.
    """
    table, lengths, whole = _table(observations, epochs)
    if not lengths.any():
        return np.full(len(lengths), np.nan), np.zeros(len(lengths))
    table = _scale(table, lengths).relative(table)
    ended = [observation.state in ("completed", "stopped") for observation in observations]
    ends = {int(whole[length - 1]) for length in lengths[ended] if length}
    lines = {0: Line()} | _lines(table, lengths, ends)
    used = [lines[int(length)] for length in lengths]
    intercepts, slopes, variances = np.array([(u.intercept, u.slope, u.variance) for u in used]).T
    diverged = [observation.diverged for observation in observations]
    values = intercepts + slopes * table[np.arange(len(table)), lengths - 1]
    return np.where(diverged, np.nanmax(table), values), np.where(diverged, 0, variances)


def _table(
    observations: Sequence[Observation], epochs: int
) -> tuple[Array, NDArray[np.intp], NDArray[np.intp]]:
    """Return the curves as a table, and how many of its columns each has come to.

    Its columns (c of them) are the whole epochs, and the places within epochs where a trial has
    reported last. The others' values there lie on the line between their reports around it.

    Returns:
        Values (n, c) up to the first that is no number, NaN from there; lengths (n,); and for each
        length the one that ends the epoch (c,).
    """
    curves = [_finite(observation, epochs) for observation in observations]
    places = np.array(sorted({*range(1, epochs + 1), *(at[-1] for at, _ in curves if len(at))}))
    table, lengths = np.full((len(curves), len(places)), np.nan), np.zeros(len(curves), np.intp)
    for row, (at, values) in enumerate(curves):
        if len(at):
            table[row] = np.interp(places, at, values, left=np.nan, right=np.nan)
            lengths[row] = np.searchsorted(places, at[-1]) + 1
    return table, lengths, np.searchsorted(places, np.ceil(places)) + 1


def _finite(observation: Observation, epochs: int) -> tuple[Array, Array]:
    """Return where and what a trial has reported, up to its first value that is no number."""
    at, values = np.asarray(observation.at, float), np.asarray(observation.curve, float)
    known = np.logical_and.accumulate(np.isfinite(values) & (at <= epochs))
    return at[known], values[known]


def _scale(table: Array, lengths: NDArray[np.intp]) -> Scale:
    latest = table[lengths > 0, lengths[lengths > 0] - 1]
    best, median = float(latest.min()), float(np.median(latest))
    return Scale(best, (median - best) or float(latest.std()) or 1.0)


def _lines(table: Array, lengths: NDArray[np.intp], ends: set[int]) -> dict[int, Line]:
    """Return for each length of a curve the line from its latest value to the final one."""
    whole = table.shape[1]
    lines = {whole: Line()}
    for length in sorted({*lengths.tolist(), *ends} - {0, whole}, reverse=True):
        later = min(end for end in {*ends, whole} if end > length)
        lines[length] = _regression(table[:, length - 1], table[:, later - 1]).then(lines[later])
    return lines


def _regression(before: Array, after: Array) -> Line:
    """Return a line shrunk towards "values stay"."""
    both = np.isfinite(before) & np.isfinite(after)
    if not both.any():
        return Line(variance=_SPREAD**2)
    x, y = before[both], after[both]
    x_deviation, y_deviation = x - x.mean(), y - y.mean()
    ridge = _WEIGHT * max(float(np.nanvar(before)), 1e-6)
    slope = 1 + x_deviation @ (y_deviation - x_deviation) / (x_deviation @ x_deviation + ridge)
    residual = y_deviation - slope * x_deviation
    variance = (residual @ residual + _WEIGHT * _SPREAD**2) / (len(x) + _WEIGHT)
    return Line(float(y.mean() - slope * x.mean()), float(slope), float(variance))
