"""Data loaders whose epochs are exact over several processes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sized
from typing import Any, cast

import torch
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from itwinai.errors import ConfigurationError
from itwinai.torch.type import HookError


class EpochCount:
    """The epoch that was said, or, as long as nobody says it, the passes so far."""

    def __init__(self) -> None:
        #: Epochs that were begun, if nobody has said which it is; otherwise 0.
        self.passes = 0
        self.said: int | None = None

    def say(self, epoch: int) -> None:
        """Say which epoch comes, from now on for each of them."""
        self.passes, self.said = 0, epoch

    def begin(self) -> int:
        """Begin a pass; return its epoch."""
        if self.said is not None:
            return self.said
        self.passes += 1
        return self.passes - 1


class ExactSampler(DistributedSampler[Any]):
    """Deals a data set out to ranks, counting no sample twice.

    PyTorch's own sampler repeats samples until all ranks have the same number. Here a rank may get
    one sample less. Only where a rank's last batch would be empty it gets one repeated sample, so
    that all ranks do the same number of steps; that batch has weight 0 (see :func:`batch_share`).

    The k-th batches of all ranks together are the k-th batch of a single process whose batch is as
    large as theirs together. As long as nobody calls :meth:`set_epoch`, each pass is an epoch.

    Args:
        dataset: Anything with a length, which may be another one in each epoch.
        batch_size: Samples per batch and rank.
        rank: This process.
        world_size: Number of processes.
        shuffle: Whether each epoch has another order.
        seed: Seed of the order; the epoch is added.
        drop_last: Whether the last, smaller batch is left out.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        rank: int,
        world_size: int,
        shuffle: bool,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            cast("Dataset[Any]", dataset), world_size, rank, shuffle=shuffle, seed=seed
        )
        self.batch_size = batch_size
        self.drop_incomplete = drop_last
        self._first = 0
        self.epochs = EpochCount()

    def __iter__(self) -> Iterator[int]:
        order = self._order(self.epochs.begin())
        own = order[self._first + self.rank :: self.num_replicas]
        # One more than there are means that the last batch would be empty: repeat a sample.
        return iter((own + order[:1])[: len(self)])

    def __len__(self) -> int:
        if self.drop_incomplete:
            return self._steps() * self.batch_size
        own = len(range(self.rank, self._left, self.num_replicas))
        return own + int(math.ceil(own / self.batch_size) < self._steps())

    @property
    def total(self) -> int:
        """Samples of the running epoch."""
        return len(cast("Sized", self.dataset))

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes, from now on for each of them."""
        super().set_epoch(epoch)
        self.epochs.say(epoch)

    def begin_at(self, sample: int) -> None:
        """Leave out an epoch's first samples, which were trained on; the rest is dealt out anew.

        Args:
            sample: Place of the first sample in the order of all ranks; 0: the whole epoch.
        """
        self._first = sample

    def samples_after(self, batches: int) -> int:
        """Samples of an epoch that are done when each rank has had so many of the batches."""
        done = self._first + batches * self.batch_size * self.num_replicas
        return min(done, self.total)

    @property
    def order_key(self) -> dict[str, int]:
        """What the order of an epoch follows from, beside its number."""
        return {"samples": self.total, "seed": self.seed if self.shuffle else -1}

    def share(self, batch_idx: int, window: int = 1) -> float:
        """Weight of a batch of this rank, relative to the mean of all ranks' batches of one step.

        1 for a full batch that makes a step alone. The mean over ranks of gradients weighted so,
        summed over the batches of a step, is the gradient of the mean over all its samples.

        Args:
            batch_idx: Number of the batch, of those that are given.
            window: Batches whose gradients make one step.
        """
        together = self.batch_size * self.num_replicas
        total = self._steps() * together if self.drop_incomplete else self._left
        first = (batch_idx - batch_idx % window) * together
        if first + window * together <= total:
            return 1 / window
        before = batch_idx * together
        own = min(len(range(before + self.rank, total, self.num_replicas)), self.batch_size)
        return own * self.num_replicas / (total - first)

    def _order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.total))
        generator = torch.Generator().manual_seed(self.seed + epoch)
        return cast("list[int]", torch.randperm(self.total, generator=generator).tolist())

    @property
    def _left(self) -> int:
        return self.total - self._first

    def _steps(self) -> int:
        together = self.batch_size * self.num_replicas
        return self._left // together if self.drop_incomplete else math.ceil(self._left / together)


def batch_share(loader: DataLoader[Any], batch_idx: int, window: int = 1) -> float:
    """Weight of a loader's batch in the mean over ranks and over the batches of a step.

    Where the loader is not one of ours, each batch of a step weighs the same.

    Args:
        loader: The data.
        batch_idx: Number of the batch.
        window: Batches of a full step, or of this one, where the loader is not one of ours.
    """
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, ExactSampler):
        return sampler.share(batch_idx, window)
    return 1 / window


def length_of(data: Any) -> int | None:
    """Batches of a loader, or samples of a data set; None where it does not know.

    What a data set that is read from front to back says of its length holds for one process that
    loads, but not for several: how many batches they make depends on how they share it.
    """
    dataset, workers = getattr(data, "dataset", None), getattr(data, "num_workers", 0)
    if is_iterable(dataset) and workers > 1:
        return None
    try:
        return len(data)
    except TypeError:
        return None


def check_datasets(train: Any, validation: Any = None, test: Any = None) -> None:
    """Refuse an empty data set, as far as its length is known.

    Raises:
        ConfigurationError: Naming the set.
    """
    for name, dataset in {"training": train, "validation": validation, "test": test}.items():
        if length_of(dataset) == 0:
            hint = "" if name == "training" else " Pass None if there is none."
            raise ConfigurationError(f"the {name} set is empty.{hint}")


def set_epoch(loader: DataLoader[Any] | None, epoch: int) -> None:
    """Tell a loader's sampler and data set the epoch, if they want to know."""
    for part in ("sampler", "batch_sampler", "dataset"):
        holder = getattr(loader, part, None)
        hook = getattr(holder, "set_epoch", None)
        if hook is not None:
            hook(epoch)


