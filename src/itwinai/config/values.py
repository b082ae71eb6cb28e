"""Values of several configurations: what they are taken for, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itwinai.errors import one_line


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
