"""States that a checkpoint can give back without running any code."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch

#: What a checkpoint can give back without running any code.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Tensor, torch.Size, torch.dtype)


def has_state(value: Any) -> bool:
    """Whether it gives its state when it is asked for no more, and takes it back."""
    if isinstance(value, type) or not callable(getattr(value, "load_state_dict", None)):
        return False
    return _needs_no_argument(getattr(value, "state_dict", None))


def odd_part(state: Any) -> str | None:
    """What in a state is no plain value; None if it can be read without running any code."""
    return next(_odd_parts(state), None)


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
    elif isinstance(state, list | tuple | set):
        for value in state:
            yield from _odd_parts(value)
    elif not isinstance(state, _PLAIN):
        yield f"an object of {type(state).__module__}.{type(state).__qualname__}"
