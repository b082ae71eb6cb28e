"""What a study optimises: one metric or several, each with a direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from itwinai.hpo.trial import metric_value

Mode = Literal["min", "max"]

#: One number per objective; lower is better in each.
Losses = tuple[float, ...]


@dataclass(frozen=True)
class Objective:
    """A metric and the direction in which it is better.

    Example:
        >>> Objective("accuracy", "max").loss({"accuracy": 0.9})
        -0.9
    """

    metric: str
    mode: Mode

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """The metric, or None if it was not reported."""
        return metric_value(metrics, self.metric)

    def loss(self, metrics: Mapping[str, float]) -> float | None:
        """The metric so that lower is better, or None if it was not reported."""
        value = self.value(metrics)
        return value if value is None or self.mode == "min" else -value


def losses_of(objectives: Sequence[Objective], metrics: Mapping[str, float]) -> Losses | None:
    """The losses of all objectives, or None if one was not reported."""
    losses = [objective.loss(metrics) for objective in objectives]
    return None if None in losses else tuple(loss for loss in losses if loss is not None)


def pareto_front(losses: Sequence[Losses]) -> list[int]:
    """Positions of those that no other dominates, in their order; with one objective the best.

    One dominates another if it is nowhere worse and somewhere better (Deb et al. 2002, section II).
    """
    points = np.asarray(losses, float)
    front: list[int] = []
    # In this order no later one dominates an earlier one, so the front found so far is enough.
    for index in np.lexsort(points.T[::-1]) if len(points) else ():
        known = points[front]
        no_worse = (known <= points[index]).all(axis=1)
        if not (no_worse & (known < points[index]).any(axis=1)).any():
            front.append(int(index))
    return sorted(front)


def dominated_by(losses: Sequence[Losses]) -> np.ndarray:
    """For each, how many others dominate it (Fonseca and Fleming 1993, section 3): 0 is best.

    Args:
        losses: n vectors of one length.

    Returns:
        n integers.
    """
    points = np.asarray(losses, float)
    if points.size == 0:
        return np.zeros(0, int)
    no_worse = (points[:, None, :] <= points[None, :, :]).all(axis=2)
    better = (points[:, None, :] < points[None, :, :]).any(axis=2)
    return np.asarray((no_worse & better).sum(axis=0))
