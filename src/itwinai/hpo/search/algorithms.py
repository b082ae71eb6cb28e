"""Search algorithms by name: the options of each, and how it is built.

A new algorithm is a model of its options and an entry of :data:`ALGORITHMS`; what it works with is
a row of ``contract``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from pydantic import Field

from itwinai.config.model import StrictModel, validate
from itwinai.errors import ConfigurationError
from itwinai.hpo.config import USUAL_TRIALS
from itwinai.hpo.options import check_object, name_and_options
from itwinai.hpo.search.multifidelity import Observation, Proposer
from itwinai.hpo.search.rung_sampler import RungSampler
from itwinai.hpo.space import Choice, Parameter, SearchSpace


class Proposes(Protocol):
    """Proposes from whole learning curves, which Optuna's samplers do not see."""

    def propose(self, observations: list[Observation]) -> dict[str, Any]:
        """Give the values of the next trial."""
        ...

    def recommend(
        self, observations: list[Observation], candidates: Container[int] | None = None
    ) -> int | None:
        """Give the position of the completed trial to use, one of the candidates, or None."""
        ...


@dataclass(frozen=True)
class Task:
    """What an algorithm is built for.

    Attributes:
        space: What is tuned.
        epochs: Epochs of a full training.
        total: Trials of the study as the user has named them, if so.
        seed: Seed of the search.
    """

    space: SearchSpace
    epochs: int
    total: int | None = None
    seed: int | None = None


class AlgorithmOptions(StrictModel):
    """What all algorithms have in common."""

    #: Whether a proposal beside trials that failed is replaced by another one: not of those that
    #: fill the space evenly, or have a model of failures.
    avoids: ClassVar[bool] = False

    def sampler(self, task: Task) -> BaseSampler:
        """Build the sampler that proposes, or that fills in what planned points leave out."""
        return RandomSampler(seed=task.seed)

    def proposer(self, task: Task) -> Proposes | None:
        """Build what proposes in the sampler's place, if anything."""
        return None


class RandomOptions(AlgorithmOptions):
    """Independent random values."""


class GridOptions(AlgorithmOptions):
    """Every combination once, in order."""


class QMCOptions(AlgorithmOptions):
    """Quasi-random points that fill the space evenly (Sobol; Bergstra and Bengio 2012, 4.3)."""

    def sampler(self, task: Task) -> BaseSampler:
        """Build the sampler; a conditional parameter is drawn at random."""
        return QMCSampler(
            scramble=True,
            seed=task.seed,
            warn_asynchronous_seeding=False,
            warn_independent_sampling=False,
        )


class TPEOptions(AlgorithmOptions):
    """Tree-structured Parzen estimator (Bergstra et al. 2011, section 4)."""

    avoids = True

    #: Random trials before the model proposes.
    n_startup_trials: int = Field(default=10, ge=1)
    #: Candidates drawn for each proposal.
    n_ei_candidates: int = Field(default=24, ge=1)
    #: Whether parameters are modelled jointly; under early stopping independent models do better.
    multivariate: bool = False

    def sampler(self, task: Task) -> BaseSampler:
        """Build the sampler."""
        return self._tpe(task, constant_liar=True)

    def _tpe(self, task: Task, constant_liar: bool) -> TPESampler:
        return TPESampler(
            seed=task.seed,
            n_startup_trials=self.n_startup_trials,
            n_ei_candidates=self.n_ei_candidates,
            multivariate=self.multivariate,
            constant_liar=constant_liar,
        )


class BohbOptions(TPEOptions):
    """TPE over the values of the highest useful rung (Falkner et al. 2018, section 3.2)."""

    def sampler(self, task: Task) -> BaseSampler:
        """Build the sampler."""
        # It is shown no running trial, of which it would have to assume anything.
        return RungSampler(self._tpe(task, constant_liar=False), least=len(task.space) + 1)


class GPOptions(AlgorithmOptions):
    """Gaussian process over the completed trials (Optuna's), expected improvement."""

    #: Random trials before the model proposes.
    n_startup_trials: int = Field(default=10, ge=1)

    def sampler(self, task: Task) -> BaseSampler:
        """Build the sampler; a conditional parameter is drawn at random.

        Raises:
            ConfigurationError: For a range of so many steps that Optuna cannot list them.
        """
        for name, parameter in task.space.items():
            if not isinstance(parameter, Choice) and (parameter.size or 0) > _MOST_STEPS:
                raise ConfigurationError(
                    f"search_space.{name}: gp lists all {parameter.size:,} steps of the range. "
                    "Use larger steps, a real range (uniform, loguniform), or algorithm: mfgp."
                )
        return GPSampler(
            seed=task.seed,
            n_startup_trials=self.n_startup_trials,
            warn_independent_sampling=False,
        )


class MFGPOptions(AlgorithmOptions):
    """Gaussian process over the values of all rungs, stopped and running trials included."""

    def proposer(self, task: Task) -> Proposes:
        """Build the proposer."""
        return Proposer(task.space, task.epochs, task.seed, task.total)


class CmaEsOptions(AlgorithmOptions):
    """Covariance matrix adaptation (Hansen 2016); for numbers, categories are drawn at random."""

    avoids = True

    #: Step size at the beginning, of the unit cube; None: a sixth.
    sigma0: float | None = Field(default=None, gt=0)

    def sampler(self, task: Task) -> BaseSampler:
        """Build the sampler."""
        return CmaEsSampler(seed=task.seed, sigma0=self.sigma0, warn_independent_sampling=False)


