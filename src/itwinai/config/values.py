"""Values of several configurations: what they are taken for, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from itwinai.errors import ConfigurationError, one_line

_TRUTH = TypeAdapter(bool)


def plain(value: Any) -> Any:
    """Take numbers of numpy and PyTorch as Python's, and arrays and ranges as lists of them.

    A list, tuple or mapping has its parts taken so; one number in an array or tensor is a number.
    """
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if isinstance(value, Mapping):
        return {plain(key): plain(part) for key, part in value.items()}
    if isinstance(value, range):
        return list(value)
    if not hasattr(value, "tolist"):
        return value
    listed = value.tolist()
    return listed[0] if isinstance(listed, list) and len(listed) == 1 else listed


def is_numpy_number(value: Any) -> bool:
    """Whether a value is a single number of numpy's, told without loading numpy."""
    return type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0


#: Levels of lists within lists, values in all, and size of a whole number that nobody means.
DEEPEST, _MOST, _LARGEST = 100, 1_000_000, 10**300


def check_extents(values: Mapping[Any, Any], where: str) -> None:
    """Refuse keys and values that nothing could work through; as of :func:`check_extent`."""
    for key, value in values.items():
        check_extent((key, value), f"{where}.{key if type(key) is str else shown(key)}")


def check_extent(value: Any, where: str) -> None:
    """Refuse a value that nothing could work through: too deep, too many, too large.

    What several aliases of YAML stand for counts as often as it stands there.

    Args:
        value: Any value.
        where: Its key, which begins the message.

    Raises:
        ConfigurationError: If it is one.
    """
    try:
        _extent(value, 0, {})
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _extent(value: Any, depth: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values there are in one, and how many levels deep."""
    if isinstance(value, int) and not -_LARGEST < value < _LARGEST:
        raise ValueError("a whole number of more than 300 digits")
    if isinstance(value, range):
        count, deep = abs((value.stop - value.start) // value.step), 1
    elif not isinstance(value, Mapping | list | tuple | set | frozenset):
        return 1, 0
    else:
        if depth < DEEPEST and id(value) not in known:
            keys = list(value) if isinstance(value, Mapping) else []
            parts = [*keys, *(value.values() if isinstance(value, Mapping) else value)]
            extents = [_extent(part, depth + 1, known) for part in parts]
            deepest = max((deep for _, deep in extents), default=0)
            known[id(value)] = 1 + sum(count for count, _ in extents), deepest + 1
        count, deep = known.get(id(value), (0, DEEPEST))
    if depth + deep > DEEPEST:
        raise ValueError(f"a value that goes more than {DEEPEST} levels deep, or into itself")
    if count > _MOST:
        raise ValueError(f"more than {_MOST:,} values")
    return count, deep


def truth_of(where: str, value: Any) -> bool:
    """Return true or false, also as a text, as it comes from the environment: ``"false"``.

    Raises:
        ConfigurationError: If it is neither.
    """
    try:
        return _TRUTH.validate_python(plain(value))
    except ValidationError:
        raise ConfigurationError(f"{where}={shown(value)}: expected true or false") from None


def name_of(where: str, value: Any) -> str | None:
    """Return a name, or None for none.

    Raises:
        ConfigurationError: If it is no text: as a number ``2026_11_30`` has become another name.
    """
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{where}={shown(value)}: expected a name; write it in quotes")
    return value


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, and no longer than that."""
    try:
        return one_line(repr(value))
    except (ValueError, RecursionError):  # a number of thousands of digits, a list in itself
        return f"a {type(value).__name__} that cannot be written out"


def expanded(path: str | Path) -> Path:
    """A path in which ``~`` and environment variables (``$SCRATCH``) have become their values.

    What names no user or variable stays as it is: a file may be called so.
    """
    return Path(os.path.expanduser(os.path.expandvars(path)))


def on_a_file_system(value: Any) -> Any:
    """Expand a path; refuse an address, such as that of object storage.

    Raises:
        ValueError: If it is one.
    """
    if isinstance(value, str) and "://" in value:
        raise ValueError(
            f"{value!r} is an address, but records and checkpoints need a folder of a file system, "
            "which all nodes share; object storage can neither lock a file nor add to one. Give a "
            "path, and copy the finished study"
        )
    return expanded(value) if isinstance(value, str | Path) else value
