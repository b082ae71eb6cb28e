"""The forms in which users write one hyper-parameter's domain.

The YAML form is ``{type: loguniform, lower: 1e-4, upper: 1e-1}``; the types are those of
:data:`FORMS`: ``float``, ``int``, ``bool``, ``choice``, ``constant``, and the names of Ray Tune's
functions. Any form may say ``only_if: {parent: [values]}`` and ``default: value``.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from itwinai.config.model import StrictModel
from itwinai.config.values import plain
from itwinai.hpo.space.domains import Choice, Parameter
from itwinai.hpo.space.ranges import real, up_to, whole
from itwinai.hpo.space.values import same, to_json


def _finite(value: Any) -> float:
    """A number; an integer stays one, because it can be larger than a float tells exactly."""
    value = plain(value)
    try:
        number = value if isinstance(value, int) else float(value)
        finite = math.isfinite(number)
    except (TypeError, ValueError):
        raise ValueError("expected a number") from None
    if not finite:
        raise ValueError("a range must be finite")
    return number


def _step(value: Any) -> float:
    if _finite(value) <= 0:
        raise ValueError("a step must be above 0")
    return _finite(value)


def _values(value: Any) -> Any:
    """A list of values, each of which a record can keep."""
    value = plain(value)
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("a choice needs a list of at least one value")
    try:
        to_json(list(value))
    except TypeError as error:
        raise ValueError(
            f"{error}. Choices are numbers, strings, paths, true, false, null, "
            "or lists, tuples and mappings of them."
        ) from None
    return list(value)


def _categories(value: Any) -> list[Any]:
    values: list[Any] = _values(value)
    twice = next((v for i, v in enumerate(values) if any(same(v, w) for w in values[:i])), _NONE)
    if twice is not _NONE:
        raise ValueError(f"{twice!r} is there twice")
    return values


#: No value at all.
_NONE = object()

Number = Annotated[int | float, BeforeValidator(_finite)]
Step = Annotated[int | float, BeforeValidator(_step)]
Values = Annotated[list[Any], BeforeValidator(_values)]
Categories = Annotated[list[Any], BeforeValidator(_categories)]


class Form(StrictModel):
    """What all forms may say."""

    #: For which values of its parents the parameter exists.
    only_if: dict[str, Values] = Field(default_factory=dict)
    #: Its value in the default configuration; otherwise the trainer's own.
    default: Annotated[Any, BeforeValidator(plain)] = None

    def domain(self, where: str) -> Parameter:
        """Build the domain; ``where`` starts an error's message."""
        raise NotImplementedError


class RealForm(Form):
    """A real range, both bounds included."""

    lower: Number
    upper: Number
    #: Whether equal ratios are equally likely.
    log: bool = False
    #: Distance between values, counted from ``lower``.
    step: Step | None = None

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return real(where, self.lower, self.upper, self.log, self.step)


class WholeForm(Form):
    """An integer range, both bounds included."""

    lower: Number
    upper: Number
    #: Whether equal ratios are equally likely.
    log: bool = False
    #: Distance between values, counted from ``lower``.
    step: Step = 1

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return whole(where, self.lower, self.upper, self.log, self.step)


class BoolForm(Form):
    """True or false."""

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return Choice((False, True))


class ConstantForm(Form):
    """A fixed value."""

    value: Annotated[Any, BeforeValidator(plain)]

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return Choice(tuple(_categories([self.value])))


class ChoiceForm(Form):
    """One of several values, of any kind that YAML can write."""

    categories: Categories

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return Choice(tuple(self.categories))


class GridSearchForm(Form):
    """Values that must all be tried."""

    grid_search: Categories

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return Choice(tuple(self.grid_search), exhaustive=True)


class UniformForm(Form):
    """Ray Tune's ``uniform``."""

    lower: Number
    upper: Number

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return real(where, self.lower, self.upper, log=False, step=None)


class QUniformForm(UniformForm):
    """Ray Tune's ``quniform``: in steps of ``q``."""

    q: Step

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return real(where, self.lower, self.upper, log=False, step=self.q)


class LogUniformForm(UniformForm):
    """Ray Tune's ``loguniform``; the base makes no difference."""

    base: Number = 10

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return real(where, self.lower, self.upper, log=True, step=None)


class QLogUniformForm(LogUniformForm):
    """Ray Tune's ``qloguniform``: in steps of ``q``."""

    q: Step

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return real(where, self.lower, self.upper, log=True, step=self.q)


class RandIntForm(Form):
    """Ray Tune's ``randint``, whose ``upper`` is excluded."""

    lower: Number
    upper: Number

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return up_to(where, self.lower, self.upper, log=False)


class LogRandIntForm(RandIntForm):
    """Ray Tune's ``lograndint``, whose ``upper`` is excluded."""

    base: Number = 10

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return up_to(where, self.lower, self.upper, log=True)


class QRandIntForm(RandIntForm):
    """Ray Tune's ``qrandint``: in steps of ``q``; with steps above 1 ``upper`` is included."""

    q: Step = 1

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        if self.q == 1:
            return up_to(where, self.lower, self.upper, log=False)
        return whole(where, self.lower, self.upper, log=False, step=self.q)


class QLogRandIntForm(LogRandIntForm):
    """Ray Tune's ``qlograndint``: in steps of ``q``; with steps above 1 ``upper`` is included."""

    q: Step = 1

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        if self.q == 1:
            return up_to(where, self.lower, self.upper, log=True)
        return whole(where, self.lower, self.upper, log=True, step=self.q)


#: Forms by their ``type``.
FORMS: dict[str, type[Form]] = {
    "uniform": UniformForm,
    "quniform": QUniformForm,
    "loguniform": LogUniformForm,
    "qloguniform": QLogUniformForm,
    "randint": RandIntForm,
    "qrandint": QRandIntForm,
    "lograndint": LogRandIntForm,
    "qlograndint": QLogRandIntForm,
    "choice": ChoiceForm,
    "float": RealForm,
    "int": WholeForm,
    "bool": BoolForm,
    "constant": ConstantForm,
}
