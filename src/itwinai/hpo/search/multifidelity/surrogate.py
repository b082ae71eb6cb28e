"""What the trials of a study say together of its whole search space: regressions over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from itwinai.hpo.search.multifidelity.curves import Observation, final_values
from itwinai.hpo.search.multifidelity.encoding import Encoder
from itwinai.hpo.search.multifidelity.gp import NOISE, Data, GaussianProcess, fit

Array = NDArray[np.float64]

#: Most trials that the regressions are fitted to: the effort grows with their third power.
_LARGEST_FIT = 150

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def on_one_thread(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Keep the linear algebra of a function on one thread.

    More gain nothing with matrices this small, and threads that wait for each other while trials
    train on the same cores can take twenty times as long.
    """
    limit = ThreadpoolController().wrap(limits=1, user_api="blas")
    limited: Callable[Arguments, Result] = limit(function)
    return limited


@dataclass(frozen=True)
class Surrogate:
    """Regressions over the final values of trials, one for each draw of their settings.

    Attributes:
        processes: The regressions, of values with mean 0 and variance 1.
        points: The trials' points (n, d).
        columns: The same as columns (n, c).
        waiting: Columns (m, c) of the trials that have reported nothing.
        centre: Mean of the values, on the scale of ``curves``.
        width: Their standard deviation.
    """

    processes: list[GaussianProcess]
    points: Array
    columns: Array
    waiting: Array
    centre: float
    width: float

    def predict(self, columns: Array) -> tuple[Array, Array]:
        """Return means (m,) and deviations (m,) of the final values at columns (m, c).

        All draws together are one distribution, whose variance has their disagreement in it.
        """
        means, deviations = np.array([p.predict(columns) for p in self.processes]).swapaxes(0, 1)
        variances = (deviations**2).mean(axis=0) + means.var(axis=0)
        return self.centre + self.width * means.mean(axis=0), self.width * np.sqrt(variances)


def surrogate_of(
    observations: Sequence[Observation],
    epochs: int,
    encoder: Encoder,
    lengths: Array,
    rng: np.random.Generator,
    noise: tuple[float, float] = NOISE,
) -> Surrogate | None:
    """Fit regressions to trials of any length; None while fewer than two have reported.

    Args:
        observations: The trials.
        epochs: Epochs of a complete training.
        encoder: Of the search space.
        lengths: Normal priors (d, 2) on the logarithms of the length scales.
        rng: Draws the settings, and the trials to leave out where there are very many.
        noise: Normal prior on the logarithm of the noise variance, in units of the values'.
    """
    values, variances = final_values(observations, epochs)
    known = _informative(values, rng)
    if len(known) < 2:
        return None
    points = np.array([encoder.encode(observation.params) for observation in observations])
    columns = encoder.columns(points)
    centre, width = float(values[known].mean()), float(values[known].std()) or 1.0
    standardised = (values[known] - centre) / width
    parts = variances[known] / width**2
    data = Data(columns[known], encoder.owners, standardised, parts, lengths, noise)
    waiting = columns[np.isnan(values)]
    return Surrogate(fit(data, rng), points[known], data.columns, waiting, centre, width)


def _informative(values: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the indices of the trials to fit: the best half of them, any others."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) <= _LARGEST_FIT:
        return known
    ranked = known[np.argsort(values[known], kind="stable")]
    half = _LARGEST_FIT // 2
    others = rng.choice(ranked[half:], _LARGEST_FIT - half, replace=False)
    return np.sort(np.concatenate([ranked[:half], others]))
