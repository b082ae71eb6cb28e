"""Configurations as points of the unit cube, and these points as columns of a regression."""

from __future__ import annotations

import math
from collections.abc import ItemsView, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from itwinai.hpo.space import Choice, Float, Integer, Parameter

Array = NDArray[np.float64]

#: Where a parameter is put that a configuration does not have: as far from one end as the other.
CENTRE = 0.5


class SearchSpaceLike(Protocol):
    """What a proposer needs of a search space."""

    @property
    def conditions(self) -> Mapping[str, Mapping[str, tuple[Any, ...]]]:
        """Return for each child its parents' values with which it exists."""
        ...

    def feasible(self, params: Mapping[str, Any]) -> bool:
        """Tell whether a configuration meets the constraints between parameters."""
        ...

    def items(self) -> ItemsView[str, Parameter]:
        """Return the names and domains."""
        ...


class NumberAxis:
    """A range as [0, 1], logarithmic where the domain is."""

    def __init__(self, domain: Float | Integer) -> None:
        self._domain = domain
        self._low, high = self._scaled(domain.lower), self._scaled(domain.upper)
        self._width = high - self._low or 1.0

    def encode(self, value: Any) -> float:
        """Return the place of a number, at an end if it lies beyond (users may train those).

        What is no number, as a default of None, is at the centre.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            return CENTRE
        return (self._scaled(self._clipped(value)) - self._low) / self._width

    def decode(self, unit: float) -> Any:
        """Return the nearest number that the domain has."""
        scaled = self._low + unit * self._width
        number = math.exp(scaled) if self._domain.log else scaled
        # The exponential of a bound's logarithm may lie just outside.
        return self._domain.decode(self._clipped(number))

    def snap(self, units: Array) -> Array:
        """Move places to the nearest step, if the domain has steps."""
        low, high, step = self._domain.lower, self._domain.upper, self._domain.step
        if step is None:
            return units
        scaled = self._low + units * self._width
        numbers = np.exp(scaled) if self._domain.log else scaled
        numbers = np.clip(low + np.round((numbers - low) / step) * step, low, high)
        return ((np.log(numbers) if self._domain.log else numbers) - self._low) / self._width

    def matches(self, units: Array, value: Any) -> NDArray[np.bool_]:
        """Tell which of the places (n,) are those of a value."""
        scaled = self._low + units * self._width
        numbers = np.exp(scaled) if self._domain.log else scaled
        near: NDArray[np.bool_] = np.abs(numbers - value) < (self._domain.step or 0) / 2
        return near

    def columns(self, units: Array) -> Array:
        """Return places (n,) as the regression's one column (n, 1)."""
        return units[:, None]

    def _clipped(self, value: float) -> float:
        return min(self._domain.upper, max(self._domain.lower, value))

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._domain.log else float(value)


class ChoiceAxis:
    """Categories, each a slice of [0, 1]; any two are equally far apart."""

    def __init__(self, domain: Choice) -> None:
        self._domain, self._categories = domain, domain.categories

    def encode(self, value: Any) -> float:
        """Return the middle of the category's slice, the centre if it is none of them."""
        index = self._domain.index(value)
        return CENTRE if index is None else (index + 0.5) / len(self._categories)

    def decode(self, unit: float) -> Any:
        """Return the category of the slice."""
        return self._categories[self._slices(np.array([unit]))[0]]

    def snap(self, units: Array) -> Array:
        """Move places to the middle of their slice."""
        return (self._slices(units) + 0.5) / len(self._categories)

    def matches(self, units: Array, value: Any) -> NDArray[np.bool_]:
        """Tell which of the places (n,) are those of a value."""
        same: NDArray[np.bool_] = self._slices(units) == self._domain.index(value)
        return same

    def columns(self, units: Array) -> Array:
        """Return columns (n, k), one a category, in which two categories are 1 apart."""
        return np.eye(len(self._categories))[self._slices(units)] / math.sqrt(2)

    def _slices(self, units: Array) -> NDArray[np.intp]:
        count = len(self._categories)
        return np.clip((units * count).astype(np.intp), 0, count - 1)


class Encoder:
    """Turns configurations into points of the unit cube and back.

    Args:
        space: Names, domains and conditions; a point has a coordinate for each name, in order.
    """

    def __init__(self, space: SearchSpaceLike) -> None:
        self._axes = {name: _axis(domain) for name, domain in space.items()}
        self._places = {name: place for place, name in enumerate(self._axes)}
        self._conditions = space.conditions
        widths = [axis.columns(np.zeros(1)).shape[1] for axis in self._axes.values()]
        #: For each column (c,) the coordinate it belongs to.
        self.owners = np.repeat(np.arange(len(widths)), widths)

    @property
    def dimensions(self) -> int:
        """Return the number of coordinates."""
        return len(self._axes)

    def encode(self, params: Mapping[str, Any]) -> Array:
        """Return the point (d,) of a configuration."""
        return np.array(
            [
                axis.encode(params[name]) if name in params else CENTRE
                for name, axis in self._axes.items()
            ]
        )

    def decode(self, point: Array) -> dict[str, Any]:
        """Return the configuration nearest to a point (d,): its active parameters only."""
        active = self._active(point[None, :])[0]
        return {
            name: axis.decode(float(point[place]))
            for place, (name, axis) in enumerate(self._axes.items())
            if active[place]
        }

    def snap(self, points: Array) -> Array:
        """Move points (n, d) to such as configurations have."""
        axes = zip(self._axes.values(), points.T, strict=True)
        snapped = np.column_stack([axis.snap(units) for axis, units in axes])
        return np.where(self._active(snapped), snapped, CENTRE)

    def columns(self, points: Array) -> Array:
        """Return the regression's columns (n, c) of snapped points (n, d)."""
        axes = zip(self._axes.values(), points.T, strict=True)
        return np.hstack([axis.columns(units) for axis, units in axes])

    def columns_of(self, params: Mapping[str, Any]) -> Array:
        """Return the regression's columns (c,) of one configuration."""
        columns: Array = self.columns(self.snap(self.encode(params)[None, :]))[0]
        return columns

    def _active(self, points: Array) -> NDArray[np.bool_]:
        return np.column_stack([self._exists(name, points) for name in self._axes])

    def _exists(self, name: str, points: Array) -> NDArray[np.bool_]:
        exists = np.ones(len(points), dtype=bool)
        for parent, allowed in self._conditions.get(name, {}).items():
            axis, units = self._axes[parent], points[:, self._places[parent]]
            exists &= np.any([axis.matches(units, value) for value in allowed], axis=0)
            exists &= self._exists(parent, points)
        return exists


def _axis(domain: Parameter) -> NumberAxis | ChoiceAxis:
    if isinstance(domain, Choice):
        return ChoiceAxis(domain)
    if isinstance(domain, Float | Integer):
        return NumberAxis(domain)
    raise TypeError(f"no encoding for a domain of type {type(domain).__name__}")
