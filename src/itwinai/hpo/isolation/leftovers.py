"""What trials leave in classes and modules, which later trials in the same process find there.

Nobody can undo that in a process that goes on, but it can be noticed and said.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from types import FunctionType, ModuleType
from typing import Any

from itwinai.frames import is_own
from itwinai.hpo.isolation.support import FEW, support
from itwinai.reporting import Reporter

#: Packages whose state is not the user's.
_OTHERS = {*sys.stdlib_module_names, "itwinai", "torch"}

#: Values that are compared as they are.
_PLAIN = (bool, int, float, complex, str, bytes, type(None))

#: Collections in collections that are compared.
_DEPTH = 5

#: Names that are told of at once.
_TOLD = 3

#: Of each class and module: a print of each of its attributes.
Prints = dict[str, dict[str, Any]]


class Leftovers:
    """Compares what each trial finds with what the one before it found.

    That is enough to notice what matters: a class of the main program, which is made anew with each
    copy of an object, has no leftovers.
    """

    def __init__(self) -> None:
        self._found: Prints = {}
        self._trial: int | None = None
        self._told: set[str] = set()

    def tell(self, trial: int, reporter: Reporter, *objects: Any) -> None:
        """Say, at the begin of a trial, what the one before has left; each name once.

        Args:
            trial: Its number.
            reporter: Who hears it too.
            objects: Whose classes, and the modules that define them, are compared.
        """
        with suppress(Exception):  # a user's class may have attributes of any kind
            found = _prints(objects)
            new = sorted(set(_changed(self._found, found)) - self._told)
            if new and self._trial is not None:
                self._told.update(new)
                reporter.note("leftovers", _words(new, self._trial))
            self._found, self._trial = found, trial


def _words(names: list[str], trial: int) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    kept = "keep their values" if len(names) > 1 else "keeps its value"
    return (
        f"warning: trial {trial} has changed {', '.join(names[:_TOLD])}{more}, which {kept} for "
        "later trials in the same process. Set fresh_processes: true in the study if they must "
        "not see it."
    )


def _changed(before: Prints, now: Prints) -> Iterator[str]:
    for owner in before.keys() & now.keys():
        for name, value in now[owner].items():
            if before[owner].get(name) != value:
                yield f"{owner}.{name}"


def _prints(objects: tuple[Any, ...]) -> Prints:
    """Prints of the attributes of the objects' classes, and of the globals of their modules.

    Of functions, of the globals of theirs. Modules of the user's that these import count too.
    """
    classes = {cls for one in objects for cls in _classes_of(one)}
    imported = {cls for cls in classes if _is_imported(cls)}
    modules = {cls.__module__ for cls in imported}
    modules = _with_imported(modules | {name for one in objects for name in _module_of(one)})
    return {cls.__qualname__: _attributes(vars(cls), cls in imported) for cls in classes} | {
        name: _attributes(vars(sys.modules[name]), True) for name in modules
    }


def _classes_of(value: Any) -> Iterator[type]:
    """The user's classes of an object (or the class itself), and of data sets that it wraps."""
    cls = value if isinstance(value, type) else type(value)
    yield from (c for c in cls.__mro__ if c.__module__.partition(".")[0] not in _OTHERS)
    inner = vars(value).get("dataset") if hasattr(value, "__dict__") else None
    if inner is not None:
        yield from _classes_of(inner)


def _module_of(value: Any) -> Iterator[str]:
    """The module of a user's function, unless the function came with globals of its own."""
    function = inspect.unwrap(getattr(value, "func", value))  # of a partial one
    name = getattr(function, "__module__", None) or ""
    known = vars(sys.modules[name]) if name in sys.modules else None
    is_users = name.partition(".")[0] not in _OTHERS
    if is_users and known is not None and getattr(function, "__globals__", None) is known:
        yield name


def _with_imported(modules: set[str]) -> set[str]:
    """Some modules, with those of the user's that they import, or import something of."""
    found, new = set(modules), list(modules)
    while new:
        for value in tuple(vars(sys.modules[new.pop()]).values()):
            name = _name_of_module(value)
            if name not in found and _is_users(name):
                found.add(name)
                new.append(name)
    return found


def _name_of_module(value: Any) -> str:
    if isinstance(value, ModuleType):
        return value.__name__
    return str(value.__module__) if isinstance(value, type | FunctionType) else ""


def _is_users(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and is_own(file)


def _is_imported(cls: type) -> bool:
    """Whether a class is its module's, and not one that came with the objects."""
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def _attributes(values: Mapping[str, Any], by_identity: bool) -> dict[str, Any]:
    return {
        name: _print(value, by_identity)
        for name, value in values.items()
        if not (name.startswith("__") or isinstance(value, type | ModuleType | FunctionType))
    }


def _print(value: Any, by_identity: bool, depth: int = _DEPTH) -> Any:
    """What differs when a value was replaced, or holds other items."""
    if isinstance(value, _PLAIN):  # of floats NaN is not itself
        return type(value), repr(value) if isinstance(value, float) else value
    identity = id(value) if by_identity else None
    return type(value), identity, _content(value, depth)


def _content(value: Any, depth: int) -> Any:
    if not isinstance(value, list | tuple | set | frozenset | dict):
        return support().content(value)
    if not depth:
        return len(value)
    items: Iterable[Any] = value.items() if isinstance(value, dict) else value
    if isinstance(value, set | frozenset):
        return len(value), {item for item in value if isinstance(item, _PLAIN)}
    some = islice(items, 0, None, max(1, len(value) // FEW))
    return len(value), [_print(item, False, depth - 1) for item in some]
