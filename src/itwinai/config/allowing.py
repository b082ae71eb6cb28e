"""The gate for what a configuration names: before it is imported, and once it is known.

A ``_target_`` is code that runs. Allowed are the public classes of :mod:`itwinai.config.public`,
the modules in the pipeline's own folder, and what the user allows by name; a configuration itself
can allow nothing.
"""

from __future__ import annotations

import copy
import functools
import os
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from itwinai.config import public
from itwinai.config.explaining import not_located
from itwinai.config.reading import read_mapping
from itwinai.config.steps import refusal
from itwinai.config.targets import located, what_is_missing
from itwinai.environ import ALLOW
from itwinai.errors import ConfigurationError
from itwinai.frames import is_own

#: A model from there is unpickled.
_OF_MLFLOW = ("runs:", "models:", "mlflow-artifacts:", "mlflow+")

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
        if address.isidentifier() and not _is_there(address):
            return f"_target_={address}: {what_is_missing(address)}"
        if not _is_dotted(address):
            return f"_target_={address}: expected a class or function, as 'module.Class'"
        if self.may_name(address):
            return ""
        unsure = _is_ours(address) or not _is_there(address)
        lacking = what_is_missing(address) if unsure else ""
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


class Mention(NamedTuple):
    """A place in a configuration that names code.

    Attributes:
        key: The place.
        address: The name.
        is_certain: Whether it can be nothing else.
    """

    key: str
    address: str
    is_certain: bool = True


def targets_in(cfg: DictConfig, path: str) -> list[Mention]:
    """Return all that a configuration names as code, read as Hydra reads it to build it.

    Args:
        cfg: A part of a configuration; left unchanged.
        path: Its key.
    """
    resolved = copy.deepcopy(cfg)
    resolved._set_parent(cfg._get_parent())
    resolved._set_flag(["allow_objects", "readonly", "struct"], [True, False, False])
    OmegaConf.resolve(resolved)
    return list(_mentions(resolved, path))


def _mentions(node: Any, path: str) -> Iterator[Mention]:
    values = _values(node)
    target = values.get("_target_")
    if isinstance(target, str):
        yield Mention(path, target)
        yield from _named_by_arguments(target, values, path)
    for key, value in values.items():
        # An escaped interpolation has become one that points to something only now.
        if OmegaConf.is_config(value):
            yield from _mentions(value, f"{path}.{key}")


def _values(node: Any) -> dict[Any, Any]:
    """Keys or positions, and values, of what is not left open."""
    if node._is_none() or node._is_missing():
        return {}
    keys = list(node) if OmegaConf.is_dict(node) else range(len(node))
    return {key: node[key] for key in keys if not OmegaConf.is_missing(node, key)}


def _named_by_arguments(target: str, arguments: Mapping[Any, Any], path: str) -> Iterator[Mention]:
    """Give what an allowed class would import, or load as code, because an argument says so."""
    name = target.rpartition(".")[2]
    model, uri = arguments.get("model_class"), arguments.get("model_uri")
    if name == "TorchModelLoader" and isinstance(model, str):
        yield Mention(f"{path}.model_class", model)
    if name == "TorchModelLoader" and str(uri).startswith(_OF_MLFLOW):
        yield Mention(f"{path}.model_uri", "mlflow.pytorch.load_model")
    if name == "TorchLightningTrainer":
        for part in ("config", "search_space"):
            yield from _named_for_lightning(arguments.get(part), f"{path}.{part}")


def _named_for_lightning(value: Any, path: str) -> Iterator[Mention]:
    """Give each text that its command line's parser would take for an address and import."""
    if isinstance(value, str) and path.endswith(".config") and Path(value).is_file():
        value = OmegaConf.create(read_mapping(value))
    if OmegaConf.is_config(value):
        for key, part in _values(value).items():
            yield from _named_for_lightning(part, f"{path}.{key}")
    elif isinstance(value, str) and _is_dotted(value) and _is_there(value):
        yield Mention(path, value, is_certain=path.endswith(".class_path"))


def check_targets(mentions: Sequence[Mention], gate: Gate) -> None:
    """Refuse what a configuration may not name: all names first, because an import runs code.

    Args:
        mentions: What it names.
        gate: What it may name.

    Raises:
        ConfigurationError: For the first that is refused, or not there.
    """
    for key, address, _ in mentions:
        problem = gate.problem_of_name(address)
        if problem:
            raise refusal(key, problem)
    for key, address, is_certain in mentions:
        try:
            found = located(address)
        except Exception as error:
            if is_certain:
                raise not_located(error, address, key) from error
            continue
        problem = gate.problem_of(address, found)
        if problem:
            raise refusal(key, problem)


def _is_dotted(text: str) -> bool:
    return "." in text and _ADDRESS.fullmatch(text) is not None


def _is_there(address: str) -> bool:
    """Whether there is a module that an address begins with; nothing is imported for it."""
    package = address.partition(".")[0]
    return package in sys.modules or _spec_of(package) is not None


def _is_ours(address: str) -> bool:
    """Whether modules of itwinai, none of which does a thing when imported, lead to it."""
    return address.startswith("itwinai.") and "._" not in address


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
