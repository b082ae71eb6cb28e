"""Values as users write them: which two are the same, and how a record in JSON keeps one.

A value is the same for a search algorithm, the record and a condition if it is the same here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

#: How JSON holds what it has no form for: a mapping of this one key.
_TUPLE, _MAPPING, _PATH = "__tuple__", "__mapping__", "__path__"


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same: 1 is neither 1.0 nor true, and a list is no tuple."""
    return _exact(one) == _exact(other)


def index_of(value: Any, values: Sequence[Any]) -> int | None:
    """Return the index of the same value, or else of one that YAML or JSON may have made it from.

    Args:
        value: As it came: 1 may stand for 1.0 or true, a list for a tuple, ``"1"`` as a key for 1.
        values: Those that there are, no two of them the same.
    """
    for key in (_exact, _loose):
        wanted = key(value)
        for index, one in enumerate(values):
            if key(one) == wanted:
                return index
    return None


def labels(values: Sequence[Any]) -> list[Any]:
    """Return what stands for each value in the record: another scalar for each of them.

    A scalar stands for itself, and its JSON for a list or mapping; where Python would take two of
    these for equal (1 and true), their text does.
    """
    plain = [_label(value) for value in values]
    clear = [repr(v) if plain.count(p) > 1 else p for p, v in zip(plain, values, strict=True)]
    return [f"{i}: {c}" if clear.count(c) > 1 else c for i, c in enumerate(clear)]


def to_json(value: Any) -> Any:
    """Return a form that JSON keeps, and from which :func:`from_json` makes the same value.

    Raises:
        TypeError: If there is none.
    """
    if isinstance(value, tuple):
        return {_TUPLE: [to_json(part) for part in value]}
    if isinstance(value, list):
        return [to_json(part) for part in value]
    if isinstance(value, Path):
        return {_PATH: str(value)}
    if not isinstance(value, Mapping):
        json.dumps(value)
        return value
    is_simple = all(isinstance(key, str) and not key.startswith("__") for key in value)
    if is_simple:
        return {key: to_json(part) for key, part in value.items()}
    return {_MAPPING: [[to_json(key), to_json(part)] for key, part in value.items()]}


def from_json(form: Any) -> Any:
    """Return the value whose form this is."""
    if isinstance(form, list):
        return [from_json(part) for part in form]
    if not isinstance(form, Mapping):
        return form
    for key, restored in _RESTORED.items():
        if set(form) == {key}:
            return restored(form[key])
    return {key: from_json(part) for key, part in form.items()}


_RESTORED: dict[str, Callable[[Any], Any]] = {
    _TUPLE: lambda parts: tuple(map(from_json, parts)),
    _MAPPING: lambda pairs: {from_json(key): from_json(part) for key, part in pairs},
    _PATH: Path,
}


def _label(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        return json.dumps(value, sort_keys=True)
    except TypeError:  # keys of several kinds have no order, and paths no form
        return repr(value)


def _exact(value: Any) -> Hashable:
    """A key that is equal for the same values only."""
    if isinstance(value, list | tuple):
        return type(value).__name__, tuple(map(_exact, value))
    if isinstance(value, Mapping):
        return "mapping", frozenset((_exact(key), _exact(part)) for key, part in value.items())
    return type(value).__name__, repr(value)


def _loose(value: Any) -> Hashable:
    """A key that is equal for what YAML and JSON take for the same."""
    if isinstance(value, list | tuple):
        return "list", tuple(map(_loose, value))
    if isinstance(value, Mapping):
        return "mapping", frozenset((_key(key), _loose(part)) for key, part in value.items())
    if isinstance(value, bool | int | float):
        return "number", value
    return "text", None if value is None else str(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key, default=str)
