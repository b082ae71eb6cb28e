"""States that a checkpoint can give back without running any code."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch

#: Types of Python's own, of which others, such as a number of NumPy, may be kinds.
_OF_PYTHON = (bool, int, float, complex, str, bytes)

#: What a checkpoint can give back without running any code.
_PLAIN = (type(None), *_OF_PYTHON, np.generic, torch.Tensor, torch.Size, torch.dtype)


def has_state(value: Any) -> bool:
    """Whether it gives its state when it is asked for no more, and takes it back."""
    if isinstance(value, type) or not callable(getattr(value, "load_state_dict", None)):
        return False
    return _needs_no_argument(getattr(value, "state_dict", None))


def odd_part(state: Any) -> str | None:
    """What in a state is no plain value; None if it can be read without running any code."""
    return next(_odd_parts(state), None)


def as_plain(state: Any) -> Any:
    """A state of the very types that a checkpoint gives back; what has them already is itself.

    A number of NumPy or of an enumeration becomes one of Python, a ``defaultdict`` a dictionary.
    """
    if isinstance(state, Mapping):
        parts = [part for item in state.items() for part in item]
        plain = [as_plain(part) for part in parts]
        if _is_same(plain, parts) and type(state) in (dict, OrderedDict):
            return state  # the state of a module has attributes of its own
        return dict(zip(plain[::2], plain[1::2], strict=True))
    if isinstance(state, list | tuple | set | frozenset) and not isinstance(state, torch.Size):
        plain = [as_plain(part) for part in state]
        if _is_same(plain, state) and type(state) in (list, tuple, set):
            return state
        return next((kind for kind in (list, tuple) if isinstance(state, kind)), set)(plain)
    if isinstance(state, np.generic):
        return state.item()
    base = next((kind for kind in _OF_PYTHON if isinstance(state, kind)), None)
    return state if base is None or type(state) in _OF_PYTHON else base(state)


def _is_same(parts: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(part is other for part, other in zip(parts, others, strict=True))


def _needs_no_argument(method: Any) -> bool:
    if not callable(method):
        return False
    with suppress(ValueError):  # one that is not written in Python tells nothing
        parameters = inspect.signature(method).parameters.values()
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return all(p.default is not p.empty or p.kind in variable for p in parameters)
    return True


def _odd_parts(state: Any) -> Iterator[str]:
    if isinstance(state, Mapping):
        for key, value in state.items():
            yield from _odd_parts(key)
            yield from _odd_parts(value)
    elif isinstance(state, list | tuple | set | frozenset):
        for value in state:
            yield from _odd_parts(value)
    elif not isinstance(state, _PLAIN):
        yield f"an object of {type(state).__module__}.{type(state).__qualname__}"
