"""The search space: which hyper-parameters are tuned, and over which values.

One typed model inside; it reads the YAML form ``{type: loguniform, lower: 1e-4, upper: 1e-1}``, the
names of Ray Tune's functions being the types, and ``{grid_search: [...]}``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from itwinai.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
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

    def describe(self) -> dict[str, Any]:
        """Return the YAML form."""
        if self.exhaustive:
            return {"grid_search": list(self.categories)}
        return {"type": "choice", "categories": list(self.categories)}


class SearchSpace(Mapping[str, Parameter]):
    """Names and domains of the tuned hyper-parameters.

    Args:
        parameters: For each name a domain (:class:`Float`, :class:`Integer`, :class:`Choice`).

    Example:
        >>> space = SearchSpace.parse({"lr": {"type": "loguniform", "lower": 1e-4, "upper": 0.1}})
        >>> space["lr"].contains(0.01)
        True
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self._parameters = dict(parameters)

    @classmethod
    def parse(cls, forms: Mapping[str, Any]) -> SearchSpace:
        """Read a search space as users write it.

        Raises:
            ConfigurationError: For an empty space, an unknown type or argument, an empty or
                non-finite range, or a logarithmic range that reaches zero.
        """
        if not isinstance(forms, Mapping) or not forms:
            raise ConfigurationError(
                "search_space: at least one hyper-parameter is needed, for example "
                "{optim_lr: {type: loguniform, lower: 1e-4, upper: 1e-1}}"
            )
        return cls(
            {str(name): _parse(f"search_space.{name}", form) for name, form in forms.items()}
        )

    def suggest(self, trial: Trial, given: Mapping[str, Any]) -> dict[str, Any]:
        """Propose all values that are not ``given``.

        Of those given, the ones inside the space are queued with the sampler, which thereby hears
        of them; it is not asked about those outside (a default configuration may hold some).
        """
        proposed = {
            name: parameter.suggest(trial, name)
            for name, parameter in self.items()
            if name not in given or parameter.contains(given[name])
        }
        return {name: given.get(name, proposed.get(name)) for name in self}

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Turn the record's values into the user's."""
        return {name: self[name].decode(stored[name]) for name in self if name in stored}

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Turn the user's values into the record's."""
        return {name: self[name].encode(params[name]) for name in self if name in params}

    def describe(self) -> dict[str, Any]:
        """Return the YAML form that reads back as this space."""
        return {name: parameter.describe() for name, parameter in self.items()}

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


def _parse(where: str, form: Any) -> Parameter:
    if isinstance(form, Float | Integer | Choice):
        return form
    if not isinstance(form, Mapping):
        return _from_ray(where, form)
    if set(form) == {"grid_search"}:
        return _categories(where, form["grid_search"], exhaustive=True)
    kind = form.get("type")
    if not isinstance(kind, str) or kind not in _TYPES:
        known = "; known types: " + ", ".join([*_TYPES, "grid_search"])
        hint = did_you_mean(str(kind), _TYPES) or known
        raise ConfigurationError(f"{where}.type={kind!r}: unknown{hint}")
    arguments = {key: value for key, value in form.items() if key != "type"}
    try:
        return _TYPES[kind](where, **arguments)
    except TypeError as error:
        reason = str(error).split("()", 1)[-1].strip()
        raise ConfigurationError(f"{where}: {kind} {reason}") from None


def _from_ray(where: str, form: Any) -> Parameter:
    from itwinai.hpo.engine.domains import read_domain

    described = read_domain(form)
    if described is None:
        raise ConfigurationError(
            f"{where}={form!r}: expected a mapping such as {{type: uniform, lower: 0, upper: 1}} "
            "or a Ray Tune domain. A fixed value belongs in the trainer's config."
        )
    return _parse(where, described)


def _real(where: str, *, lower: Any, upper: Any, log: bool, q: Any = None) -> Float:
    low, high = _number(where, "lower", lower), _number(where, "upper", upper)
    _check_range(where, low, high, log)
    if q is None:
        return Float(low, high, log)
    step = _positive(where, "q", q)
    steps = math.floor((high - low) / step + 1e-9)
    if steps == 0:
        raise ConfigurationError(f"{where}: not one step of {q} fits between {lower} and {upper}")
    domain = Float(low, high, log, step)
    return replace(domain, upper=domain.decode(low + steps * step))


