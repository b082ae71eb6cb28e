"""The search space: which hyper-parameters are tuned, over which values, on which conditions.

``space_forms`` reads it from what users write.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.hpo.constraints import Constraint

if TYPE_CHECKING:
    import numpy as np
    from optuna.trial import Trial


class Parameter(Protocol):
    """A hyper-parameter's domain."""

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let the study's sampler propose a value."""
        ...

    def contains(self, value: Any) -> bool:
        """Tell whether ``value`` lies in the domain."""
        ...

    def decode(self, stored: Any) -> Any:
        """Turn a value of the record into the user's value."""
        ...

    def encode(self, value: Any) -> Any:
        """Turn the user's value into what the record stores."""
        ...

    def grid(self) -> list[Any] | None:
        """Return all values, or None if the domain is continuous."""
        ...

    def at(self, position: float) -> Any:
        """Return the value at a position from 0 to 1; equal steps are equally likely values."""
        ...

    def position(self, value: Any) -> float:
        """Return where a value of the domain lies, from 0 to 1."""
        ...

    def widens(self, other: Parameter) -> bool:
        """Tell whether this is the other domain, or its range made wider."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the YAML form that reads back as this domain."""
        ...


@dataclass(frozen=True)
class Float:
    """A real number in [lower, upper]."""

    lower: float
    upper: float
    log: bool = False
    step: float | None = None

    def suggest(self, trial: Trial, name: str) -> float:
        """Let the study's sampler propose a value."""
        # Optuna has no steps on a log scale: there the proposal is rounded.
        step = None if self.log else self.step
        proposal = trial.suggest_float(name, self.lower, self.upper, log=self.log, step=step)
        return self.decode(proposal)

    def contains(self, value: Any) -> bool:
        """Tell whether ``value`` lies in the range, on a step if there are steps."""
        if not _is_number(value) or not self.lower <= value <= self.upper:
            return False
        return self.step is None or math.isclose(self.decode(value), value, rel_tol=1e-9)

    def decode(self, stored: Any) -> float:
        """Round to the nearest step, counted from ``lower``."""
        if self.step is None:
            return float(stored)
        return self._at(round((stored - self.lower) / self.step))

    def encode(self, value: Any) -> float:
        """Return the number."""
        return float(value)

    def grid(self) -> list[Any] | None:
        """Return the steps from lower to upper, or None without a step."""
        if self.step is None:
            return None
        count = math.floor((self.upper - self.lower) / self.step + 1e-9) + 1
        return [self._at(index) for index in range(count)]

    def at(self, position: float) -> float:
        """Return the value at a position, on the logarithmic scale if that is the range's."""
        value = _between(self.lower, self.upper, position, self.log)
        return self.decode(min(max(value, self.lower), self.upper))

    def position(self, value: Any) -> float:
        """Return where a value lies, on the logarithmic scale if that is the range's."""
        return _fraction(self.lower, self.upper, value, self.log)

    def widens(self, other: Parameter) -> bool:
        """Tell whether this is the other range, or a wider one."""
        return (
            isinstance(other, Float)
            and (self.log, self.step) == (other.log, other.step)
            and self.lower <= other.lower
            and self.upper >= other.upper
        )

    def describe(self) -> dict[str, Any]:
        """Return the YAML form."""
        name = ("q" if self.step else "") + ("loguniform" if self.log else "uniform")
        form = {"type": name, "lower": self.lower, "upper": self.upper}
        return form | ({"q": self.step} if self.step else {})

    def _at(self, index: int) -> float:
        # Without the digits that binary fractions add: 0.3, not 0.30000000000000004.
        return float(f"{self.lower + index * (self.step or 0):.15g}")


