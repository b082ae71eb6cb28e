"""Reading a search space from what users write.

The YAML form is ``{type: loguniform, lower: 1e-4, upper: 1e-1}``; the types are those of
:data:`FORMS`: ``float``, ``int``, ``bool``, ``choice``, ``constant``, and the names of Ray Tune's
functions. Any form may say ``only_if: {parent: [values]}`` and ``default: value``. Nested mappings
are read as dotted names and a bare value as a constant; Ray Tune's own objects and
``{grid_search: [...]}`` are read as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from itwinai.config.model import StrictModel, validate
from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.hpo.space import Choice, Float, Integer, Parameter


def _finite(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError("expected a number") from None
    if not math.isfinite(number):
        raise ValueError("a range must be finite")
    return number


def _step(value: Any) -> float:
    if _finite(value) <= 0:
        raise ValueError("a step must be above 0")
    return float(value)


def _categories(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("a choice needs a list of at least one value")
    try:
        json.dumps(value)
    except TypeError as error:
        raise ValueError(
            f"{error}. Choices are numbers, strings, true, false, null, "
            "or lists and mappings of them."
        ) from None
    return list(value)


Number = Annotated[float, BeforeValidator(_finite)]
Step = Annotated[float, BeforeValidator(_step)]
Categories = Annotated[list[Any], BeforeValidator(_categories)]


class Form(StrictModel):
    """What all forms may say."""

    #: For which values of its parents the parameter exists.
    only_if: dict[str, list[Any]] = Field(default_factory=dict)
    #: Its value in the default configuration; otherwise the trainer's own.
    default: Any = None

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
        return _real(where, self.lower, self.upper, self.log, self.step)


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
        return _whole(where, self.lower, self.upper, self.log, self.step)


class BoolForm(Form):
    """True or false."""

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return Choice((False, True))


class ConstantForm(Form):
    """A fixed value."""

    value: Any

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
        return _real(where, self.lower, self.upper, log=False, step=None)


class QUniformForm(UniformForm):
    """Ray Tune's ``quniform``: in steps of ``q``."""

    q: Step

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return _real(where, self.lower, self.upper, log=False, step=self.q)


class LogUniformForm(UniformForm):
    """Ray Tune's ``loguniform``; the base makes no difference."""

    base: Number = 10

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return _real(where, self.lower, self.upper, log=True, step=None)


class QLogUniformForm(LogUniformForm):
    """Ray Tune's ``qloguniform``: in steps of ``q``."""

    q: Step

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return _real(where, self.lower, self.upper, log=True, step=self.q)


class RandIntForm(Form):
    """Ray Tune's ``randint``, whose ``upper`` is excluded."""

    lower: Number
    upper: Number

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return _up_to(where, self.lower, self.upper, log=False)


class LogRandIntForm(RandIntForm):
    """Ray Tune's ``lograndint``, whose ``upper`` is excluded."""

    base: Number = 10

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        return _up_to(where, self.lower, self.upper, log=True)


class QRandIntForm(RandIntForm):
    """Ray Tune's ``qrandint``: in steps of ``q``; with steps above 1 ``upper`` is included."""

    q: Step = 1

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        if self.q == 1:
            return _up_to(where, self.lower, self.upper, log=False)
        return _whole(where, self.lower, self.upper, log=False, step=self.q)


class QLogRandIntForm(LogRandIntForm):
    """Ray Tune's ``qlograndint``: in steps of ``q``; with steps above 1 ``upper`` is included."""

    q: Step = 1

    def domain(self, where: str) -> Parameter:
        """Build the domain."""
        if self.q == 1:
            return _up_to(where, self.lower, self.upper, log=True)
        return _whole(where, self.lower, self.upper, log=True, step=self.q)


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


@dataclass
class ReadSpace:
    """The parts of a search space.

    Attributes:
        parameters: Domains by name.
        conditions: Of a conditional name, its parents and the values for which it exists.
        defaults: Stated values of the default configuration.
    """

    parameters: dict[str, Parameter] = field(default_factory=dict)
    conditions: dict[str, dict[str, tuple[Any, ...]]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)


