"""The base of every validated configuration: unknown keys are refused with a suggestion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from itwinai.errors import ConfigurationError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """A configuration that accepts no key it does not know."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def validate(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    """Build ``model`` from ``data``.

    Args:
        model: The configuration class.
        data: Plain keys and values, as read from YAML or written in Python.
        where: What the user calls this block (``study``, ``config``); it starts each message.

    Raises:
        ConfigurationError: If a key is unknown, missing or holds a wrong value; names all of them.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        known = list(model.model_fields)
        lines = [_sentence(detail, where, known) for detail in error.errors()]
        raise ConfigurationError("\n".join(lines)) from None


def _sentence(detail: ErrorDetails, where: str, known: list[str]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    place = f"{where}.{key}" if key else where
    if detail["type"] == "extra_forbidden":
        hint = did_you_mean(key, known) or f"; known keys: {', '.join(known)}"
        return f"{place}: unknown key{hint}"
    if detail["type"] == "missing":
        return f"{place}: this key is required"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{place}={detail['input']!r}: {message}" if key else f"{place}: {message}"