def _whole(where: str, *, lower: Any, upper: Any, log: bool, q: Any = 1) -> Integer:
    low, high = _number(where, "lower", lower), _number(where, "upper", upper)
    step = int(_positive(where, "q", q))
    if low != int(low) or high != int(high) or step != float(q):
        raise ConfigurationError(f"{where}: bounds and step of an integer range must be integers")
    last = int(high) if step > 1 else int(high) - 1
    if last < low:
        until = f"to {upper}" if step > 1 else f"up to, not including, {upper}"
        raise ConfigurationError(f"{where}: the range from {lower} {until} is empty")
    _check_range(where, low, max(last, low + 1), log)
    return Integer(int(low), int(low) + (last - int(low)) // step * step, log, step)


def _choice(where: str, categories: Any) -> Choice:
    return _categories(where, categories, exhaustive=False)


def _categories(where: str, categories: Any, exhaustive: bool) -> Choice:
    if not isinstance(categories, list | tuple) or not categories:
        raise ConfigurationError(
            f"{where}: a choice needs a list of at least one value, got {categories!r}"
        )
    try:
        json.dumps(categories)
    except TypeError as error:
        raise ConfigurationError(
            f"{where}: {error}. Choices are numbers, strings, true, false, null, "
            "or lists and mappings of them."
        ) from None
    return Choice(tuple(categories), exhaustive)


def _uniform(where: str, lower: Any, upper: Any) -> Float:
    return _real(where, lower=lower, upper=upper, log=False)


def _quniform(where: str, lower: Any, upper: Any, q: Any) -> Float:
    return _real(where, lower=lower, upper=upper, log=False, q=q)


def _loguniform(where: str, lower: Any, upper: Any, base: Any = 10) -> Float:
    return _real(where, lower=lower, upper=upper, log=True)


def _qloguniform(where: str, lower: Any, upper: Any, q: Any, base: Any = 10) -> Float:
    return _real(where, lower=lower, upper=upper, log=True, q=q)


def _randint(where: str, lower: Any, upper: Any) -> Integer:
    return _whole(where, lower=lower, upper=upper, log=False)


def _qrandint(where: str, lower: Any, upper: Any, q: Any = 1) -> Integer:
    return _whole(where, lower=lower, upper=upper, log=False, q=q)


def _lograndint(where: str, lower: Any, upper: Any, base: Any = 10) -> Integer:
    return _whole(where, lower=lower, upper=upper, log=True)


def _qlograndint(where: str, lower: Any, upper: Any, q: Any, base: Any = 10) -> Integer:
    return _whole(where, lower=lower, upper=upper, log=True, q=q)


#: Types of a YAML search space: the names and arguments of Ray Tune's functions.
_TYPES: dict[str, Callable[..., Parameter]] = {
    "uniform": _uniform,
    "quniform": _quniform,
    "loguniform": _loguniform,
    "qloguniform": _qloguniform,
    "randint": _randint,
    "qrandint": _qrandint,
    "lograndint": _lograndint,
    "qlograndint": _qlograndint,
    "choice": _choice,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(where: str, key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{where}.{key}={value!r}: expected a number") from None
    if not math.isfinite(number):
        raise ConfigurationError(f"{where}.{key}={value!r}: a range must be finite")
    return number


def _positive(where: str, key: str, value: Any) -> float:
    number = _number(where, key, value)
    if number <= 0:
        raise ConfigurationError(f"{where}.{key}={value!r}: a step must be above 0")
    return number


def _check_range(where: str, lower: float, upper: float, log: bool) -> None:
    if lower >= upper:
        raise ConfigurationError(
            f"{where}: the range from {lower:g} to {upper:g} is empty; lower must be below upper"
        )
    if log and lower <= 0:
        raise ConfigurationError(
            f"{where}: a logarithmic range needs lower above 0, got {lower:g}. "
            "Use a small positive bound, or the linear type."
        )
