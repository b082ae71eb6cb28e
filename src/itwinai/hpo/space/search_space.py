"""The search space: which hyper-parameters are tuned, over which values, on which conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.hpo.space.constraints import Constraint
from itwinai.hpo.space.domains import Choice, Parameter
from itwinai.hpo.space.values import from_json, same, to_json

if TYPE_CHECKING:
    import numpy as np
    from optuna.trial import Trial


#: How a value outside the space is kept: a mapping of this one key.
_OUTSIDE = "__outside__"


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
        self.constraints = tuple(constraints)
        for child, parents in (conditions or {}).items():
            _check_parents(child, parents, parameters)
        #: For each conditional name its parents and, of each, the values for which it exists.
        self.conditions = {
            child: {p: tuple(map(parameters[p].canonical, values)) for p, values in parents.items()}
            for child, parents in (conditions or {}).items()
        }
        self.defaults = {n: parameters[n].canonical(v) for n, v in (defaults or {}).items()}
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
        # Loaded here, because a trial's process has a space and reads none.
        from itwinai.hpo.space.reading import read_space

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
                params[name] = parameter.canonical(given[name])
        return params

    def exists(self, name: str, params: Mapping[str, Any]) -> bool:
        """Tell whether a parameter exists beside the values of its parents."""
        return all(
            parent in params
            and any(same(self[parent].canonical(params[parent]), value) for value in values)
            for parent, values in self.conditions.get(name, {}).items()
        )

    def existing(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out the values of parameters that do not exist beside the others."""
        kept: dict[str, Any] = {}
        for name in self:
            if name in params and self.exists(name, kept):
                kept[name] = self[name].canonical(params[name])
        return kept

    def nearest(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the point of the space that is nearest to some values, which may lie outside.

        None if one of them, as another category, is near to none of its domain.
        """
        point = {name: self[name].nearest(value) for name, value in params.items()}
        inside = all(self[name].contains(value) for name, value in point.items())
        return point if inside else None

    def complaint(self, params: Mapping[str, Any]) -> str | None:
        """Say which of some values is none of the space's, and why; None if all are."""
        for name, value in params.items():
            if name not in self:
                hint = did_you_mean(name, self) or f"; known names: {', '.join(self)}"
                return f"{name}: not in the search space{hint}"
            if not self[name].contains(value):
                return f"{name}={value!r} lies outside the search space: {self[name].describe()}"
        return None

    def feasible(self, params: Mapping[str, Any]) -> bool:
        """Tell whether all constraints hold; one on a parameter that does not exist does."""
        return all(constraint.holds(params) for constraint in self.constraints)

    def widens(self, other: SearchSpace) -> bool:
        """Tell whether this space is the other one, with the same or wider ranges of numbers."""
        if list(self) != list(other) or not all(self[n].widens(other[n]) for n in self):
            return False
        return self._recorded_conditions() == other._recorded_conditions()

    def sample(
        self, rng: np.random.Generator, given: Mapping[str, Any] | None = None, tries: int = 10_000
    ) -> dict[str, Any] | None:
        """Draw a feasible point at random; None if ``tries`` draws found none.

        Args:
            rng: Draws it.
            given: Values that it has.
            tries: Draws at most.
        """
        known = given or {}
        for _ in range(tries):
            params: dict[str, Any] = {}
            for name, parameter in self.items():
                if self.exists(name, params):
                    value = known[name] if name in known else parameter.at(rng.random())
                    params[name] = parameter.canonical(value)
            if self.feasible(params):
                return params
        return None

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Turn the record's values into the user's."""
        return {name: self[name].decode(stored[name]) for name in self if name in stored}

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Turn the user's values into the record's; those outside the space are left out."""
        return {
            name: parameter.encode(params[name])
            for name, parameter in self.items()
            if name in params and parameter.contains(params[name])
        }

    def keep(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Turn the user's values into a form that JSON keeps, those outside the space too."""
        known = {name: params[name] for name in self if name in params}
        outside = {name: {_OUTSIDE: to_json(value)} for name, value in known.items()}
        return outside | self.encode(known)

    def restore(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """Turn what :meth:`keep` returned, or an earlier version kept, into the values."""
        return {
            name: from_json(value[_OUTSIDE])
            if isinstance(value, Mapping) and set(value) == {_OUTSIDE}
            else _inside(self[name], value)
            for name, value in kept.items()
            if name in self
        }

    def describe(self) -> dict[str, Any]:
        """Return the YAML form that reads back as this space, constraints aside."""
        return {name: self._describe(name) for name in self}

    def _recorded_conditions(self) -> dict[str, dict[str, list[Any]]]:
        return {
            child: {p: [self[p].encode(value) for value in values] for p, values in parents.items()}
            for child, parents in self.conditions.items()
        }

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
        if parameters[parent].size is None:
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


def _inside(parameter: Parameter, stored: Any) -> Any:
    """A value that was kept; an earlier version kept those outside alike."""
    if isinstance(parameter, Choice):
        return parameter.decode(stored)
    return parameter.canonical(stored)
