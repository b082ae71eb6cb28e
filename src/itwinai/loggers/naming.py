"""Names for a service that does not take all of them: only those that it refuses are changed."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from itertools import count

from itwinai import logger as library_logger

#: What MLflow takes, and what a file's name may have.
_LONGEST = 250
_REFUSED = re.compile(r"[^\w\-. :/]")


class Names:
    """The names that MLflow takes for others: what it refuses becomes ``_``, and no two are one.

    Args:
        are_files: Whether each name is a file, so that none can be a folder in another.
    """

    def __init__(self, are_files: bool = False) -> None:
        self._are_files = are_files
        self._taken: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Return the name that stands for another; say it once, if they differ."""
        if name not in self._taken:
            taken = next(one for one in _candidates(name) if not self._clashes(one))
            self._taken[name] = taken
            if name != taken:
                _say(name, taken)
        return self._taken[name]

    def _clashes(self, name: str) -> bool:
        others = self._taken.values()
        return name in others or (
            self._are_files
            and any(o.startswith(f"{name}/") or name.startswith(f"{o}/") for o in others)
        )


def _say(name: str, taken: str) -> None:
    library_logger.warning("MLflow does not take the name %r: there it is %r", name, taken)


def _candidates(name: str) -> Iterator[str]:
    fitting = _cut(_REFUSED.sub("_", name))
    if fitting == posixpath.normpath(fitting) and not re.match(r"/|\.\.|\.$", fitting):
        yield fitting
    flat = re.sub(r"^\.*$|^\.+|/", "_", fitting)
    yield flat
    for number in count(2):
        yield f"{_cut(flat, _LONGEST - 10)}_{number}"


def _cut(name: str, longest: int = _LONGEST) -> str:
    """Cut a name to so many bytes."""
    return name.encode()[:longest].decode(errors="ignore")
