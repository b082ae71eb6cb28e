"""How much each hyper-parameter matters: total Sobol indices of the search's model.

The model has learnt from all trials, the stopped ones included, which evaluators over completed
trials cannot. Its priors expect a learning rate to matter more; beside it stands the reading with
equal priors. Where the two disagree, the priors speak and not the trials.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.insight.learnt import Learnt, learn
from itwinai.hpo.record import StudyResult

Array = NDArray[np.float64]

#: Base points of the estimator, as a power of two, and the difference of two readings that agree.
_EXPONENT, _AGREEMENT = 8, 0.15


@dataclass(frozen=True)
class Importance:
    """How much one hyper-parameter matters.

    Attributes:
        name: The hyper-parameter.
        share: Its total Sobol index: the part of the variance over the whole space that it has a
            hand in, from 0 to 1. Interactions count for each that takes part, so that the sum may
            be above 1.
        equal: The same by a model that expects no hyper-parameter to matter more than another.
    """

    name: str
    share: float
    equal: float

    @property
    def uncertain(self) -> bool:
        """Whether the two readings disagree, so that the trials have not settled it yet."""
        return abs(self.share - self.equal) > _AGREEMENT


def importances(result: StudyResult) -> tuple[Importance, ...]:
    """Tell how much each hyper-parameter matters for the primary metric, the most important first.

    Returns:
        One for each hyper-parameter; none while too few trials have reported, or if the model sees
        no difference anywhere.
    """
    models = [learn(result), learn(result, equal=True)]
    shares = [_total_indices(model) for model in models if model is not None]
    known = [values for values in shares if values is not None]
    if len(known) < 2:
        return ()
    found = [
        Importance(n, *map(float, pair)) for n, *pair in zip(result.space, *known, strict=True)
    ]
    return tuple(sorted(found, key=lambda importance: -importance.share))


def _total_indices(model: Learnt) -> Array | None:
    """Return the total indices (d,) of the model's mean; None if it is the same everywhere.

    Jansen's estimator (Saltelli et al., "Variance based sensitivity analysis of model output",
    2010, table 2, equation f), over the two halves of a scrambled Sobol sequence.
    """
    from scipy.stats.qmc import Sobol  # takes a second, which a study that starts does not need

    dimensions = model.encoder.dimensions
    # The scrambling is fixed: the same study has the same importances.
    both = Sobol(2 * dimensions, rng=np.random.default_rng(0)).random_base2(_EXPONENT)
    base, other = both[:, :dimensions], both[:, dimensions:]
    values = _means(model, base)
    variance = float(np.concatenate([values, _means(model, other)]).var())
    if variance < 1e-12:
        return None
    totals = np.empty(dimensions)
    for place in range(dimensions):
        changed = base.copy()
        changed[:, place] = other[:, place]
        totals[place] = ((values - _means(model, changed)) ** 2).mean() / (2 * variance)
    return np.minimum(totals, 1)


def _means(model: Learnt, points: Array) -> Array:
    columns = model.encoder.columns(model.encoder.snap(points))
    return model.surrogate.predict(columns)[0]
