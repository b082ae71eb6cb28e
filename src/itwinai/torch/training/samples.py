"""Which samples the data sets of a training hold, told without loading any.

All ranks must deal out the same ones, and a training that goes on must find those that it left: a
split that is drawn anew evaluates what was trained on, and no number looks wrong.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)

from itwinai.torch.data import ExactSampler, is_iterable, length_of
from itwinai.torch.streams import undealt
from itwinai.torch.training.hooks import SETS
from itwinai.torch.training.protocol import Training
from itwinai.torch.type import DistributedStrategyError

#: A digest of what is surely the samples and their order, and one of all that may be.
Digests = tuple[str, str]

#: Elements that are looked at, evenly spread: along the first dimension, and along each other one.
_FIRST, _OTHERS = 64, 4
#: Data sets within data sets, and lists within lists, that are looked into.
_DEEPEST = 5


def samples_of(training: Training) -> dict[str, Digests]:
    """What each of the sets holds; nothing of one that is read from front to back."""
    loaders = {name: getattr(training, attribute, None) for name, attribute in SETS.items()}
    sets = {name: undealt(getattr(one, "dataset", None)) for name, one in loaders.items()}
    return {
        name: (_digest(_order(dataset)), _digest(_contents(dataset)))
        for name, dataset in sets.items()
        if isinstance(dataset, Dataset) and not is_iterable(dataset)
    }


def check_same_on_ranks(training: Training) -> None:
    """Refuse sets that are dealt out to ranks and hold other samples on each; all ask together.

    Where that is not sure, because what differs may be no samples, it is said; so is a loader of
    the user's own by which samples count more than once.

    Raises:
        DistributedStrategyError: Naming the set.
    """
    if training.strategy.global_world_size() == 1:
        return
    ranks = training.strategy.allgather_obj(training.samples)
    for name, own in training.samples.items():
        loader, others = getattr(training, SETS[name]), [rank.get(name, own) for rank in ranks]
        _tell_repeated(training, name, are_alike=all(other == own for other in others))
        if not _is_dealt_out(loader):
            continue
        text = (
            f"the {name} set holds other samples on each rank: some would count twice, others "
            "never, and what one rank trains on another one may evaluate. Split and make the data "
            "with the same seed on all ranks, and sort names of files."
        )
        if any(order != own[0] for order, _ in others):
            raise DistributedStrategyError(text)
        if any(other != own for other in others) and training.strategy.is_main_worker:
            training.reporter.note(f"samples of {name}", f"warning: it seems that {text}")


def tell_other_samples(training: Training, saved: Mapping[str, Digests]) -> None:
    """Say that a training which goes on has other samples than it had.

    Args:
        training: The training.
        saved: What its sets held.
    """
    names = [name for name, own in training.samples.items() if tuple(saved.get(name, own)) != own]
    if names and training.strategy.is_main_worker:
        training.reporter.note(
            "samples",
            f"warning: the {' and the '.join(names)} set holds other samples than before this "
            "training was interrupted, so that what was trained on may be evaluated. Split and "
            "make the data with a seed, and sort names of files.",
        )


def _is_dealt_out(loader: Any) -> bool:
    return isinstance(getattr(loader, "sampler", None), DistributedSampler)


def _tell_repeated(training: Training, name: str, are_alike: bool) -> None:
    """Say that samples count more than once, by a loader of the user's own.

    Args:
        training: The training.
        name: The set's.
        are_alike: Whether it holds the same samples on all ranks.
    """
    loader = getattr(training, SETS[name])
    sampler, repeated = getattr(loader, "sampler", None), None
    if isinstance(sampler, DistributedSampler) and not isinstance(sampler, ExactSampler):
        more = sampler.total_size - len(cast("Sized", sampler.dataset))
        repeated = f"{type(sampler).__name__} repeats {more} of its samples" if more > 0 else None
    elif name == "training" and are_alike and _gives_all(loader):
        repeated = "it seems that each rank trains on all of its samples, as nothing deals them out"
    if repeated and training.strategy.is_main_worker:
        training.reporter.note(
            f"dealing of {name}",
            f"warning: in the loader of the {name} set, {repeated}. A loader that "
            "self.strategy.create_dataloader() makes gives each of them to one rank.",
        )


def _gives_all(loader: Any) -> bool:
    """Whether it is one of PyTorch's own that gives each sample once, in whatever order."""
    is_plain = isinstance(loader, DataLoader) and type(loader.batch_sampler) is BatchSampler
    sampler = getattr(loader, "sampler", None)
    of_all = type(sampler) in (RandomSampler, SequentialSampler)
    return is_plain and of_all and not getattr(sampler, "replacement", False)


def _digest(parts: Iterable[object]) -> str:
    return hashlib.sha256(repr(list(parts)).encode()).hexdigest()


def _order(dataset: Any, depth: int = 0) -> Iterator[object]:
    """How long it is, which samples of another one it takes, and tensors that are its samples."""
    yield length_of(dataset)
    if isinstance(dataset, Subset):
        yield hashlib.sha256(np.asarray(dataset.indices).tobytes()).hexdigest()
    if isinstance(dataset, TensorDataset):
        yield from map(_some_of, dataset.tensors)
    for inner in _inner(dataset, depth):
        yield from _order(inner, depth + 1)


def _contents(dataset: Any, depth: int = 0) -> Iterator[object]:
    """What its attributes hold: arrays, tables, and names of files."""
    for name, value in _attributes(dataset):
        yield name, _some_of(value)
    for inner in _inner(dataset, depth):
        yield from _contents(inner, depth + 1)


def _inner(dataset: Any, depth: int) -> Iterator[Any]:
    for _, value in _attributes(dataset):
        values = value if isinstance(value, list | tuple) else [value]
        yield from (one for one in values if isinstance(one, Dataset) and depth < _DEEPEST)


def _attributes(dataset: Any) -> list[tuple[str, Any]]:
    return sorted(getattr(dataset, "__dict__", {}).items(), key=lambda item: item[0])


def _some_of(value: Any) -> object:
    """The shape of a long value and some of its elements, as plain values; nothing of others."""
    if isinstance(value, list | tuple):
        return len(value), [_plain(one) for one in value[:: _step(len(value), _FIRST)]]
    if hasattr(value, "iloc"):  # a table of pandas
        value = value.iloc[:: _step(len(value), _FIRST)].to_numpy()
    shape = getattr(value, "shape", ())
    if not isinstance(value, np.ndarray | torch.Tensor) or not shape:
        return None
    most = (_FIRST, *(_OTHERS for _ in shape[1:]))
    steps = tuple(slice(None, None, _step(n, some)) for n, some in zip(shape, most, strict=True))
    with suppress(RuntimeError):  # a tensor that is not laid out in strides, or has no values
        return tuple(shape), [_plain(one) for one in value[steps].tolist()]
    return tuple(shape)


def _step(length: int, some: int) -> int:
    return max(1, -(-length // some))


def _plain(value: Any, depth: int = 0) -> object:
    """What is plain in a value; of a path its name, as each node may have a folder of its own."""
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        return [_plain(one, depth + 1) for one in value[:_OTHERS]]
    if isinstance(value, str | os.PathLike):
        return os.path.basename(os.fspath(value))
    return value if isinstance(value, bool | int | float | complex) else None