def is_iterable(dataset: Any) -> bool:
    """Whether a data set can only be read from front to back."""
    return isinstance(dataset, IterableDataset)


def samples_in(batch: Any) -> int:
    """Number of samples of a batch.

    That is the length of the outermost tensor in it, whatever stands before: texts, or what is
    known of the samples; of packed sequences it is their number. Where the samples stand in
    columns (images of various sizes, each in a tensor of its own), it is the length of a column.

    Raises:
        TypeError: If there is no tensor and no column in it.
    """
    first = _length(batch[0]) if _is_nested(batch) and batch else None
    if first is not None:
        return first
    columns = _columns_of(batch)
    if columns is not None and len({_length(part) for part in _parts_in(batch)}) != 1:
        return columns
    shallow = _shallowest(batch)
    if shallow is not None:
        return shallow
    if columns is not None:
        return columns
    if batch is None:
        raise HookError(
            "the loader gave None (does its collate_fn lack a return?); expected a batch of inputs "
            "and targets"
        )
    raise TypeError(
        f"cannot count the samples of a batch of type {type(batch).__name__}. Override "
        "samples_in_batch() of the trainer, which returns their number."
    )


def odd_lengths(batch: Any) -> tuple[int, int] | None:
    """Lengths of the inputs and the targets of a batch, where they differ; otherwise None."""
    if not isinstance(batch, list | tuple) or len(batch) != 2:
        return None
    inputs, targets = map(_length, batch)
    return None if inputs is None or targets is None or inputs == targets else (inputs, targets)


def tensors_in(batch: Any) -> Iterator[torch.Tensor]:
    """The tensors of a batch, however deep they lie."""
    for part in _parts_in(batch):
        yield part.data if isinstance(part, PackedSequence) else part


def _parts_in(batch: Any) -> Iterator[torch.Tensor | PackedSequence]:
    """The tensors and the packed sequences of a batch, however deep they lie."""
    if isinstance(batch, torch.Tensor | PackedSequence):
        yield batch
    elif isinstance(batch, Mapping):
        yield from (found for part in batch.values() for found in _parts_in(part))
    elif isinstance(batch, list | tuple):
        yield from (found for part in batch for found in _parts_in(part))


def _length(part: Any) -> int | None:
    """Samples of a tensor or of packed sequences; None of a single number, and of all else."""
    if isinstance(part, PackedSequence):
        return int(part.batch_sizes[0])
    return len(part) if isinstance(part, torch.Tensor) and part.dim() > 0 else None


def _is_nested(part: Any) -> bool:
    return isinstance(part, list | tuple) and not isinstance(part, PackedSequence)


def _columns_of(batch: Any) -> int | None:
    """Length of the columns of ``zip(*samples)``; None if the batch is not of that form."""
    parts = list(batch.values()) if isinstance(batch, Mapping) else batch
    if not _is_nested(parts) or not parts or not all(map(_is_nested, parts)):
        return None
    lengths = {len(part) for part in parts}
    return lengths.pop() if len(lengths) == 1 else None


def _shallowest(batch: Any) -> int | None:
    """Length of the tensor that lies outermost."""
    level = [batch]
    while level:
        for part in level:
            length = _length(part)
            if length is not None:
                return length
        inner = [list(p.values()) if isinstance(p, Mapping) else p for p in level]
        level = [part for p in inner if isinstance(p, list | tuple) for part in p]
    return None


def to_device(batch: Any, device: str) -> Any:
    """Move the tensors of a batch to a device, and what can move itself; all keep their kinds."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if callable(getattr(batch, "to", None)):  # packed sequences, graphs, what a tokenizer returns
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        parts = [to_device(part, device) for part in batch]
        if isinstance(batch, list):
            return parts
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    return batch
