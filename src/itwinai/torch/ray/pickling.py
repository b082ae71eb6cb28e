"""A trainer and its data sets on their way to other processes, where each trial gets its own."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from itwinai.errors import ConfigurationError
from itwinai.hpo.isolation.pickling import REFUSED, SharedValue, pickled
from itwinai.torch.pickling import unpicklable_part
from itwinai.torch.training.protocol import Datasets
from itwinai.torch.training.trainer import LocalTrainer


def pickled_trainer(trainer: LocalTrainer) -> bytes:
    """Return a trainer as bytes, user-defined classes of the main program included.

    Raises:
        ConfigurationError: If it holds something that cannot leave its process.
    """
    try:
        return pickled(trainer)
    except REFUSED as error:
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

    Args:
        datasets: Training, validation and test set.

    Raises:
        ConfigurationError: Naming the set, and what in it cannot leave its process.
    """

    def __init__(self, datasets: Datasets) -> None:
        try:
            self._shared = SharedValue(datasets, reduced_tensor)
        except REFUSED:
            _refuse(datasets)
            raise

    @contextmanager
    def copies(self) -> Iterator[Datasets]:
        """Give a trial its data sets, until the block ends."""
        with self._shared.copy() as datasets:
            yield datasets


def reduced_tensor(value: Any) -> Any:
    """Take a tensor as a view of its storage, which others may view as well, and that as an array.

    PyTorch's own way copies the storage into the pickle. ``NotImplemented`` of anything that is not
    a plain tensor in this process's memory, or its storage.
    """
    if type(value) is torch.UntypedStorage and value.device.type == "cpu":
        return _storage, (torch.empty(0, dtype=torch.uint8).set_(value).numpy(),)
    if type(value) is not torch.Tensor or not _is_plain(value):
        return NotImplemented
    return _tensor, (
        value.untyped_storage(),
        value.dtype,
        value.requires_grad,
        value.storage_offset(),
        tuple(value.size()),
        value.stride(),
    )


def _is_plain(value: torch.Tensor) -> bool:
    return (
        value.device.type == "cpu"
        and value.layout is torch.strided
        and value.is_leaf
        and not (value.is_quantized or value.is_conj() or value.is_neg() or vars(value))
    )


def _storage(array: Any) -> torch.UntypedStorage:
    return torch.from_numpy(array).untyped_storage()


def _tensor(
    storage: torch.UntypedStorage, dtype: torch.dtype, requires_grad: bool, *view: Any
) -> torch.Tensor:
    return torch.empty(0, dtype=dtype).set_(storage, *view).requires_grad_(requires_grad)


def _refuse(datasets: Datasets) -> None:
    """Say which data set cannot be sent, and what in it."""
    shared: Callable[[Any], Any] = lambda value: SharedValue(value, reduced_tensor)  # noqa: E731
    for name, dataset in zip(("training", "validation", "test"), datasets, strict=True):
        part = unpicklable_part(dataset, shared)
        if part is not None:
            raise ConfigurationError(
                f"the {name} set ({type(dataset).__name__}) cannot be sent to a trial's process: "
                f"{part}, which cannot be pickled. Open files, locks and connections when the "
                "first sample is read, not in the constructor."
            )