@dataclass(frozen=True)
class Integer:
    """An integer in [lower, upper], both included."""

    lower: int
    upper: int
    log: bool = False
    step: int = 1

    def suggest(self, trial: Trial, name: str) -> int:
        """Let the study's sampler propose a value."""
        step = 1 if self.log else self.step
        return self.decode(trial.suggest_int(name, self.lower, self.upper, log=self.log, step=step))

    def contains(self, value: Any) -> bool:
        """Tell whether ``value`` is an integer in the range, on a step if there are steps."""
        inside = _is_number(value) and self.lower <= value <= self.upper
        return inside and value == int(value) and self.decode(value) == value

    def decode(self, stored: Any) -> int:
        """Round to the nearest step, counted from ``lower``."""
        return int(self.lower + round((stored - self.lower) / self.step) * self.step)

    def encode(self, value: Any) -> int:
        """Return the integer."""
        return int(value)

    def grid(self) -> list[Any]:
        """Return all steps from lower to upper."""
        return list(range(self.lower, self.upper + 1, self.step))

    def at(self, position: float) -> int:
        """Return the value at a position, on the logarithmic scale if that is the range's."""
        half = self.step / 2
        value = _between(self.lower - half, self.upper + half, position, self.log)
        return self.decode(min(max(value, self.lower), self.upper))

    def position(self, value: Any) -> float:
        """Return where a value lies, on the logarithmic scale if that is the range's."""
        half = self.step / 2
        return _fraction(self.lower - half, self.upper + half, value, self.log)

    def widens(self, other: Parameter) -> bool:
        """Tell whether this is the other range, or a wider one."""
        return (
            isinstance(other, Integer)
            and (self.log, self.step) == (other.log, other.step)
            and self.lower <= other.lower
            and self.upper >= other.upper
        )

    def describe(self) -> dict[str, Any]:
        """Return the YAML form; its ``upper`` is exclusive, as in Ray Tune."""
        name = ("q" if self.step > 1 else "") + ("lograndint" if self.log else "randint")
        # Ray's convention: a quantised upper bound is inclusive, a plain one is not.
        upper = self.upper if self.step > 1 else self.upper + 1
        form = {"type": name, "lower": self.lower, "upper": upper}
        return form | ({"q": self.step} if self.step > 1 else {})


@dataclass(frozen=True)
class Choice:
    """One of several values of any kind that YAML can write."""

    categories: tuple[Any, ...]
    #: Written as ``grid_search``: the study must try every value.
    exhaustive: bool = False

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let the study's sampler propose a value."""
        choices = [self.encode(category) for category in self.categories]
        return self.decode(trial.suggest_categorical(name, choices))

    def contains(self, value: Any) -> bool:
        """Tell whether ``value`` is one of the categories."""
        return self.encode(value) in [self.encode(category) for category in self.categories]

    def decode(self, stored: Any) -> Any:
        """Return the category that ``stored`` stands for."""
        return next((c for c in self.categories if self.encode(c) == stored), stored)

    def encode(self, value: Any) -> Any:
        """Return scalars as they are, lists and mappings as JSON (the record takes no others)."""
        scalar = value is None or isinstance(value, bool | int | float | str)
        return value if scalar else json.dumps(value, sort_keys=True)

    def grid(self) -> list[Any]:
        """Return the categories."""
        return list(self.categories)

    def at(self, position: float) -> Any:
        """Return the category at a position."""
        return self.categories[min(int(position * len(self.categories)), len(self.categories) - 1)]

    def position(self, value: Any) -> float:
        """Return the middle of a category's share."""
        index = [self.encode(category) for category in self.categories].index(self.encode(value))
        return (index + 0.5) / len(self.categories)

    def widens(self, other: Parameter) -> bool:
        """Tell whether these are the same categories; the record cannot take other ones."""
        return self == other

    def describe(self) -> dict[str, Any]:
        """Return the YAML form."""
        if self.exhaustive:
            return {"grid_search": list(self.categories)}
        if len(self.categories) == 1:
            return {"type": "constant", "value": self.categories[0]}
        return {"type": "choice", "categories": list(self.categories)}


