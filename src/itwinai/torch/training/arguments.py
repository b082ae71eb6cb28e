"""Arguments of a trainer: what each may be, said before anything is built."""

from __future__ import annotations

import math
import os
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


def number_above_0(name: str, value: Any) -> int | None:
    """A whole number from 1 on, or None.

    Raises:
        ConfigurationError: If it is neither.
    """
    return None if value is None else whole_number(name, value, range(1, 2**63))


def real_number(name: str, value: Any) -> float:
    """A number, which may be infinite or written as text.

    Raises:
        ConfigurationError: If it is none.
    """
    try:
        number = float(plain(value))
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(plain(value), bool) or math.isnan(number):
        raise ConfigurationError(f"{name}={shown(value)}: expected a number")
    return number


def seconds_above_0(name: str, value: Any) -> float | None:
    """A finite number of seconds above 0, or None.

    Raises:
        ConfigurationError: If it is neither.
    """
    if value is None:
        return None
    check_extent(value, name)
    try:
        number = float(plain(value))
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(plain(value), bool) or not 0 < number < math.inf:
        raise ConfigurationError(f"{name}={shown(value)}: expected a number of seconds above 0")
    return number


def path_of(name: str, value: Any) -> Path:
    """A path on this machine, with ``~`` and environment variables expanded.

    Raises:
        ConfigurationError: If it is none.
    """
    if not isinstance(value, str | os.PathLike) or "\0" in str(value):
        raise ConfigurationError(f"{name}={shown(value)}: expected the path of a folder")
    return expanded(os.fspath(value))


def check_is_built(name: str, value: Any, in_yaml: str) -> None:
    """Refuse what YAML gives where an object was forgotten to be described.

    Raises:
        ConfigurationError: If the value is a plain one.
    """
    if isinstance(value, str | list | int | float | Mapping):
        raise ConfigurationError(
            f"{name}={shown(value)}: expected an object, in YAML a mapping with {in_yaml}"
        )


def existing_checkpoint(checkpoint: str | Path | None) -> Path | None:
    """The path of a checkpoint that is there, or None.

    Raises:
        CheckpointError: If there is none.
    """
    if checkpoint is None:
        return None
    path = path_of("from_checkpoint", checkpoint)
    given = f"from_checkpoint={shown(str(checkpoint))}"
    try:
        found = newest_complete(path)
    except OSError as error:  # such as a name that is too long
        raise CheckpointError(f"{given}: {error.strerror}") from None
    if found is None:
        raise CheckpointError(f"{given}: there is no such folder")
    return path
