"""The configuration that a trial's function gets, which notices what is read of it."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from itwinai.errors import ConfigurationError, did_you_mean


class UnknownKeyError(ConfigurationError, KeyError):
    """The configuration has no such key; the message names the closest."""

    def __str__(self) -> str:
        """The message as it is; a ``KeyError`` would show it in quotes."""
        return str(self.args[0])


class TrialConfig(Mapping[str, Any]):
    """Keys and values, as ``config["lr"]`` or ``config.lr``.

    A mapping in it is one of these as well. To unpack it, or to go through its values, reads all.

    Args:
        values: The default configuration, with the trial's values.
        path: Keys that lead to it in the whole configuration.
        read: Where the dotted names of what was read are noted.
    """

    def __init__(
        self, values: Mapping[str, Any], path: str = "", read: set[str] | None = None
    ) -> None:
        self._values = values
        self._path = path
        self._read: set[str] = set() if read is None else read

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise UnknownKeyError(
                f"config.{self._path}{key}: there is no such key"
                f"{did_you_mean(str(key), map(str, self._values)) or '.'} "
                f"Keys: {', '.join(map(str, self._values))}"
            )
        value = self._values[key]
        self._read.add(f"{self._path}{key}")
        if isinstance(value, Mapping):
            return TrialConfig(value, f"{self._path}{key}.", self._read)
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of Python, before there are any values
            raise AttributeError(name)
        try:
            return self[name]
        except UnknownKeyError as error:
            raise AttributeError(str(error)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """As ``|`` of dictionaries; it reads all."""
        return {**self, **other} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """As ``|`` of dictionaries; it reads all."""
        return {**other, **self} if isinstance(other, Mapping) else NotImplemented

    def __repr__(self) -> str:
        return f"{type(self).__name__}({reprlib.repr(dict(self._values))})"

    def unread(self, names: Iterable[str]) -> list[str]:
        """Those of some dotted names that nobody has read."""
        return [name for name in names if name not in self._read]