class SearchSpace(Mapping[str, Parameter]):
    """Names and domains of the tuned hyper-parameters, parents before their children.

    Args:
        parameters: For each name a domain (:class:`Float`, :class:`Integer`, :class:`Choice`).
        conditions: For each conditional name its parents and, of each, the values for which it
            exists; with several parents all must hold.
        constraints: What must hold between parameters.
        defaults: Values of the default configuration that the space itself states.

    Raises:
        ConfigurationError: For a parent that is unknown, continuous, never has one of the values,
            or depends on its own child; for a constraint on an unknown name.

    Example:
        >>> space = SearchSpace.parse({"lr": {"type": "loguniform", "lower": 1e-4, "upper": 0.1}})
        >>> space["lr"].contains(0.01)
        True
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        conditions: Mapping[str, Mapping[str, tuple[Any, ...]]] | None = None,
        constraints: Sequence[Constraint] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.conditions = dict(conditions or {})
        self.constraints = tuple(constraints)
        self.defaults = dict(defaults or {})
        for child, parents in self.conditions.items():
            _check_parents(child, parents, parameters)
        for constraint in self.constraints:
            constraint.check_names(parameters)
        order = _parents_first(parameters, self.conditions)
        self._parameters = {name: parameters[name] for name in order}

    @classmethod
    def parse(cls, forms: Mapping[str, Any]) -> SearchSpace:
        """Read a search space as users write it.

        Raises:
            ConfigurationError: For an empty space, an unknown type or argument, an empty or
                non-finite range, a logarithmic range that reaches zero; as of the class.
        """
        from itwinai.hpo.space_forms import read_space

        read = read_space(forms)
        return cls(read.parameters, read.conditions, defaults=read.defaults)

    def constrained(self, constraints: Sequence[str]) -> SearchSpace:
        """Return this space with constraints between its parameters.

        Raises:
            ConfigurationError: For what is no such expression, or names an unknown parameter.
        """
        parsed = [Constraint(text) for text in constraints]
        return SearchSpace(self._parameters, self.conditions, parsed, self.defaults)

    def suggest(self, trial: Trial, given: Mapping[str, Any]) -> dict[str, Any]:
        """Propose all values that are not ``given``; a parameter that does not exist has none.

        Of those given, the ones inside the space are queued with the sampler, which thereby hears
        of them; it is not asked about those outside (a default configuration may hold some).
        """
        params: dict[str, Any] = {}
        for name, parameter in self.items():
            if not self.exists(name, params):
                continue
            if name not in given or parameter.contains(given[name]):
                params[name] = parameter.suggest(trial, name)
            if name in given:
                params[name] = given[name]
        return params

    def exists(self, name: str, params: Mapping[str, Any]) -> bool:
        """Tell whether a parameter exists beside the values of its parents."""
        return all(
            parent in params and _one_of(params[parent], values)
            for parent, values in self.conditions.get(name, {}).items()
        )

    def existing(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out the values of parameters that do not exist beside the others."""
        kept: dict[str, Any] = {}
        for name in self:
            if name in params and self.exists(name, kept):
                kept[name] = params[name]
        return kept

    def feasible(self, params: Mapping[str, Any]) -> bool:
        """Tell whether all constraints hold; one on a parameter that does not exist does."""
        return all(constraint.holds(params) for constraint in self.constraints)

    def widens(self, other: SearchSpace) -> bool:
        """Tell whether this space is the other one, with the same or wider ranges of numbers."""
        same = list(self) == list(other) and self.conditions == other.conditions
        return same and all(self[name].widens(other[name]) for name in self)

    def sample(self, rng: np.random.Generator, tries: int = 10_000) -> dict[str, Any] | None:
        """Draw a feasible point at random; None if ``tries`` draws found none."""
        for _ in range(tries):
            params: dict[str, Any] = {}
            for name, parameter in self.items():
                if self.exists(name, params):
                    params[name] = parameter.at(rng.random())
            if self.feasible(params):
                return params
        return None

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Turn the record's values into the user's."""
        return {name: self[name].decode(stored[name]) for name in self if name in stored}

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Turn the user's values into the record's."""
        return {name: self[name].encode(params[name]) for name in self if name in params}

    def describe(self) -> dict[str, Any]:
        """Return the YAML form that reads back as this space, constraints aside."""
        return {name: self._describe(name) for name in self}

    def _describe(self, name: str) -> dict[str, Any]:
        form = self[name].describe()
        if name in self.conditions:
            form["only_if"] = {p: list(values) for p, values in self.conditions[name].items()}
        if name in self.defaults:
            form["default"] = self.defaults[name]
        return form

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


def _check_parents(
    child: str, parents: Mapping[str, tuple[Any, ...]], parameters: Mapping[str, Parameter]
) -> None:
    for parent, values in parents.items():
        where = f"search_space.{child}.only_if.{parent}"
        if parent not in parameters:
            hint = did_you_mean(parent, parameters) or f"; known names: {', '.join(parameters)}"
            raise ConfigurationError(f"{where}: no such parameter in the search space{hint}")
        if parameters[parent].grid() is None:
            raise ConfigurationError(
                f"{where}: a condition needs a parent with a list of values; {parent!r} is "
                "continuous"
            )
        never = [value for value in values if not parameters[parent].contains(value)]
        if never or not values:
            raise ConfigurationError(
                f"{where}={list(values)!r}: {parent!r} never has the value "
                f"{never[0] if never else None!r}, so the condition could never hold"
            )


def _parents_first(
    parameters: Mapping[str, Parameter], conditions: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    order: list[str] = []
    waiting = list(parameters)
    while waiting:
        ready = [n for n in waiting if all(p in order for p in conditions.get(n, ()))]
        if not ready:
            raise ConfigurationError(
                f"search_space: {', '.join(waiting)} depend on one another; "
                "a parent must not depend on its child"
            )
        order += ready
        waiting = [name for name in waiting if name not in ready]
    return order


def _one_of(value: Any, values: Sequence[Any]) -> bool:
    return any(
        value == other and isinstance(value, bool) == isinstance(other, bool) for other in values
    )


def _between(lower: float, upper: float, position: float, log: bool) -> float:
    if log:
        return math.exp(_between(math.log(lower), math.log(upper), position, log=False))
    return lower + (upper - lower) * position


def _fraction(lower: float, upper: float, value: float, log: bool) -> float:
    if log:
        return _fraction(math.log(lower), math.log(upper), math.log(value), log=False)
    return (value - lower) / (upper - lower)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