def read_space(forms: Mapping[str, Any]) -> ReadSpace:
    """Read a search space.

    Raises:
        ConfigurationError: Naming the key that cannot be read, and what to do.
    """
    if not isinstance(forms, Mapping) or not forms:
        raise ConfigurationError(
            "search_space: at least one hyper-parameter is needed, for example "
            "{optim_lr: {type: loguniform, lower: 1e-4, upper: 1e-1}}"
        )
    read = ReadSpace()
    for name, form in _flat(forms):
        where = f"search_space.{name}"
        if isinstance(form, Float | Integer | Choice):
            read.parameters[name] = form
            continue
        model = _model(where, form)
        read.parameters[name] = model.domain(where)
        if model.only_if:
            read.conditions[name] = {p: tuple(values) for p, values in model.only_if.items()}
        if "default" in model.model_fields_set:
            read.defaults[name] = model.default
    return read


def json_schema() -> dict[str, Any]:
    """JSON schema of a search space, for editors: each name has one of the forms, or a value."""
    definitions: dict[str, Any] = {}
    for kind, form in FORMS.items():
        schema = form.model_json_schema()
        schema["properties"] = {"type": {"const": kind}, **schema["properties"]}
        schema["required"] = ["type", *schema.get("required", [])]
        definitions[kind] = schema
    definitions["grid_search"] = GridSearchForm.model_json_schema()
    forms = [{"$ref": f"#/$defs/{name}"} for name in definitions]
    constant = {"type": ["string", "number", "boolean", "null"]}
    nested = {
        "type": "object",
        "not": {"anyOf": [{"required": ["type"]}, {"required": ["grid_search"]}]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "search_space",
        "type": "object",
        "additionalProperties": {"anyOf": [*forms, constant, nested]},
        "$defs": definitions,
    }


def _flat(forms: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, form in forms.items():
        if _is_nested(form):
            yield from _flat(form, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", form


#: Keys by which a mapping is a form, if maybe one whose type was forgotten.
_FORM_KEYS = {"type", "grid_search", "lower", "upper", "categories"}


def _is_nested(form: Any) -> bool:
    return isinstance(form, Mapping) and bool(form) and not _FORM_KEYS & set(form)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _model(where: str, form: Any) -> Form:
    if _is_scalar(form):
        return ConstantForm(value=form)
    if not isinstance(form, Mapping):
        return _from_ray(where, form)
    if "grid_search" in form:
        return validate(GridSearchForm, form, where)
    kind = form.get("type")
    if not isinstance(kind, str) or kind not in FORMS:
        known = "; known types: " + ", ".join([*FORMS, "grid_search"])
        hint = did_you_mean(str(kind), FORMS) or known
        raise ConfigurationError(f"{where}.type={kind!r}: unknown{hint}")
    return validate(FORMS[kind], {k: v for k, v in form.items() if k != "type"}, where)


def _from_ray(where: str, form: Any) -> Form:
    from itwinai.hpo.engine.domains import read_domain

    described = read_domain(form)
    if described is None:
        raise ConfigurationError(
            f"{where}={form!r}: expected a mapping such as {{type: uniform, lower: 0, upper: 1}}, "
            "a Ray Tune domain, or a plain value, which is then a constant. For a list of values "
            "to choose from, use {type: choice, categories: [...]}."
        )
    return _model(where, described)


def _real(where: str, lower: float, upper: float, log: bool, step: float | None) -> Float:
    _check_range(where, lower, upper, log)
    if step is None:
        return Float(lower, upper, log)
    steps = math.floor((upper - lower) / step + 1e-9)
    if steps == 0:
        raise ConfigurationError(
            f"{where}: not one step of {step:g} fits between {lower:g} and {upper:g}"
        )
    domain = Float(lower, upper, log, step)
    return replace(domain, upper=domain.decode(lower + steps * step))


def _up_to(where: str, lower: float, upper: float, log: bool) -> Integer:
    if upper - 1 < lower:
        raise ConfigurationError(
            f"{where}: the range from {lower:g} up to, not including, {upper:g} is empty"
        )
    return _whole(where, lower, upper - 1, log, step=1)


def _whole(where: str, lower: float, upper: float, log: bool, step: float) -> Integer:
    if not all(float(number).is_integer() for number in (lower, upper, step)):
        raise ConfigurationError(f"{where}: bounds and step of an integer range must be integers")
    if upper < lower:
        raise ConfigurationError(f"{where}: the range from {lower:g} to {upper:g} is empty")
    _check_range(where, lower, max(upper, lower + 1), log)
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