class GeneticOptions(AlgorithmOptions):
    """Genetic algorithm: NSGA-II, with one objective."""

    avoids = True

    #: Trials of a generation; None: 50, but at most a quarter of the study.
    population_size: int | None = Field(default=None, ge=2)

    def sampler(self, task: Task) -> BaseSampler:
        """Build the sampler."""
        return NSGAIISampler(population_size=self._population(task), seed=task.seed)

    def _population(self, task: Task) -> int:
        return self.population_size or min(50, max(4, (task.total or USUAL_TRIALS) // 4))


class NSGA2Options(GeneticOptions):
    """NSGA-II (Deb et al. 2002)."""


class NSGA3Options(GeneticOptions):
    """NSGA-III (Deb and Jain 2014)."""

    def sampler(self, task: Task) -> BaseSampler:
        """Build the sampler."""
        return NSGAIIISampler(population_size=self._population(task), seed=task.seed)


class PbtOptions(AlgorithmOptions):
    """Random members for population based training; its scheduler replaces the poor ones."""


#: Search algorithms by name; ``auto`` becomes one of the others (``study.choosing``).
ALGORITHMS: dict[str, type[AlgorithmOptions]] = {
    "grid": GridOptions,
    "random": RandomOptions,
    "qmc": QMCOptions,
    "tpe": TPEOptions,
    "gp": GPOptions,
    "mfgp": MFGPOptions,
    "bohb": BohbOptions,
    "cmaes": CmaEsOptions,
    "ga": GeneticOptions,
    "nsga2": NSGA2Options,
    "nsga3": NSGA3Options,
    "pbt": PbtOptions,
}


@dataclass(frozen=True)
class Algorithm:
    """A search algorithm, ready to propose.

    Attributes:
        name: Name for the user.
        sampler: The Optuna sampler that proposes.
        rule: Its row in the table of combinations.
        points: Points to run, where the algorithm lists them beforehand (a grid).
        searcher: A Ray Tune ``Searcher`` that proposes in the sampler's place, or None.
        proposer: What proposes from learning curves in the sampler's place, or None.
        avoids: Whether its proposals beside trials that failed are replaced.
    """

    name: str
    sampler: BaseSampler
    rule: str
    points: tuple[dict[str, Any], ...] | None = None
    searcher: Any = None
    proposer: Proposes | None = None
    avoids: bool = False


def build_algorithm(value: Any, task: Task) -> Algorithm:
    """Build a search algorithm from a name, a mapping or an object.

    Raises:
        ConfigurationError: For an unknown name or option, or a space the algorithm cannot search.
    """
    if not isinstance(value, str | Mapping):
        return _from_object(value, task)
    name, options = name_and_options("study.algorithm", value, ALGORITHMS)
    model = validate(ALGORITHMS[name], options, f"study.algorithm({name})")
    _check_exhaustive(name, task.space)
    points = tuple(grid_points(task.space)) if name == "grid" else None
    proposer = model.proposer(task)
    return Algorithm(name, model.sampler(task), name, points, None, proposer, model.avoids)


def _from_object(value: Any, task: Task) -> Algorithm:
    name = type(value).__name__
    _check_exhaustive(name, task.space)
    if isinstance(value, BaseSampler):
        return Algorithm(name, value, "Optuna sampler")
    check_object("study.algorithm", value, "suggest", ALGORITHMS)
    if task.space.conditions or task.space.constraints:
        raise ConfigurationError(
            f"study.algorithm={name}: a Ray Tune Searcher knows neither only_if nor "
            "study.constraints. Remove them, or use algorithm: auto."
        )
    return Algorithm(name, RandomSampler(seed=task.seed), "Ray Searcher", searcher=value)


def grid_points(space: SearchSpace) -> list[dict[str, Any]]:
    """List the points of a grid: each combination of values that exist together, if feasible.

    Raises:
        ConfigurationError: If a range is continuous, or there are more than a million points.
    """
    count = math.prod(_size(name, parameter) for name, parameter in space.items())
    if count > _MOST_POINTS:
        raise ConfigurationError(
            f"search_space: the grid has {count:,} points. Use larger steps, fewer values, or "
            "another algorithm than grid."
        )
    axes = {name: parameter.grid() or [] for name, parameter in space.items()}
    points: dict[str, dict[str, Any]] = {}
    for values in itertools.product(*axes.values()):
        point: dict[str, Any] = {}
        for name, value in zip(axes, values, strict=True):
            if space.exists(name, point):
                point[name] = value
        if space.feasible(point):
            points.setdefault(repr(point), point)
    return list(points.values())


#: Points of a grid that nobody means to run, and steps of a range that fit into memory.
_MOST_POINTS = _MOST_STEPS = 1_000_000


def _size(name: str, parameter: Parameter) -> int:
    if parameter.size is None:
        raise ConfigurationError(
            f"search_space.{name}: a grid needs a step or a list of values. "
            "Use quniform with q, or choice, or another algorithm than grid."
        )
    return parameter.size


def _check_exhaustive(name: str, space: SearchSpace) -> None:
    exhaustive = [
        key for key, parameter in space.items() if getattr(parameter, "exhaustive", False)
    ]
    if exhaustive and name != "grid":
        raise ConfigurationError(
            f"search_space.{exhaustive[0]}: grid_search asks for every value, but study.algorithm "
            f"is {name!r}. Use algorithm: grid, or type: choice."
        )
