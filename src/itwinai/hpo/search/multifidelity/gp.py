"""Gaussian process regression, averaged over the settings that the data leave plausible.

A few dozen trials do not tell the length scales of all parameters. A single best guess of them is
overconfident; an average over draws from their posterior is not (Snoek et al., "Practical Bayesian
optimization of machine learning algorithms", 2012, section 3.2). Prediction and likelihood are
algorithm 2.1 of Rasmussen and Williams, "Gaussian processes for machine learning" (2006), the
covariance is their Matern 5/2 (equation 4.17) with a length scale for each parameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize
from scipy.spatial.distance import cdist, pdist

Array = NDArray[np.float64]

#: Keeps the covariance of coinciding points regular.
_JITTER = 1e-6
#: Normal priors on the logarithms of the variances, mean and deviation, in units of the values'.
_AMPLITUDE, NOISE = (0.0, 0.7), (math.log(0.02), 1.0)
#: Most steps towards the posterior's maximum; how many of the prior's deviations it may be away.
_ITERATIONS, _FARTHEST = 30, 6.0
#: Draws of the settings; steps of the chain before the first, and from one to the next.
_DRAWS, _BURN_IN, _THINNING = 5, 10, 5


@dataclass(frozen=True)
class Data:
    """What is regressed.

    Attributes:
        columns: Places (n, c).
        owners: For each column (c,) the index of the length scale that it shares.
        values: Observations (n,), of mean 0 and variance 1.
        variances: Known parts (n,) of the observations' noise variances.
        lengths: Normal priors (g, 2) on the logarithms of the length scales: means and deviations.
        noise: The same on the logarithm of the noise variance.
    """

    columns: Array
    owners: NDArray[np.intp]
    values: Array
    variances: Array
    lengths: Array
    noise: tuple[float, float] = NOISE


@dataclass(frozen=True)
class Settings:
    """Length scales (g,), the function's variance and the noise variance of all observations."""

    lengths: Array
    amplitude: float
    noise: float


class GaussianProcess:
    """A regression with given settings."""

    def __init__(self, data: Data, settings: Settings) -> None:
        self._data, self._settings = data, settings
        self._scale = 1 / settings.lengths[data.owners]
        covariance = self._covariance(data.columns)
        covariance[np.diag_indices_from(covariance)] += settings.noise + _JITTER + data.variances
        self._factor = cholesky(covariance, lower=True, check_finite=False)
        self._weights = cho_solve((self._factor, True), data.values, check_finite=False)

    @property
    def noise(self) -> float:
        """Noise variance of all observations."""
        return self._settings.noise

    def predict(self, columns: Array) -> tuple[Array, Array]:
        """Return the function's means (m,) and standard deviations (m,) at columns (m, c)."""
        covariance = self._covariance(columns)
        reduced = solve_triangular(self._factor, covariance.T, lower=True, check_finite=False)
        variances = self._settings.amplitude - np.einsum("nm,nm->m", reduced, reduced)
        return covariance @ self._weights, np.sqrt(np.maximum(variances, _JITTER))

    def believing(self, columns: Array) -> GaussianProcess:
        """Return the regression as if its means had been observed at columns (m, c).

        The "Kriging believer" of Ginsbourger et al., "Kriging is well-suited to parallelize
        optimization" (2010), section 4.2: means stay, deviations shrink around the columns.
        """
        data = self._data
        believed = replace(
            data,
            columns=np.vstack([data.columns, columns]),
            values=np.concatenate([data.values, self.predict(columns)[0]]),
            variances=np.concatenate([data.variances, np.zeros(len(columns))]),
        )
        return GaussianProcess(believed, self._settings)

    def _covariance(self, columns: Array) -> Array:
        distances = cdist(columns * self._scale, self._data.columns * self._scale)
        return self._settings.amplitude * _matern(distances)


def fit(data: Data, rng: np.random.Generator) -> list[GaussianProcess]:
    """Return regressions whose settings are draws from their posterior.

    A chain of elliptical slice sampling (Murray et al., "Elliptical slice sampling", 2010, figure
    2) from the posterior's maximum; of its steps after the first few every fifth is a draw.
    """
    posterior = _Posterior(data)
    place = posterior.maximum()
    draws = []
    for step in range(1, _BURN_IN + _DRAWS * _THINNING + 1):
        place = posterior.next_place(place, rng)
        if step > _BURN_IN and (step - _BURN_IN) % _THINNING == 0:
            draws.append(GaussianProcess(data, posterior.settings(place)))
    return draws


