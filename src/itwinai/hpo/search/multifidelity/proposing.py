"""What to train next, and which of the complete trainings to recommend."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from itwinai.errors import ConfigurationError
from itwinai.hpo.search.multifidelity.curves import Observation
from itwinai.hpo.search.multifidelity.encoding import Encoder, SearchSpaceLike
from itwinai.hpo.search.multifidelity.gp import GaussianProcess
from itwinai.hpo.search.multifidelity.priors import length_priors
from itwinai.hpo.search.multifidelity.surrogate import Surrogate, on_one_thread, surrogate_of

Array = NDArray[np.float64]

#: Trials of the first design, before the model proposes, and the share of random ones after them.
_FIRST, _RANDOM = 8, 0.1
#: Candidates: random ones, and those around the best places in rounds of shrinking deviations.
_CANDIDATES, _ROUNDS, _PLACES = 500, (0.15, 0.08, 0.03), 5
#: Chance that a coordinate moves (1.5 of them do at least), and that it then jumps anywhere.
_MOVE, _JUMP = 0.3, 0.15
#: Random configurations among which a feasible one is looked for in the end.
_TRIES = 10_000


class Proposer:
    """Bayesian optimisation that learns from trainings of any length.

    A Gaussian process (module ``gp``) over every trial's predicted final value (module
    ``curves``); the next trial is the one of the highest expected improvement (Jones et al.,
    "Efficient global optimization of expensive black-box functions", 1998, section 4.1), averaged
    over the settings of the process.

    Args:
        space: The search space.
        epochs: Epochs of a complete training.
        seed: The same seed and observations give the same proposal; None: a seed of its own.
        total: Planned number of trials, where known: a small number has a smaller first design.
    """

    def __init__(
        self, space: SearchSpaceLike, epochs: int, seed: int | None, total: int | None = None
    ) -> None:
        self._space, self._epochs = space, epochs
        self._encoder = Encoder(space)
        self._lengths = length_priors(space)
        self._seed = int(np.random.default_rng(seed).integers(2**63))
        self._first = _FIRST if total is None else min(_FIRST, max(2, total // 3))

    @on_one_thread
    def propose(self, observations: Sequence[Observation]) -> dict[str, Any]:
        """Return the configuration to train next: its active hyper-parameters.

        Raises:
            ConfigurationError: If no feasible configuration was found.
        """
        rng = np.random.default_rng([self._seed, len(observations)])
        points = self._candidates(observations, rng)
        params = self._feasible(points) or self._feasible(self._random(_TRIES, rng))
        if params is None:
            raise ConfigurationError(
                f"search_space: none of {_TRIES} random configurations meets the constraints"
            )
        return params

    @on_one_thread
    def recommend(
        self, observations: Sequence[Observation], candidates: Container[int] | None = None
    ) -> int | None:
        """Return the index of the completed trial to use, None if there is none.

        It has the lowest mean of the regression: a value that similar configurations confirm,
        where a single training may just be lucky. The same observations give the same answer,
        whatever the seed: a study that is opened again without one keeps its best trial.

        Args:
            observations: All trials.
            candidates: Indices of those to choose from; None: all that are completed.
        """
        completed = [
            index
            for index, observation in enumerate(observations)
            if observation.finished and (candidates is None or index in candidates)
        ]
        if not completed:
            return None
        rng = np.random.default_rng(len(observations))
        model = self._model(observations, rng)
        if model is None:
            return min(completed, key=lambda index: observations[index].curve[-1])
        points = self._points(observations[index] for index in completed)
        return completed[int(model.means(self._encoder.columns(points)).argmin())]

    def _candidates(self, observations: Sequence[Observation], rng: np.random.Generator) -> Array:
        """Return snapped points (m, d), the one to train first."""
        points = self._random(_CANDIDATES, rng)
        if len(observations) < self._first:
            return np.vstack([self._first_design()[len(observations)], points])
        model = None if rng.random() < _RANDOM else self._model(observations, rng)
        return points if model is None else self._promising(model, points, rng)

    def _first_design(self) -> Array:
        """Return points (n, d) that fill the space evenly, of a scrambled Sobol sequence."""
        from scipy.stats.qmc import Sobol  # takes half a second, which only a new study needs

        sequence = Sobol(self._encoder.dimensions, rng=np.random.default_rng(self._seed))
        exponent = (self._first - 1).bit_length()
        return self._encoder.snap(sequence.random_base2(exponent)[: self._first])

    def _model(
        self, observations: Sequence[Observation], rng: np.random.Generator
    ) -> _Model | None:
        known = surrogate_of(observations, self._epochs, self._encoder, self._lengths, rng)
        return None if known is None else _Model.of(known)

    def _promising(self, model: _Model, candidates: Array, rng: np.random.Generator) -> Array:
        """Return snapped points (m, d), the highest expected improvement first."""
        gains = model.gains(self._encoder.columns(candidates))
        centres = model.points[:_PLACES]
        for deviation in _ROUNDS:
            nearby = self._encoder.snap(_around(centres, _CANDIDATES // 2, deviation, rng))
            candidates = np.vstack([candidates, nearby])
            gains = np.concatenate([gains, model.gains(self._encoder.columns(nearby))])
            centres = candidates[np.argsort(-gains)[:_PLACES]]
        return candidates[np.argsort(-gains, kind="stable")]

    def _points(self, observations: Iterable[Observation]) -> Array:
        return np.array([self._encoder.encode(o.params) for o in observations])

    def _random(self, count: int, rng: np.random.Generator) -> Array:
        return self._encoder.snap(rng.random((count, self._encoder.dimensions)))

    def _feasible(self, points: Array) -> dict[str, Any] | None:
        configurations = map(self._encoder.decode, points)
        return next((params for params in configurations if self._space.feasible(params)), None)


@dataclass(frozen=True)
class _Model:
    """The regressions and what they say of the trials.

    Attributes:
        processes: One for each draw of the settings.
        believing: The same, that believe in their means where trials are running.
        points: The trials' points (n, d), the lowest mean first.
        bests: The lowest mean at a trial, for each of the processes.
    """

    processes: list[GaussianProcess]
    believing: list[GaussianProcess]
    points: Array
    bests: Array

    @classmethod
    def of(cls, known: Surrogate) -> _Model:
        processes, waiting = known.processes, known.waiting
        believing = [p.believing(waiting) for p in processes] if len(waiting) else processes
        means = np.array([p.predict(known.columns)[0] for p in processes])
        points = known.points[means.mean(axis=0).argsort()]
        return cls(processes, believing, points, means.min(axis=1))

    def means(self, columns: Array) -> Array:
        """Return the expected values (m,) at columns (m, c)."""
        means: Array = np.mean([p.predict(columns)[0] for p in self.processes], axis=0)
        return means

    def gains(self, columns: Array) -> Array:
        """Return the expected improvements (m,) at columns (m, c)."""
        pairs = zip(self.believing, self.bests, strict=True)
        gains = [_expected_gain(*process.predict(columns), best) for process, best in pairs]
        average: Array = np.mean(gains, axis=0)
        return average


def _expected_gain(means: Array, deviations: Array, best: float) -> Array:
    z = (best - means) / deviations
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    gain: Array = deviations * (z * ndtr(z) + density)
    return gain


def _around(centres: Array, count: int, deviation: float, rng: np.random.Generator) -> Array:
    """Return points (count, d) that differ from a centre in a few coordinates each."""
    points = centres[np.arange(count) % len(centres)]
    steps = np.clip(points + rng.normal(0, deviation, points.shape), 0, 1)
    jumps = rng.random(points.shape)
    moved = np.where(rng.random(points.shape) < _JUMP, jumps, steps)
    chance = max(_MOVE, 1.5 / points.shape[1])
    return np.where(rng.random(points.shape) < chance, moved, points)
