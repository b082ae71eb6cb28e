"""The model of the default search, fitted to any study: all trials that its record tells of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.record import StudyResult
from itwinai.hpo.search.multifidelity.curves import Scale, scale_of
from itwinai.hpo.search.multifidelity.encoding import Encoder
from itwinai.hpo.search.multifidelity.gp import NOISE
from itwinai.hpo.search.multifidelity.priors import equal_priors, length_priors
from itwinai.hpo.search.multifidelity.surrogate import Surrogate, on_one_thread, surrogate_of
from itwinai.hpo.study.memory import Memory

Array = NDArray[np.float64]

#: The draws of the model's settings are the same each time, so that a reader sees one answer.
_SEED = 0

#: Prior of a noise that may be all there is, which the search's own would take for merit.
_ANY_NOISE = (math.log(0.2), 2.0)


@dataclass(frozen=True)
class Learnt:
    """A model of the primary metric over the search space.

    Attributes:
        encoder: Turns configurations into the model's points.
        surrogate: The regressions.
        scale: Their scale, in losses: lower is better.
        best: The best loss that any trial has ever reported.
        worst: The worst one.
        trials: Trials that have told it something.
    """

    encoder: Encoder
    surrogate: Surrogate
    scale: Scale
    best: float
    worst: float
    trials: int

    def predict(self, params: Sequence[Mapping[str, Any]]) -> tuple[Array, Array]:
        """Return means (n,) and deviations (n,) of the final values, on the model's scale."""
        points = np.array([self.encoder.encode(values) for values in params])
        return self.surrogate.predict(self.encoder.columns(points))


@on_one_thread
def learn(result: StudyResult, equal: bool = False, open_to_luck: bool = False) -> Learnt | None:
    """Fit the model to a study; None where too few trials have reported the primary metric.

    Args:
        result: The study.
        equal: Whether all hyper-parameters have the same prior; otherwise a learning rate is
            expected to matter more.
        open_to_luck: Whether the trials may differ by luck alone. A search does better to expect
            little of it.
    """
    if not result.space:
        return None
    memory = Memory(result.objectives[:1], result, lessons=())
    observations = list(memory.observations().values())
    scale = scale_of(observations, result.epochs)
    if scale is None:
        return None
    encoder = Encoder(result.space)
    priors = (equal_priors if equal else length_priors)(result.space)
    rng = np.random.default_rng(_SEED)
    noise = _ANY_NOISE if open_to_luck else NOISE
    surrogate = surrogate_of(observations, result.epochs, encoder, priors, rng, noise)
    if surrogate is None:
        return None
    curves = [observation.curve for observation in observations if len(observation.curve)]
    reported = np.concatenate(curves)
    reported = reported[np.isfinite(reported)]
    ends = float(reported.min()), float(reported.max())
    return Learnt(encoder, surrogate, scale, *ends, len(curves))
