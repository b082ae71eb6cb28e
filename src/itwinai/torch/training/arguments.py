"""Arguments of a trainer: what each may be, said before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itwinai.config.values import check_extent, expanded, plain, shown
from itwinai.errors import CheckpointError, ConfigurationError
from itwinai.io.files import newest_complete


def whole_number(name: str, value: Any, allowed: range) -> int:
    """A whole number of those that are allowed, whatever type it came in.

    Raises:
        ConfigurationError: If it is none.
    """
    check_extent(value, name)
    number = plain(value)
    is_whole = isinstance(number, int) or (isinstance(number, float) and number.is_integer())
    if isinstance(number, bool) or not is_whole or int(number) not in allowed:
        most = "" if allowed.stop > 2**32 else f" and at most {allowed.stop - 1}"
        raise ConfigurationError(
            f"{name}={shown(value)}: expected a whole number of at least {allowed.start}{most}"
        )
    return int(number)


def optional_number(name: str, value: Any) -> int | None:
    """A whole number from 0 on, or None.

    Raises:
        ConfigurationError: If it is neither.
    """
    return None if value is None else whole_number(name, value, range(2**63))


def check_is_built(name: str, value: Any, in_yaml: str) -> None:
    """Refuse what YAML gives where an object was forgotten to be described.

    Raises:
        ConfigurationError: If the value is a plain one.
    """
    if isinstance(value, str | list | int | float | Mapping):
        raise ConfigurationError(
            f"{name}={shown(value)}: expected an object, in YAML a mapping with {in_yaml}"
        )


def check_exists(checkpoint: str | Path | None) -> None:
    """Refuse a checkpoint that is not there.

    Raises:
        CheckpointError: If there is none.
    """
    if checkpoint is not None and newest_complete(expanded(checkpoint)) is None:
        raise CheckpointError(f"from_checkpoint={str(checkpoint)!r}: there is no such folder")
