"""What can be sent to another process, and what in it cannot."""

from __future__ import annotations

import functools
import pickle
import types
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch

#: What pickling raises; a lock of multiprocessing raises another, and only outside of a start.
_REFUSALS = (pickle.PicklingError, TypeError, AttributeError, ValueError)


def unpicklable_part(value: Any, pickles: Callable[[Any], object] | None = None) -> str | None:
    """Say what in a value cannot be pickled, as in ``"its 'files[0]' is a sqlite3.Connection"``.

    Args:
        value: Anything.
        pickles: Pickles it, such as ``cloudpickle.dumps``; None: tries it as ``multiprocessing``
            does, at no cost for tensors and arrays.

    Returns:
        The sentence about its innermost part; None if all of it can be pickled.
    """
    pickles = pickles or _try
    if _can_be(value, pickles):
        return None
    path, seen = "", {id(value)}
    while True:
        for step, part in _parts(value):
            if id(part) not in seen and not _can_be(part, pickles):
                path, value = path + step, part
                seen.add(id(part))
                break
        else:
            place = f"its '{path.removeprefix('.')}' is" if path else "it is"
            return f"{place} {_kind(value)}"


def _try(value: Any) -> None:
    _Trial(_Nowhere()).dump(value)


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)


class _Trial(ForkingPickler):
    """Pickles all but the bulk, which always can be."""

    def reducer_override(self, value: Any) -> Any:
        is_bulk = isinstance(value, torch.Tensor) or (
            isinstance(value, np.ndarray) and not value.dtype.hasobject
        )
        return (int, ()) if is_bulk else NotImplemented


def _can_be(value: Any, pickles: Callable[[Any], object]) -> bool:
    try:
        pickles(value)
    except _REFUSALS:
        return False
    except RuntimeError:  # what may be handed on only while a process starts
        return True
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, each with how it is reached."""
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())


def _kind(value: Any) -> str:
    if isinstance(value, types.FunctionType | type):
        within = " that is defined within another" if "<locals>" in value.__qualname__ else ""
        word = "class" if isinstance(value, type) else "function"
        return f"the {word} {value.__name__}{within}"
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"a {module}{kind.__qualname__}"
