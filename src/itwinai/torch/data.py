"""Data loaders whose epochs are exact over several processes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.data.distributed import DistributedSampler


class ExactSampler(DistributedSampler[Any]):
    """Deals a data set out to ranks, counting no sample twice.

    PyTorch's own sampler repeats samples until all ranks have the same number. Here a rank may get
    one sample less. Only where a rank's last batch would be empty it gets one repeated sample, so
    that all ranks do the same number of steps; that batch has weight 0 (see :func:`batch_share`).

    The k-th batches of all ranks together are the k-th batch of a single process whose batch is as
    large as theirs together.

    Args:
        dataset: Anything with a length.
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
        self.total = len(dataset)

    def __iter__(self) -> Iterator[int]:
        order = self._order()
        own = order[self.rank :: self.num_replicas]
        # One more than there are means that the last batch would be empty: repeat a sample.
        return iter((own + order[:1])[: len(self)])

    def __len__(self) -> int:
        if self.drop_incomplete:
            return self._steps() * self.batch_size
        own = len(range(self.rank, self.total, self.num_replicas))
        return own + int(math.ceil(own / self.batch_size) < self._steps())

    def share(self, batch_idx: int, window: int = 1) -> float:
        """Weight of a batch of this rank, relative to the mean of all ranks' batches of one step.

        1 for a full batch that makes a step alone. The mean over ranks of gradients weighted so,
        summed over the batches of a step, is the gradient of the mean over all its samples.

        Args:
            batch_idx: Number of the batch.
            window: Batches whose gradients make one step.
        """
        together = self.batch_size * self.num_replicas
        total = self._steps() * together if self.drop_incomplete else self.total
        first = (batch_idx - batch_idx % window) * together
        if first + window * together <= total:
            return 1 / window
        before = batch_idx * together
        own = min(len(range(before + self.rank, total, self.num_replicas)), self.batch_size)
        return own * self.num_replicas / (total - first)

    def _order(self) -> list[int]:
        if not self.shuffle:
            return list(range(self.total))
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return cast("list[int]", torch.randperm(self.total, generator=generator).tolist())

    def _steps(self) -> int:
        together = self.batch_size * self.num_replicas
        return self.total // together if self.drop_incomplete else math.ceil(self.total / together)


def batch_share(loader: DataLoader[Any], batch_idx: int, window: int = 1) -> float:
    """Weight of a loader's batch in the mean over ranks and over the batches of a step.

    Where the loader is not one of ours, each batch of a step weighs the same.
    """
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, ExactSampler):
        return sampler.share(batch_idx, window)
    if window == 1:
        return 1.0
    length = length_of(loader)
    first = batch_idx - batch_idx % window
    return 1 / (window if length is None else min(window, length - first))


def length_of(loader: Any) -> int | None:
    """Batches of a loader; None where it does not know."""
    try:
        return len(loader)
    except TypeError:
        return None


def with_last(loader: Any, window: int) -> Iterator[tuple[Any, bool]]:
    """Pair each batch with whether it is the last one of an optimizer step.

    Args:
        loader: Yields batches.
        window: Batches of a step; the last step of an epoch may have fewer.
    """
    length = length_of(loader)
    if window == 1 or length is not None:
        for index, batch in enumerate(loader):
            yield batch, (index + 1) % window == 0 or index + 1 == length
        return
    batches = iter(loader)
    ahead = next(batches, _END)
    index = 0
    while ahead is not _END:
        batch, ahead, index = ahead, next(batches, _END), index + 1
        yield batch, index % window == 0 or ahead is _END


_END = object()


def set_epoch(loader: DataLoader[Any] | None, epoch: int) -> None:
    """Tell a loader's sampler and data set the epoch, if they want to know."""
    for part in ("sampler", "batch_sampler", "dataset"):
        holder = getattr(loader, part, None)
        hook = getattr(holder, "set_epoch", None)
        if hook is not None:
            hook(epoch)


class RankShare(IterableDataset[Any]):
    """Every n-th sample of a data set that can only be read from front to back.

    Each rank reads on its own and skips the others' samples. All ranks get the same number: fewer
    samples than there are ranks are left out at the end.

    Args:
        dataset: The data set, which must give the same samples in the same order on all ranks.
            As everywhere in PyTorch, it deals itself out to the loading processes of one rank.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, dataset: IterableDataset[Any], rank: int, world_size: int) -> None:
        self.dataset = dataset
        self._rank = rank
        self._world_size = world_size

    def __iter__(self) -> Iterator[Any]:
        turn: list[Any] = []
        for sample in self.dataset:
            turn.append(sample)
            if len(turn) == self._world_size:
                yield turn[self._rank]
                turn.clear()

    def set_epoch(self, epoch: int) -> None:
        """Tell the data set the epoch, if it wants to know."""
        hook = getattr(self.dataset, "set_epoch", None)
        if hook is not None:
            hook(epoch)


def is_iterable(dataset: Any) -> bool:
    """Whether a data set can only be read from front to back."""
    return isinstance(dataset, IterableDataset)


def samples_in(batch: Any) -> int:
    """Number of samples of a batch: the length of the first tensor in it.

    Raises:
        TypeError: If there is no tensor in it.
    """
    if isinstance(batch, torch.Tensor):
        return len(batch)
    if isinstance(batch, (list, tuple, dict)):
        for part in batch.values() if isinstance(batch, dict) else batch:
            if isinstance(part, (torch.Tensor, list, tuple, dict)):
                return samples_in(part)
    raise TypeError(
        f"cannot count the samples of a batch of type {type(batch).__name__}: "
        "there is no tensor in it"
    )


def to_device(batch: Any, device: str) -> Any:
    """Move the tensors of a batch to a device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return [to_device(part, device) for part in batch]
    return batch
