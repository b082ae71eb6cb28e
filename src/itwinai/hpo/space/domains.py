"""Domains: the values that one hyper-parameter may take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from itwinai.hpo.space.values import index_of, labels, same

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


class Parameter(Protocol):
    """A hyper-parameter's domain."""

    def suggest(self, trial: BaseTrial, name: str) -> Any:
        """Let the study's sampler propose a value."""
        ...

    def contains(self, value: Any) -> bool:
        """Tell whether ``value`` lies in the domain."""
        ...

    def decode(self, stored: Any) -> Any:
        """Turn a value of the record into the user's value."""
        ...

    def canonical(self, value: Any) -> Any:
        """Return the domain's own value that a given one stands for; one outside as it is."""
        ...

    def nearest(self, value: Any) -> Any:
        """Return the domain's own value that is nearest to a given one; if none is, it as it is."""
        ...

    def encode(self, value: Any) -> Any:
        """Turn the user's value into what the record stores."""
        ...

    @property
    def size(self) -> int | None:
        """Number of values, or None if the domain is continuous."""
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

    def suggest(self, trial: BaseTrial, name: str) -> float:
        """Let the study's sampler propose a value."""
        # Optuna has no steps on a log scale: there the proposal is rounded.
        step = None if self.log else self.step
        proposal = trial.suggest_float(name, self.lower, self.upper, log=self.log, step=step)
        return self.decode(proposal)

    def contains(self, value: Any) -> bool:
        """Tell whether ``value`` lies in the range, on a step if there are steps."""
        if not _is_number(value) or not self.lower <= value <= self.upper:
            return False
        if self.step is None:
            return True
        return math.isclose(self.decode(value), value, rel_tol=1e-9, abs_tol=1e-9 * self.step)

    def decode(self, stored: Any) -> float:
        """Round to the nearest step, counted from ``lower``."""
        if self.step is None:
            return float(stored)
        return self._at(round((stored - self.lower) / self.step))

    def canonical(self, value: Any) -> Any:
        """Return the number, moved onto its step."""
        return self.decode(value) if self.contains(value) else value

    def nearest(self, value: Any) -> Any:
        """Return the step, or the end, that is nearest to a number."""
        return self.decode(_clipped(self, value)) if _is_number(value) else value

    def encode(self, value: Any) -> float:
        """Return the number."""
        return float(value)

    @property
    def size(self) -> int | None:
        """Number of steps, or None without a step."""
        if self.step is None:
            return None
        return math.floor((self.upper - self.lower) / self.step + 1e-9) + 1

    def grid(self) -> list[Any] | None:
        """Return the steps from lower to upper, or None without a step."""
        return None if self.size is None else [self._at(index) for index in range(self.size)]

    def at(self, position: float) -> float:
        """Return the value at a position, on the logarithmic scale if that is the range's."""
        value = _between(*self._edges, position, self.log)
        return self.decode(_clipped(self, value))

    def position(self, value: Any) -> float:
        """Return where a value lies, on the logarithmic scale if that is the range's."""
        return _fraction(*self._edges, value, self.log)

    @property
    def _edges(self) -> tuple[float, float]:
        """Where the values' shares of the range begin and end."""
        # As samplers propose: on a log scale real numbers, which are rounded to the step.
        half = 0.0 if self.log or self.step is None else self.step / 2
        return self.lower - half, self.upper + half

    def widens(self, other: Parameter) -> bool:
        """Tell whether this is the other range, or a wider one with the same steps."""
        return isinstance(other, Float) and _widens(self, other)

    def describe(self) -> dict[str, Any]:
        """Return the YAML form."""
        name = ("q" if self.step else "") + ("loguniform" if self.log else "uniform")
        form = {"type": name, "lower": self.lower, "upper": self.upper}
        return form | ({"q": self.step} if self.step else {})

    def _at(self, index: int) -> float:
        # In decimal digits, as users write them: binary fractions make 0.30000000000000004 of three
        # tenths, and of -0.3 and three tenths 5.6e-17.
        lower, step = (Decimal(repr(float(part))) for part in (self.lower, self.step or 0))
        return max(self.lower, float(f"{lower + index * step:.15g}"))