class _Posterior:
    """The settings' density; their logarithms are in deviations from the prior's mean."""

    def __init__(self, data: Data) -> None:
        self._likelihood = _Likelihood(data)
        self._centre, self._spread = np.vstack([data.lengths, _AMPLITUDE, data.noise]).T

    def settings(self, place: Array) -> Settings:
        """Return the settings at a place (p,)."""
        return _settings(self._centre + self._spread * place)

    def maximum(self) -> Array:
        """Return the place (p,) of a maximum, searched from the prior's."""
        start = np.zeros(len(self._centre))
        found = minimize(
            self._loss,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(-_FARTHEST, _FARTHEST)] * len(start),
            options={"maxiter": _ITERATIONS},
        )
        place: Array = found.x
        return place

    def next_place(self, place: Array, rng: np.random.Generator) -> Array:
        """Return the next place of a Markov chain whose places are draws from the posterior."""
        other = rng.normal(size=place.shape)
        threshold = self._density(place) + math.log(1 - rng.random())
        angle = rng.uniform(0, 2 * math.pi)
        low, high = angle - 2 * math.pi, angle
        while True:
            proposal: Array = place * math.cos(angle) + other * math.sin(angle)
            if self._density(proposal) > threshold:
                return proposal
            low, high = (angle, high) if angle < 0 else (low, angle)
            angle = rng.uniform(low, high)

    def _density(self, place: Array) -> float:
        return self._likelihood.density(self.settings(place))

    def _loss(self, place: Array) -> tuple[float, Array]:
        density, gradient = self._likelihood(self.settings(place))
        return float(place @ place) / 2 - density, place - self._spread * gradient


class _Likelihood:
    """The log density of the data for given settings; works on one half of the covariance."""

    def __init__(self, data: Data) -> None:
        self._data = data
        owned = [data.columns[:, data.owners == group] for group in range(len(data.lengths))]
        self._squares = np.stack([pdist(columns, "sqeuclidean") for columns in owned])
        size = len(data.values)
        rows, columns = np.triu_indices(size, 1)
        self._upper, self._diagonal = rows * size + columns, slice(None, None, size + 1)

    def __call__(self, settings: Settings) -> tuple[float, Array]:
        """Return the density and its derivatives (p,) by the settings' logarithms.

        Equations 5.8 and 5.9 of Rasmussen and Williams.
        """
        distances = np.sqrt(settings.lengths**-2 @ self._squares)
        correlations = _matern(distances)
        factor, _ = self._factor(settings, correlations)
        solved = dpotrs(factor, self._data.values)[0]
        pull = (np.outer(solved, solved) - dpotri(factor)[0]).ravel()
        pairs, trace = settings.amplitude * pull[self._upper], pull[self._diagonal].sum()
        slopes = _matern_slope(distances)
        by_lengths = self._squares @ (slopes * pairs) / settings.lengths**2
        by_amplitude = correlations @ pairs + settings.amplitude * trace / 2
        density = self._density_of(factor, solved)
        return density, np.array([*by_lengths, by_amplitude, settings.noise * trace / 2])

    def density(self, settings: Settings) -> float:
        """Return the density alone; minus infinity where the covariance has no factor."""
        distances = np.sqrt(settings.lengths**-2 @ self._squares)
        factor, is_regular = self._factor(settings, _matern(distances))
        if not is_regular:
            return -math.inf
        return self._density_of(factor, dpotrs(factor, self._data.values)[0])

    def _density_of(self, factor: Array, solved: Array) -> float:
        return float(-self._data.values @ solved / 2 - np.log(np.diagonal(factor)).sum())

    def _factor(self, settings: Settings, correlations: Array) -> tuple[Array, bool]:
        size = len(self._data.values)
        covariance = np.zeros(size * size)
        covariance[self._upper] = settings.amplitude * correlations
        noise = settings.noise + _JITTER + self._data.variances
        covariance[self._diagonal] = settings.amplitude + noise
        factor, info = dpotrf(covariance.reshape(size, size))
        return factor, info == 0


def _settings(logarithms: Array) -> Settings:
    *lengths, amplitude, noise = np.exp(logarithms)
    return Settings(np.array(lengths), float(amplitude), float(noise))


def _matern(distances: Array) -> Array:
    scaled = math.sqrt(5) * distances
    correlations: Array = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return correlations


def _matern_slope(distances: Array) -> Array:
    """Return minus the covariance's derivative by distance, over distance."""
    scaled = math.sqrt(5) * distances
    slopes: Array = 5 / 3 * (1 + scaled) * np.exp(-scaled)
    return slopes
