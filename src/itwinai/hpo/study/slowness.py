"""How much slower a node is than others, whatever the configurations cost that it trained.

Which trial a node gets does not depend on what the trial costs: equal nodes differ by chance alone.
So the logarithm of a trial's seconds per epoch is regressed on its hyper-parameters and on whether
it ran there (an analysis of covariance), and the bound is that of Student's t distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

#: How sure the bound is. A study looks at each epoch, so that it must be surer than of one look.
CERTAINTY = 0.999
#: Trials that there must be, there and elsewhere.
_FEWEST = 3
#: Trials for each column of the regression; with fewer, hyper-parameters are left out.
_PER_COLUMN = 3
#: Share of the choice of node that they may explain; with more the two cannot be told apart.
_EXPLAINED = 0.8


@dataclass(frozen=True)
class Pace:
    """What epochs of a trial took on a node.

    Attributes:
        node: The node.
        seconds: Of an epoch, above 0.
        point: The trial's hyper-parameters as numbers (c,).
    """

    node: str
    seconds: float
    point: Array


@dataclass(frozen=True)
class Slowness:
    """How many times as long epochs take on a node as on the others.

    Attributes:
        ratio: The estimate.
        least: It is at least this, as sure as :data:`CERTAINTY`.
        trials: Trials on the node.
        others: Trials elsewhere.
        nodes: On so many other nodes.
    """

    ratio: float
    least: float
    trials: int
    others: int
    nodes: int


def slowness(node: str, paces: Sequence[Pace]) -> Slowness | None:
    """Compare a node with the others; None where too few trials ran on either.

    Args:
        node: The node.
        paces: One for each trial and node.
    """
    there = np.array([pace.node == node for pace in paces], dtype=float)
    count = int(there.sum())
    others = len(paces) - count
    if min(count, others) < _FEWEST:
        return None
    logs = np.log([pace.seconds for pace in paces])
    basis = _basis(np.array([pace.point for pace in paces]))
    own, rest = _unexplained(basis, there), _unexplained(basis, logs)
    if own @ own < (1 - _EXPLAINED) * count * others / len(paces):
        basis = _basis(np.empty((len(paces), 0)))
        own, rest = _unexplained(basis, there), _unexplained(basis, logs)
    effect = float(own @ rest / (own @ own))
    freedom = len(paces) - basis.shape[1] - 1
    noise = rest - effect * own
    deviation = math.sqrt(float(noise @ noise) / freedom / float(own @ own))
    least = effect - float(stdtrit(freedom, CERTAINTY)) * deviation
    nodes = len({pace.node for pace in paces} - {node})
    return Slowness(math.exp(effect), math.exp(least), count, others, nodes)


def _basis(points: Array) -> Array:
    """Orthonormal columns (n, k): a constant and, if there are enough trials, the points' span."""
    count = len(points)
    constant = np.full((count, 1), 1 / math.sqrt(count))
    centred = points - points.mean(axis=0) if points.size else points
    vectors, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    spanned = vectors[:, sizes > 1e-9]
    if count < _PER_COLUMN * (spanned.shape[1] + 2):
        return constant
    return np.hstack([constant, spanned])


def _unexplained(basis: Array, values: Array) -> Array:
    left: Array = values - basis @ (basis.T @ values)
    return left
