"""Packages and faces whose names are loaded when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(name: str, homes: Mapping[str, str], package: str | None = None) -> Callable[[str], Any]:
    """Return a module's ``__getattr__``.

    Args:
        name: The module's ``__name__``.
        homes: Modules of the package, with the names that each gives, separated by spaces.
        package: The package; None: the module itself is one.
    """
    modules = {given: module for module, names in homes.items() for given in names.split()}

    def load(attribute: str) -> Any:
        if attribute not in modules:
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        return getattr(import_module(f"{package or name}.{modules[attribute]}"), attribute)

    return load