@dataclass(frozen=True)
class Integer:
    """An integer in [lower, upper], both included."""

    lower: int
    upper: int
    log: bool = False
    step: int = 1

    def suggest(self, trial: BaseTrial, name: str) -> int:
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

    def canonical(self, value: Any) -> Any:
        """Return the integer that a number is."""
        return self.decode(value) if self.contains(value) else value

    def nearest(self, value: Any) -> Any:
        """Return the step, or the end, that is nearest to a number."""
        return self.decode(_clipped(self, value)) if _is_number(value) else value

    def encode(self, value: Any) -> int:
        """Return the integer."""
        return int(value)

    @property
    def size(self) -> int:
        """Number of steps."""
        return (self.upper - self.lower) // self.step + 1

    def grid(self) -> list[Any]:
        """Return all steps from lower to upper."""
        return list(range(self.lower, self.upper + 1, self.step))

    def at(self, position: float) -> int:
        """Return the value at a position, on the logarithmic scale if that is the range's."""
        value = _between(*self._edges, position, self.log)
        return self.decode(_clipped(self, value))

    def position(self, value: Any) -> float:
        """Return where a value lies, on the logarithmic scale if that is the range's."""
        return _fraction(*self._edges, value, self.log)

    @property
    def _edges(self) -> tuple[float, float]:
        """Where the values' shares of the range begin and end."""
        # As samplers propose: on a log scale whole numbers, which are rounded to the step.
        half = 0.5 if self.log else self.step / 2
        return self.lower - half, self.upper + half

    def widens(self, other: Parameter) -> bool:
        """Tell whether this is the other range, or a wider one with the same steps."""
        return isinstance(other, Integer) and _widens(self, other)

    def describe(self) -> dict[str, Any]:
        """Return the YAML form; its ``upper`` is exclusive, as in Ray Tune."""
        name = ("q" if self.step > 1 else "") + ("lograndint" if self.log else "randint")
        # Ray's convention: a quantised upper bound is inclusive, a plain one is not.
        upper = self.upper if self.step > 1 else self.upper + 1
        form = {"type": name, "lower": self.lower, "upper": upper}
        return form | ({"q": self.step} if self.step > 1 else {})


@dataclass(frozen=True)
class Choice:
    """One of several values of any kind that YAML can write, and tuples and paths of Python."""

    categories: tuple[Any, ...]
    #: Written as ``grid_search``: the study must try every value.
    exhaustive: bool = False

    @cached_property
    def _labels(self) -> list[Any]:
        """What stands for each category in the record, which takes only scalars."""
        return labels(self.categories)

    def suggest(self, trial: BaseTrial, name: str) -> Any:
        """Let the study's sampler propose a value."""
        return self.decode(trial.suggest_categorical(name, self._labels))

    def contains(self, value: Any) -> bool:
        """Tell whether ``value`` is one of the categories."""
        return self.index(value) is not None

    def index(self, value: Any) -> int | None:
        """Return which category a value is, or None."""
        return index_of(value, self.categories)

    def canonical(self, value: Any) -> Any:
        """Return the category, as it was written, that a value stands for."""
        index = self.index(value)
        return value if index is None else self.categories[index]

    def nearest(self, value: Any) -> Any:
        """Return the category that a value stands for; no other one is near."""
        return self.canonical(value)

    def decode(self, stored: Any) -> Any:
        """Return the category that ``stored`` stands for."""
        index = index_of(stored, self._labels)
        return self.canonical(stored) if index is None else self.categories[index]

    def encode(self, value: Any) -> Any:
        """Return what stands for a category in the record.

        Raises:
            ValueError: If it is no category.
        """
        index = self.index(value)
        if index is None:
            raise ValueError(f"{value!r} is none of {self.categories}")
        return self._labels[index]

    @property
    def size(self) -> int:
        """Number of categories."""
        return len(self.categories)

    def grid(self) -> list[Any]:
        """Return the categories."""
        return list(self.categories)

    def at(self, position: float) -> Any:
        """Return the category at a position."""
        return self.categories[min(int(position * len(self.categories)), len(self.categories) - 1)]

    def position(self, value: Any) -> float:
        """Return the middle of a category's share."""
        index = self.index(value)
        if index is None:
            raise ValueError(f"{value!r} is none of {self.categories}")
        return (index + 0.5) / len(self.categories)

    def widens(self, other: Parameter) -> bool:
        """Tell whether the record takes these for the same categories; it cannot take others."""
        if not isinstance(other, Choice) or self.exhaustive != other.exhaustive:
            return False
        return same(self._labels, other._labels)

    def describe(self) -> dict[str, Any]:
        """Return the YAML form."""
        if self.exhaustive:
            return {"grid_search": list(self.categories)}
        if len(self.categories) == 1:
            return {"type": "constant", "value": self.categories[0]}
        return {"type": "choice", "categories": list(self.categories)}


def _widens(new: Float | Integer, old: Float | Integer) -> bool:
    """Tell whether a range has all values of another one, and reads the record's as that did."""
    if (new.log, new.step) != (old.log, old.step):
        return False
    if not new.lower <= old.lower <= old.upper <= new.upper:
        return False
    if new.step is None:
        return True
    # On a log scale the record holds proposals, of which one half way is rounded to an even step.
    unit = 2 * new.step if new.log else new.step
    moved = (old.lower - new.lower) / unit
    return math.isclose(moved, round(moved), rel_tol=1e-9, abs_tol=1e-9)


def _between(lower: float, upper: float, position: float, log: bool) -> float:
    if log:
        return math.exp(_between(math.log(lower), math.log(upper), position, log=False))
    return lower + (upper - lower) * position


def _fraction(lower: float, upper: float, value: float, log: bool) -> float:
    if log:
        return _fraction(math.log(lower), math.log(upper), math.log(value), log=False)
    return (value - lower) / (upper - lower)


def _clipped(domain: Float | Integer, value: float) -> float:
    return min(max(value, domain.lower), domain.upper)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and not math.isnan(value)
