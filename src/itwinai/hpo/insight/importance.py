"""How much each hyper-parameter matters: total Sobol indices of the search's model.

The model has learnt from all trials, the stopped ones included, which evaluators over completed
trials cannot. Its settings are drawn several times, and an index is the mean over these draws. Its
priors expect a learning rate to matter more; beside it stands the reading with equal priors. Where
the two disagree, the priors speak and not the trials. Where luck may be most of what makes trials
differ, an index says little: of studies of nothing but luck a third named what matters most.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.insight.learnt import Learnt, learn
from itwinai.hpo.record import StudyResult

Array = NDArray[np.float64]

#: Base points of the estimator, as a power of two, and the difference of two readings that agree.
_EXPONENT, _AGREEMENT = 8, 0.15
#: Part of the variance below which luck may be most of it.
_EXPLAINED = 0.4


@dataclass(frozen=True)
class Importance:
    """How much one hyper-parameter matters.

    Attributes:
        name: The hyper-parameter.
        share: Its total Sobol index: the part of the variance over the whole space that it has a
            hand in, from 0 to 1. Interactions count for each that takes part, so that the sum may
            be above 1.
        equal: The same by a model that expects no hyper-parameter to matter more than another.
        rank: Its place among all, from 1. Neighbours share one whose shares differ by less than the
            standard error of their difference over the model's draws.
        explained: The part of the variance of trainings over the whole space that is not luck, by a
            model that leaves it open; the same for all.
    """

    name: str
    share: float
    equal: float
    rank: int
    explained: float = 1.0

    @property
    def uncertain(self) -> bool:
        """Whether the trials have not settled it yet.

        The two readings disagree, or most of what makes the trials differ may be luck.
        """
        return abs(self.share - self.equal) > _AGREEMENT or self.explained < _EXPLAINED


def importances(result: StudyResult) -> tuple[Importance, ...]:
    """Tell how much each hyper-parameter matters for the primary metric, the most important first.

    Returns:
        One for each hyper-parameter; none while too few trials have reported, or if the model sees
        no difference anywhere.
    """
    models = [learn(result), learn(result, equal=True)]
    known = [_total_indices(model) for model in models if model is not None]
    if len(known) < 2 or any(not len(draws) for draws in known):
        return ()
    explained = _explained(result)
    readings = zip(*(draws.mean(axis=0) for draws in known), _ranks(known[0]), strict=True)
    found = [
        Importance(name, float(share), float(equal), rank, explained)
        for name, (share, equal, rank) in zip(result.space, readings, strict=True)
    ]
    return tuple(sorted(found, key=lambda importance: -importance.share))


def _ranks(draws: Array) -> list[int]:
    """Rank hyper-parameters by their indices (n, d); neighbours that are not told apart share one.

    Each begins at the number of those before it, as places in a race do.
    """
    order = np.argsort(-draws.mean(axis=0), kind="stable")
    ranks = np.ones(len(order), int)
    for place, (before, this) in enumerate(pairwise(order), start=2):
        less = draws[:, before] - draws[:, this]
        error = less.std(ddof=1) / np.sqrt(len(less)) if len(less) > 1 else 0.0
        ranks[this] = place if less.mean() > error else ranks[before]
    return [int(rank) for rank in ranks]


def _explained(result: StudyResult) -> float:
    """The part of the variance that is not luck."""
    model = learn(result, open_to_luck=True)
    if model is None:
        return 0.0
    signal = _means(model, _points(model)).var(axis=1)
    noise = np.array([process.noise for process in model.surrogate.processes])
    return float((signal / (signal + noise)).mean())


def _total_indices(model: Learnt) -> Array:
    """Return the total indices (n, d) of each draw that is not the same everywhere.

    Jansen's estimator (Saltelli et al., "Variance based sensitivity analysis of model output",
    2010, table 2, equation f), over the two halves of a scrambled Sobol sequence.
    """
    dimensions = model.encoder.dimensions
    both = _points(model, halves=2)
    base, other = both[:, :dimensions], both[:, dimensions:]
    values = _means(model, base)
    variances = np.concatenate([values, _means(model, other)], axis=1).var(axis=1)
    totals = np.empty((len(values), dimensions))
    for place in range(dimensions):
        changed = base.copy()
        changed[:, place] = other[:, place]
        totals[:, place] = ((values - _means(model, changed)) ** 2).mean(axis=1)
    differ = variances > 1e-12
    indices: Array = totals[differ] / (2 * variances[differ, None])
    return indices.clip(max=1)


def _points(model: Learnt, halves: int = 1) -> Array:
    """Return points that fill the space evenly, beside each other as often as there are halves.

    The scrambling is fixed: the same study has the same importances.
    """
    from scipy.stats.qmc import Sobol  # takes a second, which a study that starts does not need

    sequence = Sobol(halves * model.encoder.dimensions, rng=np.random.default_rng(0))
    points: Array = sequence.random_base2(_EXPONENT)
    return points


def _means(model: Learnt, points: Array) -> Array:
    """Return the means (n, m) of each draw at points (m, d), on a scale of their own."""
    columns = model.encoder.columns(model.encoder.snap(points))
    return np.array([process.predict(columns)[0] for process in model.surrogate.processes])
