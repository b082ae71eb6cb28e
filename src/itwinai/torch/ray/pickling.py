"""A trainer and its data sets on their way to other processes, where each trial gets its own."""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pickle import PickleBuffer
from types import ModuleType
from typing import Any

import torch

from itwinai.errors import ConfigurationError
from itwinai.torch.pickling import unpicklable_part
from itwinai.torch.ray.memory import OriginalMemory
from itwinai.torch.training.protocol import Datasets
from itwinai.torch.training.trainer import LocalTrainer

#: Errors of what cannot be pickled, some from a user's own ``__getstate__``.
_REFUSED = (TypeError, AttributeError, NotImplementedError, RuntimeError, pickle.PicklingError)

#: Bytes from which on a buffer is shared; smaller ones are copied for each trial.
_SHARED = 1024


def pickled_trainer(trainer: LocalTrainer) -> bytes:
    """Return a trainer as bytes, user-defined classes of the main program included.

    Raises:
        ConfigurationError: If it holds something that cannot leave its process.
    """
    try:
        return _pickled(trainer)
    except _REFUSED as error:
        raise ConfigurationError(
            f"the trainer cannot be sent to a trial's process: {error}. Open files, locks and "
            "connections must be made inside train(), not in the constructor."
        ) from error


def fresh_copy(pickled: bytes) -> LocalTrainer:
    """Return a trainer as it was pickled; nothing of an earlier trial is in it."""
    trainer: LocalTrainer = pickle.loads(pickled)
    return trainer


class SharedDatasets:
    """Data sets of which each trial gets its own, as they were at first.

    The arrays and CPU tensors in them lie in memory once, and a trial's are copied page by page as
    it writes to them. All else is made anew for each trial.

    Args:
        datasets: Training, validation and test set.

    Raises:
        ConfigurationError: Naming the set, and what in it cannot leave its process.
    """

    def __init__(self, datasets: Datasets) -> None:
        self._buffers: list[PickleBuffer] = []
        try:
            pickled = _pickled(datasets, self._buffers.append)
        except _REFUSED:
            _refuse(datasets)
            raise
        #: Not bytes, so that these too stay in the object store and are not copied out of it.
        self._pickled = PickleBuffer(pickled)
        self._memory: OriginalMemory | None = None

    @contextmanager
    def copies(self) -> Iterator[Datasets]:
        """Give a trial its data sets, until the block ends."""
        if self._memory is None:
            self._memory = OriginalMemory([memoryview(buffer) for buffer in self._buffers])
            self._buffers = []
        with self._memory.copy() as buffers:
            yield pickle.loads(self._pickled, buffers=buffers)


def _pickled(value: Any, share: Callable[[PickleBuffer], Any] | None = None) -> bytes:
    """Pickle what other processes shall load, whether or not they can import its classes.

    Any module is taken by its name: cloudpickle looks for modules that a function may use, and
    tries to take those apart that are objects of a class of their own, such as
    ``torch.distributed.config``.

    Args:
        value: Anything.
        share: Takes large buffers out of the bytes that are returned, one after the other.
    """
    file = io.BytesIO()
    _pickler_class()(file, share).dump(value)
    return file.getvalue()


@cache
def _pickler_class() -> Any:
    from ray import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(self, file: io.BytesIO, share: Callable[[PickleBuffer], Any] | None) -> None:
            super().__init__(file, protocol=5, buffer_callback=self.stays)
            self.share = share

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, ModuleType) and type(obj) is not ModuleType:
                return importlib.import_module, (obj.__name__,)
            if self.share is not None and _is_in_memory(obj):
                return _reduced(obj)
            return super().reducer_override(obj)

        def stays(self, buffer: PickleBuffer) -> bool:
            flat = buffer.raw()
            if self.share is None or flat.nbytes < _SHARED:
                return True
            self.share(PickleBuffer(flat))
            return False

    return Pickler


def _is_in_memory(value: Any) -> bool:
    """Whether a value is a plain tensor in this process's memory, or its storage."""
    if type(value) is torch.UntypedStorage:
        return value.device.type == "cpu"
    return (
        type(value) is torch.Tensor
        and value.device.type == "cpu"
        and value.layout is torch.strided
        and value.is_leaf
        and not (value.is_quantized or value.is_conj() or value.is_neg() or vars(value))
    )


def _reduced(value: torch.Tensor | torch.UntypedStorage) -> tuple[Callable[..., Any], Any]:
    """Take a tensor as a view of its storage, which others may view as well, and that as an array.

    PyTorch's own way copies the storage into the pickle.
    """
    if isinstance(value, torch.UntypedStorage):
        return _storage, (torch.empty(0, dtype=torch.uint8).set_(value).numpy(),)
    return _tensor, (
        value.untyped_storage(),
        value.dtype,
        value.requires_grad,
        value.storage_offset(),
        tuple(value.size()),
        value.stride(),
    )


def _storage(array: Any) -> torch.UntypedStorage:
    return torch.from_numpy(array).untyped_storage()


def _tensor(
    storage: torch.UntypedStorage, dtype: torch.dtype, requires_grad: bool, *view: Any
) -> torch.Tensor:
    return torch.empty(0, dtype=dtype).set_(storage, *view).requires_grad_(requires_grad)


def _refuse(datasets: Datasets) -> None:
    """Say which data set cannot be sent, and what in it."""
    for name, dataset in zip(("training", "validation", "test"), datasets, strict=True):
        part = unpicklable_part(dataset, lambda value: _pickled(value, lambda buffer: None))
        if part is not None:
            raise ConfigurationError(
                f"the {name} set ({type(dataset).__name__}) cannot be sent to a trial's process: "
                f"{part}, which cannot be pickled. Open files, locks and connections when the "
                "first sample is read, not in the constructor."
            )
