"""Ranges of numbers as users give them, checked and made into domains.

Each function is told ``where`` the range stands, which starts an error's message.
"""

from __future__ import annotations

import math
from dataclasses import replace

from itwinai.errors import ConfigurationError
from itwinai.hpo.space.domains import Float, Integer

#: Integers up to here are exact as floating-point numbers.
_EXACT = 2**53


def real(where: str, lower: float, upper: float, log: bool, step: float | None) -> Float:
    """A real range, both bounds included; the upper one moves down to a step."""
    _check_range(where, lower, upper, log)
    if step is None:
        return Float(float(lower), float(upper), log)
    steps = math.floor((upper - lower) / step + 1e-9)
    if steps == 0:
        raise ConfigurationError(
            f"{where}: not one step of {step:g} fits between {lower:g} and {upper:g}"
        )
    domain = Float(float(lower), float(upper), log, float(step))
    return replace(domain, upper=domain.decode(lower + steps * step))


def up_to(where: str, lower: float, upper: float, log: bool) -> Integer:
    """An integer range whose upper bound is excluded."""
    if upper - 1 < lower:
        raise ConfigurationError(
            f"{where}: the range from {lower:g} up to, not including, {upper:g} is empty"
        )
    return whole(where, lower, upper - 1, log, step=1)


def whole(where: str, lower: float, upper: float, log: bool, step: float) -> Integer:
    """An integer range, both bounds included; the upper one moves down to a step."""
    if not all(float(number).is_integer() for number in (lower, upper, step)):
        raise ConfigurationError(f"{where}: bounds and step of an integer range must be integers")
    if upper < lower:
        raise ConfigurationError(f"{where}: the range from {lower:g} to {upper:g} is empty")
    _check_range(where, lower, max(upper, lower + 1), log)
    if max(abs(lower), abs(upper)) > _EXACT:
        raise ConfigurationError(
            f"{where}: samplers reckon in floating point, which tells integers beyond 2**53 "
            "not from their neighbours. Keep the range within -2**53 to 2**53."
        )
    low, width = int(lower), int(step)
    return Integer(low, low + (int(upper) - low) // width * width, log, width)


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
