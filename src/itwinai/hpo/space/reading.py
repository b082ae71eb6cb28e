"""Reading a whole search space from what users write.

Nested mappings are read as dotted names and a bare value as a constant; Ray Tune's own objects and
``{grid_search: [...]}`` are read as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itwinai.config.model import validate
from itwinai.config.values import check_extents, plain, shown
from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.hpo.space.domains import Choice, Float, Integer, Parameter
from itwinai.hpo.space.forms import FORMS, ConstantForm, Form, GridSearchForm
from itwinai.hpo.space.ray_domains import read_domain


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
    check_extents(forms, "search_space")
    read = ReadSpace()
    for name, form in _flat(forms):
        _check_name(name, read)
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


def _check_name(name: str, read: ReadSpace) -> None:
    if not name.isprintable() or not all(name.split(".")):
        raise ConfigurationError(
            f"search_space: {shown(name)} is no name. Write what a configuration could call it: "
            "words of printable characters, with dots between them."
        )
    if name in read.parameters:
        raise ConfigurationError(
            f"search_space.{name}: this name is there twice, maybe once as a key with dots and "
            "once as keys within keys. Keep one of them."
        )


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
    return value is None or isinstance(value, bool | int | float | str | Path)


def _model(where: str, form: Any) -> Form:
    form = plain(form)
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
        raise ConfigurationError(f"{where}.type={shown(kind)}: unknown{hint}")
    return validate(FORMS[kind], {k: v for k, v in form.items() if k != "type"}, where)


def _from_ray(where: str, form: Any) -> Form:
    described = read_domain(form)
    if described is None:
        raise ConfigurationError(
            f"{where}={shown(form)}: expected a mapping such as {{type: uniform, lower: 0, "
            "upper: 1}, a Ray Tune domain, or a plain value, which is then a constant. For a list "
            "of values to choose from, use {type: choice, categories: [...]}."
        )
    return _model(where, described)
