"""Gaussian process regression with a length scale for each parameter, at its most probable setting.

Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006): algorithm 2.1 for the
prediction, equations 5.8 and 5.9 for the fit; equation 4.17 is the Matern 5/2 covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

_SQRT5 = math.sqrt(5)
#: Keeps the covariance of coinciding points regular.
_JITTER = 1e-6
#: Means and deviations of normal priors on the settings' logarithms, for values of variance 1.
_LENGTH, _AMPLITUDE, _NOISE = (math.log(0.7), 0.8), (0.0, 0.7), (math.log(0.02), 1.0)


@dataclass(frozen=True)
class Data:
    """What is regressed.

    Attributes:
        columns: Places (n, c).
        owners: For each column (c,) the index of the length scale that it shares.
        values: Observations (n,), of mean 0 and variance 1.
        variances: Known parts (n,) of the observations' noise variances.
    """

    columns: Array
    owners: NDArray[np.intp]
    values: Array
    variances: Array


@dataclass(frozen=True)
class Settings:
    """Length scales (g,), the function's variance and the variance of the noise of all values."""

    lengths: Array
    amplitude: float
    noise: float


class GaussianProcess:
    """A regression with given settings.

    Raises:
        LinAlgError: If the covariance is not positive definite.
    """

    def __init__(self, data: Data, settings: Settings) -> None:
        self._data, self._settings = data, settings
        self._scale = 1 / settings.lengths[data.owners]
        covariance = self._covariance(data.columns)
        covariance[np.diag_indices_from(covariance)] += settings.noise + _JITTER + data.variances
        self._factor = cholesky(covariance, lower=True, check_finite=False)
        self._weights = cho_solve((self._factor, True), data.values, check_finite=False)

    def predict(self, columns: Array) -> tuple[Array, Array]:
        """Return the function's means (m,) and standard deviations (m,) at columns (m, c)."""
        covariance = self._covariance(columns)
        reduced = solve_triangular(self._factor, covariance.T, lower=True, check_finite=False)
        variance = self._settings.amplitude - np.einsum("nm,nm->m", reduced, reduced)
        return covariance @ self._weights, np.sqrt(np.maximum(variance, 1e-12))

    def believing(self, columns: Array) -> GaussianProcess:
        """Return the regression as if the mean had been observed at columns (m, c).

        The "Kriging believer" of Ginsbourger et al., "Kriging is well-suited to parallelize
        optimization" (2010), section 4.2: means stay, deviations shrink around the columns.
        """
        data = self._data
        believed = Data(
            np.vstack([data.columns, columns]),
            data.owners,
            np.concatenate([data.values, self.predict(columns)[0]]),
            np.concatenate([data.variances, np.zeros(len(columns))]),
        )
        return GaussianProcess(believed, self._settings)

    def _covariance(self, columns: Array) -> Array:
        distances = cdist(columns * self._scale, self._data.columns * self._scale)
        return self._settings.amplitude * _matern(distances)[0]


def fit(data: Data) -> Settings:
    """Return the settings of the highest posterior density (a local maximum near the prior's)."""
    objective = _Objective(data)
    found = minimize(
        objective,
        objective.centre,
        jac=True,
        method="L-BFGS-B",
        bounds=list(
            zip(objective.centre - 4 * objective.spread, objective.centre + 4 * objective.spread)
        ),
        options={"maxiter": 50},
    )
    return objective.settings(found.x)


def _matern(distances: Array) -> tuple[Array, Array]:
    """Return the correlation, and minus its derivative by log distance over squared distance."""
    scaled = _SQRT5 * distances
    decay = np.exp(-scaled)
    slope = (1 + scaled) * decay
    return slope + scaled**2 / 3 * decay, 5 / 3 * slope


class _Objective:
    """Minus the log posterior density of the settings' logarithms, and its gradient."""

    def __init__(self, data: Data) -> None:
        self._data = data
        groups = int(data.owners.max()) + 1
        self._squares = np.stack(
            [_squared_distances(data.columns[:, data.owners == group]) for group in range(groups)]
        )
        priors = np.array([_LENGTH] * groups + [_AMPLITUDE, _NOISE])
        self.centre, self.spread = priors.T

    def settings(self, logarithms: Array) -> Settings:
        *lengths, amplitude, noise = np.exp(logarithms)
        return Settings(np.array(lengths), float(amplitude), float(noise))

    def __call__(self, logarithms: Array) -> tuple[float, Array]:
        settings = self.settings(logarithms)
        weights = settings.lengths**-2.0
        distances = np.sqrt(np.tensordot(weights, self._squares, 1))
        correlation, slope = _matern(distances)
        covariance = settings.amplitude * correlation
        diagonal = np.diag_indices_from(covariance)
        covariance[diagonal] += settings.noise + _JITTER + self._data.variances
        factor = cholesky(covariance, lower=True, check_finite=False)
        solved = cho_solve((factor, True), self._data.values, check_finite=False)
        inverse = cho_solve((factor, True), np.eye(len(factor)), check_finite=False)
        # Derivative of the density by the covariance (equation 5.9), twice.
        pull = inverse - np.outer(solved, solved)
        by_length = np.tensordot(self._squares, settings.amplitude * slope * pull, 2) * weights
        by_amplitude = settings.amplitude * np.sum(correlation * pull)
        by_noise = settings.noise * np.trace(pull)
        deviations = (logarithms - self.centre) / self.spread
        value = (
            self._data.values @ solved / 2
            + np.log(factor[diagonal]).sum()
            + deviations @ deviations / 2
        )
        gradient = (
            np.concatenate([by_length, [by_amplitude, by_noise]]) / 2 + deviations / self.spread
        )
        return float(value), gradient


def _squared_distances(columns: Array) -> Array:
    return cdist(columns, columns, "sqeuclidean")
