"""What to train next, and which of the trained configurations to recommend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr

from itwinai.errors import ConfigurationError
from itwinai.hpo.multifidelity.curves import Array, Observation, final_values
from itwinai.hpo.multifidelity.encoding import Encoder, SearchSpaceLike
from itwinai.hpo.multifidelity.gp import Data, GaussianProcess, fit

OPT = dict(init=8, random=0.1, cap=150, cands=1000, local=500)


class Proposer:
    """Bayesian optimisation over trainings of any length."""

    def __init__(
        self, space: SearchSpaceLike, epochs: int, seed: int | None, total: int | None = None
    ) -> None:
        self._space, self._epochs, self._total = space, epochs, total
        self._encoder = Encoder(space)
        self._seed = np.random.SeedSequence(seed).entropy if seed is None else seed

    def propose(self, observations: Sequence[Observation]) -> dict[str, Any]:
        count = len(observations)
        rng = np.random.default_rng([self._seed, count])
        if count < OPT["init"] or rng.random() < OPT["random"]:
            return self._first_feasible(self._design(count, rng))
        fitted = self._fitted(observations)
        if fitted is None:
            return self._first_feasible(self._design(count, rng))
        process, points, means = fitted
        d = self._encoder.dimensions
        cand = rng.random((OPT["cands"], d))
        top = points[np.argsort(means)[:5]]
        cand = np.vstack([cand, self._around(top, OPT["local"], 0.15, rng)])
        cand = self._encoder.snap(cand)
        best = means.min()
        score = self._ei(process, cand, best)
        for scale in (0.08, 0.03):
            top = cand[np.argsort(-score)[:5]]
            more = self._encoder.snap(self._around(top, 200, scale, rng))
            cand = np.vstack([cand, more])
            score = np.concatenate([score, self._ei(process, more, best)])
        return self._first_feasible(cand[np.argsort(-score)])

    def _around(self, top: Array, n: int, scale: float, rng: np.random.Generator) -> Array:
        base = np.repeat(top, -(-n // len(top)), axis=0)
        d = base.shape[1]
        mutate = rng.random(base.shape) < max(1.5 / d, 0.3)
        step = base + rng.normal(0, scale, base.shape)
        jump = rng.random(base.shape) < 0.15
        moved = np.where(jump, rng.random(base.shape), np.clip(step, 0, 1))
        return np.where(mutate, moved, base)

    def _ei(self, process: GaussianProcess, points: Array, best: float) -> Array:
        mean, sd = process.predict(self._encoder.columns(points))
        z = (best - mean) / sd
        return sd * (z * ndtr(z) + np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))

    def _fitted(self, observations):
        values, variances = final_values(observations, self._epochs)
        known = np.isfinite(values)
        if known.sum() < 3:
            return None
        points = np.array([self._encoder.encode(o.params) for o in observations])
        columns = self._encoder.columns(points)
        seen = np.flatnonzero(known)
        y = values[seen]
        scale = y.std() or 1.0
        data = Data(
            columns[seen], self._encoder.owners, (y - y.mean()) / scale, variances[seen] / scale**2
        )
        process = GaussianProcess(data, fit(data))
        means = process.predict(columns[seen])[0]
        if not known.all():
            process = process.believing(columns[~known])
        return process, points[seen], means

    def recommend(self, observations: Sequence[Observation]) -> int | None:
        done = [
            i
            for i, o in enumerate(observations)
            if o.state == "completed" and np.isfinite(o.curve[-1])
        ]
        if not done:
            return None
        if len(done) < 3:
            return min(done, key=lambda i: observations[i].curve[-1])
        fitted = self._fitted(observations)
        if fitted is None:
            return min(done, key=lambda i: observations[i].curve[-1])
        pts = np.array([self._encoder.encode(observations[i].params) for i in done])
        return done[int(np.argmin(fitted[0].predict(self._encoder.columns(pts))[0]))]

    def _design(self, count: int, rng) -> Array:
        return self._encoder.snap(rng.random((1000, self._encoder.dimensions)))

    def _first_feasible(self, points: Array) -> dict[str, Any]:
        for point in points:
            params = self._encoder.decode(point)
            if self._space.feasible(params):
                return params
        raise ConfigurationError(
            "search_space: no configuration that meets the constraints was found"
        )
