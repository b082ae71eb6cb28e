"""Search algorithms by name: each an Optuna sampler behind one small builder.

A new algorithm is a model of its options and an entry of :data:`ALGORITHMS`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from pydantic import Field

from itwinai.config.model import StrictModel, validate
from itwinai.errors import ConfigurationError
from itwinai.hpo.options import check_object, name_and_options
from itwinai.hpo.space import SearchSpace


class RandomOptions(StrictModel):
    """Independent random values."""

    def sampler(self, seed: int | None) -> BaseSampler:
        """Build the sampler."""
        return RandomSampler(seed=seed)


class TPEOptions(StrictModel):
    """Tree-structured Parzen estimator (Bergstra et al. 2011, section 4)."""

    #: Random trials before the model proposes.
    n_startup_trials: int = Field(default=10, ge=1)
    #: Candidates drawn for each proposal.
    n_ei_candidates: int = Field(default=24, ge=1)
    #: Whether parameters are modelled jointly; under early stopping independent models do better.
    multivariate: bool = False

    def sampler(self, seed: int | None) -> BaseSampler:
        """Build the sampler."""
        return TPESampler(
            seed=seed,
            n_startup_trials=self.n_startup_trials,
            n_ei_candidates=self.n_ei_candidates,
            multivariate=self.multivariate,
            constant_liar=True,
        )


class GridOptions(StrictModel):
    """Every combination once, in order."""

    def sampler(self, seed: int | None) -> BaseSampler:
        """Build what serves where the grid leaves nothing to propose."""
        return RandomSampler(seed=seed)


#: Search algorithms by name.
ALGORITHMS: dict[str, type[RandomOptions | TPEOptions | GridOptions]] = {
    "grid": GridOptions,
    "random": RandomOptions,
    "tpe": TPEOptions,
}


@dataclass(frozen=True)
class Algorithm:
    """A search algorithm, ready to propose.

    Attributes:
        name: Name for the user.
        sampler: The Optuna sampler that proposes.
        points: Points to run, where the algorithm lists them beforehand (a grid).
        searcher: A Ray Tune ``Searcher`` that proposes in the sampler's place, or None.
    """

    name: str
    sampler: BaseSampler
    points: tuple[dict[str, Any], ...] | None = None
    searcher: Any = None


def build_algorithm(value: Any, space: SearchSpace, seed: int | None) -> Algorithm:
    """Build a search algorithm from a name, a mapping or an object.

    Raises:
        ConfigurationError: For an unknown name or option, or a space the algorithm cannot search.
    """
    if not isinstance(value, str | Mapping):
        return _from_object(value, space, seed)
    name, options = name_and_options("study.algorithm", value, ALGORITHMS)
    model = validate(ALGORITHMS[name], options, f"study.algorithm({name})")
    _check_exhaustive(name, space)
    points = tuple(_grid_points(space)) if name == "grid" else None
    return Algorithm(name, model.sampler(seed), points)


def _from_object(value: Any, space: SearchSpace, seed: int | None) -> Algorithm:
    name = type(value).__name__
    _check_exhaustive(name, space)
    if isinstance(value, BaseSampler):
        return Algorithm(name, value)
    check_object("study.algorithm", value, "suggest", ALGORITHMS)
    return Algorithm(name, RandomSampler(seed=seed), searcher=value)


def grid_size(space: SearchSpace) -> int:
    """Count the points of a grid.

    Raises:
        ConfigurationError: If a range is continuous.
    """
    return math.prod(len(axis) for axis in _axes(space).values())


def _grid_points(space: SearchSpace) -> list[dict[str, Any]]:
    axes = _axes(space)
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _axes(space: SearchSpace) -> dict[str, list[Any]]:
    axes = {}
    for name, parameter in space.items():
        axis = parameter.grid()
        if axis is None:
            raise ConfigurationError(
                f"search_space.{name}: a grid needs a step or a list of values. "
                "Use quniform with q, or choice, or another algorithm than grid."
            )
        axes[name] = axis
    return axes


def _check_exhaustive(name: str, space: SearchSpace) -> None:
    exhaustive = [
        key for key, parameter in space.items() if getattr(parameter, "exhaustive", False)
    ]
    if exhaustive and name != "grid":
        raise ConfigurationError(
            f"search_space.{exhaustive[0]}: grid_search asks for every value, but study.algorithm "
            f"is {name!r}. Use algorithm: grid, or type: choice."
        )
