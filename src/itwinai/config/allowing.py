"""The gate for what a configuration names: before it is imported, and once it is known.

A ``_target_`` is code that runs. Allowed are the public classes of :mod:`itwinai.config.public`,
the modules in the pipeline's own folder, and what the user allows by name; a configuration itself
can allow nothing.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from itwinai.config import public
from itwinai.config.explaining import not_located
from itwinai.config.steps import refusal
from itwinai.config.targets import located, what_is_missing
from itwinai.environ import ALLOW
from itwinai.errors import ConfigurationError
from itwinai.frames import is_own

_ADDRESS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def allowed_names(given: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names that were given, and those of ``ITWINAI_ALLOW``.

    Args:
        given: Packages or full addresses, as in ``["torchvision", "timm.create_model"]``.

    Raises:
        ConfigurationError: If one is no such name.
    """
    of_variable = os.environ.get(ALLOW, "").split(",")
    names = [*given, *(name.strip() for name in of_variable if name.strip())]
    for name in names:
        if _ADDRESS.fullmatch(name) is None:
            raise ConfigurationError(
                f"--allow {name}: expected a package or an address, as in torchvision or "
                f"timm.create_model; {ALLOW} has several with commas between them"
            )
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Gate:
    """What one run of a pipeline may name.

    Attributes:
        names: Packages and addresses that the user allows.
        folders: The pipeline's own folders. Empty: the working folder and that of the program.
    """

    names: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()

    def problem_of_name(self, address: str) -> str:
        """Say why a name is refused, before anything is imported; empty if it is not."""
        if _ADDRESS.fullmatch(address) is None:
            return f"_target_={address}: expected a class or function, as 'module.Class'"
        if self.may_name(address):
            return ""
        lacking = "" if _is_there(address) else what_is_missing(address)
        if lacking:
            return f"_target_={address}: {lacking}"
        return _refusal(address, "a configuration may not name this")

    def problem_of(self, address: str, found: Any) -> str:
        """Say why what a name stands for is refused, though the name is not; else empty.

        Args:
            address: For which :meth:`problem_of_name` has nothing to say.
            found: What stands there.
        """
        if not callable(found) or address in self.names or public.is_named(address):
            return ""
        if public.may_be_public(address) and public.is_public(found, address):
            return ""
        real = _unwrapped(found)
        if public.is_public_elsewhere(real) or self._is_of_allowed_module(real):
            return ""
        return _refusal(address, f"this is {_name_of(real)}, which a configuration may not name")

    def may_name(self, address: str) -> bool:
        """Whether an address, a module's included, is allowed by its name."""
        return (
            self._covers(address)
            or public.is_named(address)
            or public.may_be_public(address)
            or self._is_own(address.partition(".")[0])
        )

    def _covers(self, address: str) -> bool:
        return any(f"{address}.".startswith(f"{name}.") for name in self.names)

    def _is_of_allowed_module(self, found: Any) -> bool:
        module = _module_of(found)
        return bool(module) and (self._covers(_name_of(found)) or self._is_own(module))

    def _is_own(self, module: str) -> bool:
        """Whether a module, which is loaded or not in a package, lies in one of the folders."""
        places = list(_places_of(module))
        return bool(places) and all(map(self._is_inside, places))

    def _is_inside(self, place: str) -> bool:
        folders = self.folders or (Path.cwd(), *folder_of_program())
        return (is_own(place) and is_own(os.path.realpath(place))) and any(
            Path(os.path.abspath(place)).is_relative_to(os.path.abspath(folder))
            or Path(os.path.realpath(place)).is_relative_to(os.path.realpath(folder))
            for folder in folders
        )


def targets_in(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Give each key of a configuration whose value names code, and that value.

    Args:
        node: A part of a configuration, with its interpolations resolved.
        path: Its key.
    """
    if not OmegaConf.is_config(node) or node._is_none() or node._is_missing():
        return
    if OmegaConf.is_list(node):
        for position in range(len(node)):
            yield from targets_in(node._get_node(position), f"{path}.{position}")
        return
    target = _text(node, "_target_")
    if target:
        yield path, target
    # Of a loader of models: the text is imported when the model is loaded.
    model = _text(node, "model_class") if target else ""
    if model:
        yield f"{path}.model_class", model
    for key in node:
        yield from targets_in(node._get_node(key), f"{path}.{key}")


def check_targets(targets: Sequence[tuple[str, str]], gate: Gate) -> None:
    """Refuse what a configuration may not name: all names first, because an import runs code.

    Args:
        targets: Key and address of each.
        gate: What may be named.

    Raises:
        ConfigurationError: For the first that is refused, or not there.
    """
    for key, address in targets:
        problem = gate.problem_of_name(address)
        if problem:
            raise refusal(key, problem)
    for key, address in targets:
        try:
            found = located(address)
        except Exception as error:
            raise not_located(error, address, key) from error
        problem = gate.problem_of(address, found)
        if problem:
            raise refusal(key, problem)


def _text(node: Any, key: str) -> str:
    given = key in node and not OmegaConf.is_missing(node, key)
    return node[key] if given and isinstance(node[key], str) else ""


def _is_there(address: str) -> bool:
    """Whether an address may lead somewhere; nothing but our own modules is imported for it."""
    package, dot, rest = address.partition(".")
    if package == "itwinai" and not rest.startswith("_") and "._" not in rest:
        return False
    return bool(dot) and (package in sys.modules or _spec_of(package) is not None)


def _places_of(module: str) -> Iterator[str]:
    """The file of a module, or the folders of one without a file; nothing if it has neither."""
    loaded = sys.modules.get(module)
    spec = getattr(loaded, "__spec__", None) if loaded else _spec_of(module)
    file = getattr(loaded, "__file__", None) or (spec.origin if spec and spec.has_location else "")
    if file:
        yield file
    elif spec is not None:
        yield from spec.submodule_search_locations or ()


def _spec_of(module: str) -> Any:
    # To find what lies in a package, Python would import the package.
    return find_spec(module) if "." not in module and module not in sys.modules else None


def folder_of_program() -> list[Path]:
    """Return the folder of the user's program, if one is running and not a command."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return [Path(file).absolute().parent] if file and is_own(file) else []


def _unwrapped(found: Any) -> Any:
    """What is really called: a partial's function, and of a callable object its class."""
    while isinstance(found, functools.partial):
        found = found.func
    known = (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType)
    return found if isinstance(found, known) else type(found)


def _module_of(found: Any) -> str:
    return str(getattr(found, "__module__", None) or "")


def _name_of(found: Any) -> str:
    return f"{_module_of(found)}.{getattr(found, '__qualname__', found)}".lstrip(".")


def _refusal(address: str, problem: str) -> str:
    return f"{address}: {problem}; if you trust it, add --allow {address}"
