"""The base of every validated configuration: unknown keys are refused with a suggestion."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from itwinai.config.values import check_extents, is_numpy_number, plain, shown
from itwinai.errors import ConfigurationError, did_you_mean, one_line

#: Wrong keys that a message names; more of them fill the screen and say no more.
_NAMED = 8

#: Types of which a value may be true, and those that would take it for 1.
_TRUTHS, _NUMBERS = frozenset([bool, object, Any]), frozenset([int, float])

Model = TypeVar("Model", bound=BaseModel)


class CheckedModel(BaseModel):
    """A configuration in which true and false, which Python counts as 1 and 0, are no numbers."""

    @field_validator("*", mode="before")
    @classmethod
    def _number_is_no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields.get(info.field_name or "")
        if field is None or not _holds_truth(value):
            return value
        types = list(_types_in(field.annotation))
        if _TRUTHS.isdisjoint(types) and not _NUMBERS.isdisjoint(types):
            raise ValueError("expected a number, not true or false")
        return value


class StrictModel(CheckedModel):
    """A configuration that accepts no key it does not know."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def validate(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    """Build ``model`` from ``data``.

    Args:
        model: The configuration class.
        data: Plain keys and values, as read from YAML or written in Python.
        where: What the user calls this block (``study``, ``config``); it starts each message.

    Raises:
        ConfigurationError: If a key is unknown, missing or holds a wrong value; names the first
            eight of them.
    """
    if not isinstance(data, Mapping):
        raise ConfigurationError(
            f"{where}={shown(data)}: expected keys and values, not a {type(data).__name__}"
        )
    check_extents(data, where)
    try:
        return model.model_validate({key: _taken(model, key, data[key]) for key in data})
    except ValidationError as error:
        known = list(model.model_fields)
        # Of a key that may have several types, the first one's complaint is enough.
        lines: dict[str, str] = {}
        for detail in error.errors():
            key = _key(detail, data)
            lines.setdefault(key, _sentence(detail, where, key, known))
        told = list(lines.values())
        more = [f"{where}: {len(told) - _NAMED} more keys are wrong"] if told[_NAMED:] else []
        raise ConfigurationError("\n".join([*told[:_NAMED], *more])) from None


def _taken(model: type[BaseModel], key: str, value: Any) -> Any:
    """Numbers of numpy and PyTorch as Python's; what is under an own key of the user's stays."""
    return plain(value) if key in model.model_fields or is_numpy_number(value) else value


def _types_in(annotation: Any) -> Iterator[Any]:
    """The types, and the single values, that an annotation is made of."""
    parts = get_args(annotation)
    if not parts and isinstance(annotation, Hashable):
        yield type(annotation) if isinstance(annotation, bool) else annotation
    yield from (one for part in parts for one in _types_in(part))


def _holds_truth(value: Any) -> bool:
    if isinstance(value, list | tuple | Mapping):
        return any(map(_holds_truth, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, bool)


def _key(detail: ErrorDetails, data: Any) -> str:
    """The dotted key that an error is about, without the types that were tried for its value."""
    parts: list[str] = []
    for part in detail["loc"]:
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list | tuple) and isinstance(part, int):
            data = data[part] if part < len(data) else None
        else:
            break
        parts.append(str(part))
    return ".".join(parts)


def _sentence(detail: ErrorDetails, where: str, key: str, known: list[str]) -> str:
    place = one_line(f"{where}.{key}" if key else where)
    if detail["type"] == "extra_forbidden":
        hint = did_you_mean(key, known) or f"; known keys: {', '.join(known)}"
        return f"{place}: unknown key{hint}"
    if detail["type"] == "missing":
        return f"{place}: this key is required"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{place}={shown(detail['input'])}: {message}" if key else f"{place}: {message}"
