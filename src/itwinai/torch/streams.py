"""Data sets that can only be read from front to back, dealt out to several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from itwinai.torch.data import EpochCount
from itwinai.torch.reproducibility import RandomStream


class RankShare(IterableDataset[Any]):
    """Every n-th sample of a data set that can only be read from front to back.

    Each rank reads on its own and skips the others' samples. All ranks get the same number, as a
    loop over the loader needs whose ranks meet in each step: fewer samples than there are ranks are
    left out at the end. Within :func:`rest_given` the first ranks get these, one each.

    All ranks read with the same random numbers, those of a seed and the epoch, so that a data set
    that shuffles itself by the global ones has one order. A loop of your own says the epoch by
    :func:`itwinai.torch.data.set_epoch`, or loading processes begin each with the same ones.

    Args:
        dataset: The data set, which must give the same samples in the same order on all ranks,
            as far as that does not follow from global random numbers.
        rank: This process.
        world_size: Number of processes.
        seed: Of the random numbers with which it is read; the same on all ranks.
        drop_last: Whether a last, smaller batch is left out, so that the rest always is.
    """

    def __init__(
        self,
        dataset: IterableDataset[Any],
        rank: int,
        world_size: int,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.dataset = dataset
        self._rank = rank
        self._world_size = world_size
        self._seed = seed
        self._drop_last = drop_last
        self.gives_rest = False
        self.epochs = EpochCount()
        #: With which the running pass reads on, and the state that the coming one begins with.
        self.stream: RandomStream | None = None
        self._begin: Any = None

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        seeds = self._seed, self.epochs.begin(), 0 if worker is None else worker.id
        stream = self.stream = RandomStream(*seeds)
        stream.state, self._begin = self._begin, None
        drawn: Callable[[], Any] = stream.drawn
        if worker is not None:  # a process that does nothing else
            stream.take_over()
            drawn = nullcontext
        with drawn():
            samples = iter(self.dataset)
        while turn := self._next_turn(samples, drawn):
            if len(turn) == self._world_size:
                yield turn[self._rank]
            elif self.gives_rest and not self._drop_last:
                yield from turn[self._rank : self._rank + 1]

    def set_epoch(self, epoch: int) -> None:
        """Hear the epoch, and tell it to the data set, if it wants to know."""
        self.epochs.say(epoch)
        hook = getattr(self.dataset, "set_epoch", None)
        if hook is not None:
            hook(epoch)

    def begin_with(self, state: Any, passes: int) -> None:
        """Let the coming pass be one that was broken off.

        Args:
            state: Of the random numbers that it was read with; None: it begins with new ones.
            passes: Epochs that were begun, this one included, if nobody has said which it is.
        """
        self._begin = state
        self.epochs.passes = max(passes - 1, 0)

    def _next_turn(self, samples: Iterator[Any], drawn: Callable[[], Any]) -> list[Any]:
        """A sample for each rank; fewer at the end."""
        with drawn():
            return list(islice(samples, self._world_size))


@contextmanager
def rest_given(data: Any) -> Iterator[None]:
    """Let a loader give all samples of a data set that is dealt out from front to back.

    Args:
        data: A loader, or what has one's ``dataset``; its last batches are uneven over the ranks.
    """
    share = getattr(data, "dataset", None)
    if not isinstance(share, RankShare):
        yield
        return
    share.gives_rest = True
    try:
        yield
    finally:
        share.gives_rest = False


def undealt(dataset: Any) -> Any:
    """The data set itself, whether or not it is dealt out to ranks."""
    return dataset.dataset if isinstance(dataset, RankShare) else dataset
