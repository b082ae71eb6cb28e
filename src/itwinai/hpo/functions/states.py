"""What a function keeps in a checkpoint, as files that load without running any code.

``state.json``
    Plain data. A key of text alone, ``array`` or ``tensor``, stands for what the other files hold.
``arrays.npz``
    Arrays of NumPy.
``tensors.pt``
    Tensors of PyTorch, if there are any.
``manifest.json``
    Sizes and SHA-256 of these; see :mod:`itwinai.io.manifest`.
"""

from __future__ import annotations

import base64
import json
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from itwinai.errors import CheckpointError
from itwinai.hpo.errors import UnkeepableError
from itwinai.hpo.isolation.support import SUPPORTED, Support, support, supported_by
from itwinai.io.files import atomic_folder, newest_complete
from itwinai.io.manifest import check_manifest, write_manifest

_STATE, _ARRAYS, _TENSORS = "state.json", "arrays.npz", "tensors.pt"


def save_state(folder: Path, state: Any, epochs: float) -> None:
    """Write a checkpoint folder, with the states of all random numbers.

    Args:
        folder: Is made; it is either complete or absent.
        state: Plain data, arrays and tensors, in lists, tuples and dictionaries.
        epochs: Epochs that it holds.

    Raises:
        UnkeepableError: If loading a part of it would need code.
    """
    library = support()
    packed = _Packing(library)
    content = {
        "state": packed.pack(state, "checkpoint"),
        "random": packed.pack(library.random_state(), "random"),
    }
    with atomic_folder(folder) as scratch:
        (scratch / _STATE).write_text(json.dumps(content), encoding="utf-8")
        if packed.arrays:
            np.savez(scratch / _ARRAYS, **packed.arrays)
        if packed.tensors:
            library.save(packed.tensors, scratch / _TENSORS)
        write_manifest(scratch, {"epochs": epochs})


def load_checkpoint(folder: str | Path) -> Any:
    """Read what a function has handed over as its checkpoint, outside of a trial.

    Args:
        folder: Such as ``result.best.checkpoint``.

    Returns:
        Plain data, arrays of NumPy and tensors of PyTorch, those on the CPU; no code is run.

    Raises:
        CheckpointError: If it is missing, damaged, or none of a function.
    """
    state, _ = load_state(Path(folder))
    return state


def load_state(folder: Path) -> tuple[Any, Any]:
    """Read a checkpoint folder.

    Returns:
        What was saved, and the states of random numbers, for :func:`restore_random`.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    found = newest_complete(folder)
    if found is None or check_manifest(found) is None:
        raise CheckpointError(f"{folder}: there is no whole checkpoint here")
    try:
        content = json.loads((found / _STATE).read_text(encoding="utf-8"))
        arrays = _read_arrays(found / _ARRAYS)
        tensors = supported_by(SUPPORTED["torch"]).load(found / _TENSORS) if _has(found) else {}
        leaves = {"array": arrays, "tensor": tensors}
        return _unpack(content["state"], leaves), _unpack(content["random"], leaves)
    except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{folder}: not a function's checkpoint ({error})") from None


def restore_random(state: Any) -> None:
    """Put all random numbers back to the states of a checkpoint."""
    support().set_random_state(state)


def _has(folder: Path) -> bool:
    return (folder / _TENSORS).exists()


def _read_arrays(file: Path) -> Mapping[str, Any]:
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


class _Packing:
    """Takes a state apart: plain data that JSON can write, and what goes into other files.

    Args:
        library: Knows which values are tensors.
    """

    def __init__(self, library: Support) -> None:
        self._library = library
        self.arrays: dict[str, Any] = {}
        self.tensors: dict[str, Any] = {}
        #: Arrays by what they are; one that stands in two places is one again.
        self._names: dict[int, str] = {}

    def pack(self, value: Any, where: str) -> Any:
        """Return a value as JSON can write it.

        Raises:
            UnkeepableError: Naming the part of which loading would need code.
        """
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, np.generic):
            return {"scalar": _kept(self.arrays, np.asarray(value))}
        if type(value) in (np.ndarray, np.memmap) and not value.dtype.hasobject:
            if id(value) not in self._names:
                self._names[id(value)] = _kept(self.arrays, value)
            return {"array": self._names[id(value)]}
        if self._library.is_tensor(value):
            return {"tensor": _kept(self.tensors, value)}
        return self._pack_collection(value, where)

    def _pack_collection(self, value: Any, where: str) -> Any:
        if isinstance(value, bytes):
            return {"bytes": base64.b64encode(value).decode()}
        if isinstance(value, deque):
            return {"deque": [self._pack_parts(value, where), value.maxlen]}
        if isinstance(value, defaultdict) and value.default_factory in _FACTORIES.values():
            factory = cast("type", value.default_factory).__name__
            return {"defaultdict": [factory, self._pack_pairs(value, where)]}
        if isinstance(value, Mapping) and not isinstance(value, defaultdict):
            name = type(value).__name__ if type(value) in _MAPPINGS.values() else "dict"
            return {name: self._pack_pairs(value, where)}
        for kind in (list, tuple, set, frozenset):
            if isinstance(value, kind) and not hasattr(value, "_fields"):  # as a named tuple has
                parts = self._pack_parts(value, where)
                return parts if kind is list else {kind.__name__: parts}
        raise UnkeepableError(
            f"{where} is a {type(value).__name__}, and loading that would run code. Hand over its "
            "numbers (its state_dict(), its arrays, a plain dict), or write a file into "
            "trial.folder"
        )

    def _pack_parts(self, values: Iterable[Any], where: str) -> list[Any]:
        return [self.pack(part, f"{where}[{n}]") for n, part in enumerate(values)]

    def _pack_pairs(self, values: Mapping[Any, Any], where: str) -> list[list[Any]]:
        return [
            [self.pack(key, f"a key of {where}"), self.pack(part, f"{where}[{key!r}]")]
            for key, part in values.items()
        ]


def _kept(files: dict[str, Any], value: Any) -> str:
    name = str(len(files))
    files[name] = value
    return name


def _unpack(value: Any, leaves: Mapping[str, Mapping[str, Any]]) -> Any:
    """The value that :class:`_Packing` has taken apart."""
    if isinstance(value, list):
        return [_unpack(part, leaves) for part in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in _MAPPINGS:
        return _MAPPINGS[kind](_unpack_pairs(content, leaves))
    if kind == "defaultdict":
        factory, pairs = content
        return defaultdict(_FACTORIES[factory], _unpack_pairs(pairs, leaves))
    if kind == "deque":
        parts, most = content
        return deque(_unpack(parts, leaves), most)
    if kind == "bytes":
        return base64.b64decode(content)
    if kind == "scalar":
        return leaves["array"][content][()]
    if kind in leaves:
        return leaves[kind][content]
    return _COLLECTIONS[kind](_unpack(content, leaves))


def _unpack_pairs(pairs: Any, leaves: Mapping[str, Mapping[str, Any]]) -> dict[Any, Any]:
    return {_unpack(key, leaves): _unpack(part, leaves) for key, part in pairs}


_COLLECTIONS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}

_MAPPINGS: dict[str, Callable[[Any], Any]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "Counter": Counter,
}

#: What a ``defaultdict`` may begin a missing value with.
_FACTORIES: dict[str, Callable[[], Any]] = {
    kind.__name__: kind for kind in (bool, int, float, str, list, tuple, set, dict)
}
