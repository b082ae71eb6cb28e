"""Values of trainings that ended at different epochs, on the scale of complete ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """What is known of a trial.

    Attributes:
        params: The active hyper-parameters, the user's values.
        curve: The metric after each epoch from the first, lower is better; it may end in NaN or
            infinity (the training diverged).
        state: ``completed`` was trained to the last epoch, ``stopped`` ended before.
    """

    params: Mapping[str, Any]
    curve: Sequence[float]
    state: Literal["running", "completed", "stopped", "diverged"]


@dataclass(frozen=True)
class Affine:
    """A line from values at one epoch to values at a later one, and the variance around it."""

    intercept: float = 0.0
    slope: float = 1.0
    variance: float = 0.0

    def then(self, later: Affine) -> Affine:
        """Return the line that follows this one and then ``later``."""
        return Affine(
            later.intercept + later.slope * self.intercept,
            later.slope * self.slope,
            later.variance + later.slope**2 * self.variance,
        )


def final_values(observations: Sequence[Observation], epochs: int) -> tuple[Array, Array]:
    """Predict every trial's value after the last epoch.

    The epochs at which trials ended form a chain; each of its links is a regression on the trials
    that have values at both of its ends, so that all trials of the later end count.

    Returns:
        Values (n,), NaN for a trial that has reported nothing, and the predictions' variances (n,).
    """
    table = _table(observations, epochs)
    diverged = np.array([_has_diverged(o) for o in observations])
    ends = np.isfinite(table).sum(axis=1)
    table = _compressed(table, ends, diverged)
    worst = np.nanmax(table) if np.isfinite(table).any() else 0.0
    lines = _lines(
        table,
        ends,
        sorted(
            {int(e) for e, o in zip(ends, observations, strict=True) if e and o.state != "running"}
        ),
        epochs,
    )
    values, variances = np.full(len(ends), np.nan), np.zeros(len(ends))
    for index, end in enumerate(ends):
        if diverged[index]:
            values[index] = worst
        elif end:
            line = lines[int(end)]
            values[index] = line.intercept + line.slope * table[index, end - 1]
            variances[index] = line.variance
    return values, variances


def _table(observations: Sequence[Observation], epochs: int) -> Array:
    table = np.full((len(observations), epochs), np.nan)
    for row, observation in zip(table, observations, strict=True):
        curve = np.asarray(observation.curve, dtype=float)[:epochs]
        finite = np.isfinite(curve)
        length = len(curve) if finite.all() else int(np.argmin(finite))
        row[:length] = curve[:length]
    return table


def _has_diverged(observation: Observation) -> bool:
    return observation.state == "diverged" or not np.isfinite(observation.curve).all()


def _compressed(table: Array, ends: NDArray[np.intp], diverged: NDArray[np.bool_]) -> Array:
    known = ends > 0
    if not known.any():
        return table
    last = table[np.flatnonzero(known), ends[known] - 1]
    best, middle = last.min(), float(np.median(last))
    scale = (middle - best) or float(last.std()) or 1.0
    relative = (table - best) / scale
    return np.where(relative > 1, 1 + np.log(np.maximum(relative, 1)), relative)


def _lines(
    table: Array, ends: NDArray[np.intp], trunk: list[int], epochs: int
) -> dict[int, Affine]:
    lines = {epochs: Affine()}
    stations = sorted({*trunk, epochs})
    for end in sorted({*trunk, *(int(e) for e in ends if e)} - {epochs}, reverse=True):
        later = next(s for s in stations if s > end)
        lines[end] = _regression(table[:, end - 1], table[:, later - 1]).then(lines[later])
    return lines


def _regression(before: Array, after: Array, spread: float = 0.5, weight: float = 2.0) -> Affine:
    both = np.isfinite(before) & np.isfinite(after)
    n = int(both.sum())
    if not n:
        return Affine(variance=spread**2)
    x, y = before[both], after[both]
    mx, my = x.mean(), y.mean()
    dx, dy = x - mx, y - my
    ridge = weight * max(float(np.nanvar(before)), 1e-6)
    slope = 1 + float(dx @ (dy - dx)) / (float(dx @ dx) + ridge)
    residual = dy - slope * dx
    variance = (float(residual @ residual) + weight * spread**2) / (n + weight)
    return Affine(float(my - slope * mx), slope, variance)
