"""Copies of a user's own values, such as a checkpoint can hold and give back.

Numbers, texts, tensors and arrays, in lists, tuples, sets, dictionaries and those of
``collections``; a copy of an array or of a tensor on a GPU is a tensor that says so, that of a
deque with a greatest length a tuple. In place of what is too large stands a mark, by which it can
be told whether that has changed.
"""

from __future__ import annotations

import itertools
import zlib
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from itwinai.torch.checkpoints.plain import as_plain

#: The most bytes of one value that are copied at each checkpoint.
LARGEST = 16 * 2**20
#: Of a number in a list.
_BYTES = 64
#: Of a large array, how many numbers are looked at.
_SOME = 2**16

_PLAIN = (type(None), bool, int, float, complex, str, np.generic)
_DICTIONARIES = (dict, defaultdict, Counter, OrderedDict)
_SERIES: dict[type, Callable[[Any], Any]] = {list: list, tuple: tuple, set: set}

#: Keys of the copy of a tensor on another device than the CPU, of an array, and of a mark.
_ON_DEVICE, _ARRAY, _MARK = "itwinai.tensor_on_device", "itwinai.array", "itwinai.too_large"


class NoCopyError(TypeError):
    """A value is of no type that a checkpoint can give back."""


def copied(value: Any) -> Any:
    """Copy a value; mark one that takes more than :data:`LARGEST` bytes.

    Raises:
        NoCopyError: If it cannot be copied.
    """
    try:
        return _copied(value) if _left(value, LARGEST) >= 0 else {_MARK: _mark(value)}
    except RecursionError as error:
        raise NoCopyError("it holds itself") from error


def is_mark(copied: Any) -> bool:
    """Whether a copy only says that a value was too large."""
    return isinstance(copied, Mapping) and _MARK in copied


def restored(copied: Any, like: Any, device: torch.device) -> Any:
    """The value of a copy, which stays as it is.

    Args:
        copied: What :func:`copied` returned.
        like: What it takes the place of. A list, set or dictionary is filled anew, so that others
            who know it see it; a number gets the same type.
        device: That of a tensor that was not on the CPU.
    """
    value = _restored(copied, device)
    if type(like) in (list, deque) and isinstance(value, list | tuple):
        like.clear()
        like.extend(value)
        return like
    if type(like) in (set, *_DICTIONARIES) and isinstance(value, set | dict):
        like.clear()
        like.update(value)
        return like
    return like.dtype.type(value) if isinstance(like, np.generic) else value


def same(one: Any, other: Any) -> bool:
    """Whether two copies hold the same, bit for bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and torch.equal(_bytes(one), _bytes(other))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


def is_history(first: Sequence[Any], copied: Any) -> bool:
    """Whether a copy is of a list, set or dictionary that has only grown, without arrays in it.

    Args:
        first: The copy of what it was first, or empty if it was not there.
        copied: That of what it is.
    """
    if not isinstance(copied, list | set | dict) or is_mark(copied) or _holds_numbers(copied):
        return False
    return _has_grown(first[0] if first else type(copied)(), copied)


def _has_grown(before: Any, now: Any) -> bool:
    if type(before) is not type(now):
        return False
    if isinstance(now, list):
        pairs = zip(before, now, strict=False)
        return len(before) <= len(now) and all(same(a, b) or _has_grown(a, b) for a, b in pairs)
    if isinstance(now, dict):
        return all(
            key in now and (same(part, now[key]) or _has_grown(part, now[key]))
            for key, part in before.items()
        )
    return isinstance(now, set) and before <= now


def _holds_numbers(copied: Any) -> bool:
    """Whether there is a tensor in it, which may be the copy of an array."""
    if isinstance(copied, Mapping):
        return any(map(_holds_numbers, copied.values()))
    if isinstance(copied, list | tuple):
        return any(map(_holds_numbers, copied))
    return isinstance(copied, torch.Tensor)


def _left(value: Any, left: int) -> int:
    """How many bytes are left after a value; negative if it takes more."""
    parts: Iterable[Any] = ()
    if isinstance(value, torch.Tensor):
        left -= value.numel() * value.element_size()
    elif isinstance(value, np.ndarray):
        left -= value.nbytes
    elif isinstance(value, str):
        left -= len(value)
    elif isinstance(value, Mapping):
        parts = itertools.chain(value.keys(), value.values())
    elif type(value) in (*_SERIES, deque):
        parts = value
    for part in parts:
        if left < 0:
            break
        left = _left(part, left)
    return left - _BYTES


def _mark(value: Any) -> list[int]:
    """Numbers that are others after most changes."""
    if isinstance(value, torch.Tensor):
        return [_dense(value).data_ptr(), value._version, *value.shape]
    if isinstance(value, np.ndarray):
        some = value.ravel()[:: max(1, value.size // _SOME)]
        return [value.ctypes.data, zlib.crc32(some.tobytes()), *value.shape]
    last = [] if isinstance(value, str | set) else itertools.islice(reversed(value), 1)
    return [len(value), *map(id, last)]


def _copied(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return as_plain(value)
    if type(value) is torch.Tensor:
        return _of_tensor(value)
    if type(value) is np.ndarray and not value.dtype.hasobject:
        return {_ARRAY: _of_array(value)}
    if type(value) in _DICTIONARIES:
        return {_copied(key): _copied(part) for key, part in value.items()}
    if type(value) in _SERIES:
        return _SERIES[type(value)](_copied(part) for part in value)
    if type(value) is deque:
        return (list if value.maxlen is None else tuple)(_copied(part) for part in value)
    raise NoCopyError(f"{type(value).__name__}: no type that a checkpoint can give back")


def _of_tensor(value: torch.Tensor) -> Any:
    if value.device.type == "cpu":
        return _dense(value).detach().clone()
    return {_ON_DEVICE: _dense(value).detach().cpu()}


def _dense(value: torch.Tensor) -> torch.Tensor:
    if value.layout is not torch.strided or value.is_quantized or value.device.type == "meta":
        raise NoCopyError(f"a tensor that is {value.layout}, on {value.device}")
    return value


def _of_array(value: np.ndarray) -> torch.Tensor:
    try:
        return torch.from_numpy(value.copy())
    except TypeError as error:  # PyTorch has no such numbers
        raise NoCopyError(str(error)) from error


def _restored(copied: Any, device: torch.device) -> Any:
    if isinstance(copied, torch.Tensor):
        return copied.clone()
    if isinstance(copied, Mapping):
        if _ARRAY in copied:
            return copied[_ARRAY].clone().numpy()
        if _ON_DEVICE in copied:
            return copied[_ON_DEVICE].to(device)
        return {key: _restored(part, device) for key, part in copied.items()}
    if isinstance(copied, list | tuple):
        return type(copied)(_restored(part, device) for part in copied)
    return copied


def _bytes(value: torch.Tensor) -> torch.Tensor:
    return value.contiguous().reshape(-1).view(torch.uint8)
