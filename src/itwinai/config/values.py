"""Checks of values that several configurations share."""

from __future__ import annotations

from typing import Any


def on_a_file_system(value: Any) -> Any:
    """Refuse an address, such as that of object storage, where a path belongs.

    Raises:
        ValueError: If it is one.
    """
    if isinstance(value, str) and "://" in value:
        raise ValueError(
            f"{value!r} is an address, but records and checkpoints need a folder of a file system, "
            "which all nodes share; object storage can neither lock a file nor add to one. Give a "
            "path, and copy the finished study"
        )
    return value
