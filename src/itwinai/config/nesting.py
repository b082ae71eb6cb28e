"""Dotted names, such as ``model.width``, which mean a key of a mapping within a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def value_at(values: Any, name: str) -> list[Any]:
    """The value that a dotted name means, in a list; nothing if there is none."""
    for key in name.split("."):
        if not isinstance(values, Mapping) or key not in values:
            return []
        values = values[key]
    return [values]


def nested(values: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into mappings, which keep what the configuration has beside them."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if not rest:
            result[first] = value
            continue
        known = result.get(first, config.get(first))
        inner = dict(known) if isinstance(known, Mapping) else {}
        result[first] = {**inner, **nested({rest: value}, inner)}
    return result
