"""Learning curves of real small networks, answered from tables in ``curves/``.

A table holds trainings over a full grid of a search space, with several seeds each: the validation
metric after every epoch. Between grid points the mean over the seeds is interpolated, linearly on
each parameter's scale; the noise is that of the nearest grid point, and a curve stays within the
recordings around it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "curves"

#: A regret is cut here: how bad a hopeless configuration is says nothing about the search.
WORST_REGRET = 3.0


class Axis:
    """One hyper-parameter's levels in the grid."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self._choices = about.get("choices")
        self._scale = np.log if about.get("log") else np.asarray
        self._levels = None if self._choices else self._scale(np.asarray(about["levels"], float))

    def corners(self, value: Any) -> list[tuple[int, float]]:
        """Grid positions around a value, and their weights; None is the first level."""
        if value is None:
            return [(0, 1.0)]
        if self._levels is None:
            return [(self._choices.index(value), 1.0)]
        levels = self._levels
        x = np.clip(self._scale(float(value)), levels[0], levels[-1])
        left = int(np.clip(np.searchsorted(levels, x, side="right") - 1, 0, len(levels) - 2))
        share = float((x - levels[left]) / (levels[left + 1] - levels[left]))
        return [(i, w) for i, w in ((left, 1 - share), (left + 1, share)) if w > 1e-9]


class Task:
    """One data set and model with its search space.

    Attributes:
        space: As in ``task.json``: type, bounds or choices, and ``only_if`` of each parameter.
        default: What a sensible person tries first.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "task.json").read_text())
        self.name, self.metric, self.mode = about["name"], about["metric"], about["mode"]
        self.epochs: int = about["epochs"]
        self.space: dict[str, dict[str, Any]] = about["space"]
        self.default: dict[str, Any] = about["default"]
        self._median: float = about["median"]
        self._cost_axes: list[str] = about["cost_axes"]
        self._axes = {name: Axis(axis) for name, axis in self.space.items()}
        with np.load(folder / "table.npz") as table:
            self._curves = table["curves"].astype(float)  # (*grid, seed, epoch)
            self._cost = table["cost"].astype(float)
        self._memo: dict[Any, np.ndarray] = {}

    def evaluate(self, params: Mapping[str, Any], epoch: int, seed: int) -> float:
        """The metric after an epoch, from 1; NaN if the training diverged."""
        return float(self._curve(params, seed % self._curves.shape[-2])[epoch - 1])

    def cost(self, params: Mapping[str, Any]) -> float:
        """Cost of an epoch; 1 for the default configuration."""
        if not self._cost_axes:
            return 1.0
        return float(self._interpolate(self._cost, self._cost_axes, params))

    def regret(self, params: Mapping[str, Any]) -> float:
        """True final value from 0, the grid's best, to 1, a random median."""
        true = self.final(params)
        return min(WORST_REGRET, (true - self._best) / (self._median - self._best))

    def final(self, params: Mapping[str, Any]) -> float:
        """True final value: the mean over the seeds."""
        return float(self._interpolate(self._true, list(self.space), params))

    @cached_property
    def _true(self) -> np.ndarray:
        """Mean of the last epoch over the seeds; a diverged one counts as the worst."""
        last = self._curves[..., -1]
        worst = np.nanmin(last) if self.mode == "max" else np.nanmax(last)
        return np.where(np.isfinite(last), last, worst).mean(-1)

    @cached_property
    def _best(self) -> float:
        return float(self._true.max() if self.mode == "max" else self._true.min())

    @cached_property
    def _mean(self) -> np.ndarray:
        """Mean over the seeds that did not diverge."""
        finite = np.isfinite(self._curves)
        count = np.where(finite.any(-2), finite.sum(-2), np.nan)
        return np.where(finite, self._curves, 0).sum(-2) / count

    def _curve(self, params: Mapping[str, Any], seed: int) -> np.ndarray:
        key = (*(str(params.get(name)) for name in self.space), seed)
        if key not in self._memo:
            corners = self._corners(list(self.space), params)
            nearest = max(corners, key=lambda corner: corner[1])[0]
            mean = self._mean[nearest]
            noise = np.where(np.isfinite(mean), self._curves[nearest][seed] - mean, 0.0)
            curve = self._interpolate(self._mean, list(self.space), params) + noise
            around = np.concatenate([self._curves[point] for point, _ in corners])
            bounds = np.fmin.reduce(around), np.fmax.reduce(around)
            self._memo[key] = np.clip(curve, *bounds)
        return self._memo[key]

    def _interpolate(self, table: np.ndarray, names: list[str], params: Mapping[str, Any]) -> Any:
        """Weigh the corners around a point; NaN where diverged ones have half the weight."""
        corners = self._corners(names, params)
        values = np.stack([table[point] for point, _ in corners])
        weights = np.array([weight for _, weight in corners])
        weights = weights.reshape(-1, *([1] * (values.ndim - 1)))
        finite = np.isfinite(values)
        total = (weights * finite).sum(0)
        mean = (weights * np.where(finite, values, 0.0)).sum(0) / np.maximum(total, 1e-12)
        return np.where(total > 0.5, mean, np.nan)

    def _corners(
        self, names: list[str], params: Mapping[str, Any]
    ) -> list[tuple[tuple[int, ...], float]]:
        around = [self._axes[name].corners(self._value(name, params)) for name in names]
        return [
            (tuple(i for i, _ in corner), float(np.prod([w for _, w in corner])))
            for corner in itertools.product(*around)
        ]

    def _value(self, name: str, params: Mapping[str, Any]) -> Any:
        """A parameter's value; None if it does not exist beside the others."""
        parents = self.space[name].get("only_if", {})
        exists = all(params.get(parent) in values for parent, values in parents.items())
        return params[name] if exists else None


def load_tasks() -> list[Task]:
    """All tasks, by name."""
    return [Task(path.parent) for path in sorted(FOLDER.glob("*/task.json"))]
