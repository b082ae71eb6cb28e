"""States that a checkpoint can give back without running any code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

#: What a checkpoint can give back without running any code.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Tensor, torch.Size, torch.dtype)


def has_state(value: Any) -> bool:
    """Whether it gives its state, and takes it back."""
    return not isinstance(value, type) and all(
        callable(getattr(value, method, None)) for method in ("state_dict", "load_state_dict")
    )


def odd_part(state: Any) -> str | None:
    """What in a state is no plain value; None if it can be read without running any code."""
    return next(_odd_parts(state), None)


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
