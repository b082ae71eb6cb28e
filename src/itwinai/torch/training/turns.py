"""The turns of an epoch: each batch with its weight in an optimizer step.

The gradient of a step is that of the mean over all its terms, on whatever rank and in whichever of
the accumulated batches they are. Where all samples count alike, a batch's weight follows from the
sampler. Where they do not (targets that the loss ignores, sequences of various lengths, streams
that give one rank more than another), the ranks tell each other how many terms their coming batches
have: before the forward pass, because gradients in parts cannot be weighed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import default_collate, default_convert

from itwinai.errors import ConfigurationError
from itwinai.torch.data import ExactSampler, batch_share, tensors_in
from itwinai.torch.strategies.base import Communicator
from itwinai.torch.streams import rest_given
from itwinai.torch.training.hooks import sample_count

#: Batches that the ranks tell each other about at once, at first and at most: each message costs
#: time. Twice as many are loaded ahead, so it is fewer of large batches, up to so many bytes.
_FIRST, _MOST, _BYTES = 4, 16, 64 * 2**20


class Turn(NamedTuple):
    """The place of a batch in its optimizer step.

    Attributes:
        share: Weight of its loss; 1 for a full batch that makes a step alone.
        is_last: Whether the step is made after it.
        samples: Samples in it.
        terms: What its loss is a mean over.
        repeats: Whether it only stands in for a batch that this rank has not.
    """

    share: float = 1.0
    is_last: bool = True
    samples: int = 1
    terms: float = 1.0
    repeats: bool = False


@dataclass(frozen=True)
class Counting:
    """How the batches of a training count.

    Attributes:
        samples: Says how many samples are in a batch.
        terms: Says what a batch's loss is a mean over.
        varies: Whether that can differ between batches of equal size.
    """

    samples: Callable[[Any], int]
    terms: Callable[[Any], float]
    varies: bool

    def turn(self, batch: Any, share: float, is_last: bool) -> Turn:
        """The turn of a batch whose place is known."""
        samples = sample_count(self.samples(batch))
        return Turn(share, is_last, samples, self.terms(batch), repeats=share == 0)


def take_turns(
    loader: Any, window: int, counting: Counting, ranks: Communicator, weighs: bool = True
) -> Iterator[tuple[Any, Turn]]:
    """Give each batch of an epoch with its turn; on every rank the same number of them.

    Args:
        loader: Yields this rank's batches.
        window: Batches of a step; the last step of an epoch may have fewer.
        counting: How they count.
        ranks: Who else takes turns.
        weighs: Whether the batches make steps; otherwise they are evaluated, and only as many as
            the other ranks have.

    Raises:
        ConfigurationError: If one rank has no batch at all, and another one has.
    """
    exact = isinstance(getattr(loader, "sampler", None), ExactSampler)
    together = ranks.global_world_size() > 1 or window > 1
    if together and (not exact or (weighs and counting.varies)):
        return _told(loader, window, counting, ranks)
    return _known(loader, window, counting)


def _known(loader: Any, window: int, counting: Counting) -> Iterator[tuple[Any, Turn]]:
    """Turns that follow from the loader alone."""
    for index, batch in enumerate(loader):
        is_last = window == 1 or (index + 1) % window == 0 or index + 1 == len(loader)
        yield batch, counting.turn(batch, batch_share(loader, index, window), is_last)


def _told(
    loader: Any, window: int, counting: Counting, ranks: Communicator
) -> Iterator[tuple[Any, Turn]]:
    """Turns that the ranks tell each other, those of some batches while they train on others."""
    batches, size = _counted(loader, counting), _whole_steps(_FIRST, window)
    coming = _Stretch(list(islice(batches, size)), size, window, ranks)
    coming.check_begin()
    stand_in = None
    while coming.length:
        stretch, size = coming, coming.size_of_next
        coming = _Stretch(list(islice(batches, size)), size, window, ranks)
        stand_in = stretch.own[-1] if stretch.own else stand_in
        yield from stretch.turns(stand_in)


def _counted(loader: Any, counting: Counting) -> Iterator[tuple[Any, Turn]]:
    """This rank's batches, with what they count."""
    with rest_given(loader):
        for index, batch in enumerate(loader):
            turn = counting.turn(batch, batch_share(loader, index), is_last=False)
            yield batch, turn._replace(terms=0.0) if turn.repeats else turn


def _whole_steps(batches: float, window: int) -> int:
    return window * max(1, int(batches) // window)


def _fitting(batches: Sequence[tuple[Any, Turn]]) -> int:
    """How many batches such as these are few bytes."""
    sizes = (sum(part.nbytes for part in tensors_in(batch)) for batch, _ in batches)
    return min(max(_FIRST, _BYTES // max([1, *sizes])), _MOST)


class _Stretch:
    """Some coming batches of all ranks: one step, or several.

    Args:
        own: This rank's, with what they count.
        size: At most how many.
        window: Batches of a step.
        ranks: Who has the others.
    """

    def __init__(
        self, own: Sequence[tuple[Any, Turn]], size: int, window: int, ranks: Communicator
    ) -> None:
        self.own = own
        self._size, self._window, self._ranks = size, window, ranks
        here = [float(place < len(own)) for place in range(size)]
        terms = [
            sum(turn.terms for _, turn in own[first : first + window])
            for first in range(0, size, window)
        ]
        told = torch.tensor([*here, *terms, _fitting(own)], dtype=torch.float64)
        self._sums = ranks.begin_sum(told)

    @cached_property
    def _totals(self) -> list[float]:
        totals: list[float] = self._sums().tolist()
        return totals

    @property
    def length(self) -> int:
        """Batches of the rank that has most."""
        return sum(ranks > 0 for ranks in self._totals[: self._size])

    @property
    def size_of_next(self) -> int:
        """Batches of the next stretch: as many as fit, on average over the ranks."""
        return _whole_steps(self._totals[-1] / self._ranks.global_world_size(), self._window)

    def check_begin(self) -> None:
        """Refuse an epoch in which one rank has no batch at all, and another one has."""
        if self.length and self._totals[0] < self._ranks.global_world_size():
            there = self._ranks.allgather_obj(bool(self.own))
            raise ConfigurationError(
                f"rank {there.index(False)} has no batch, and rank {there.index(True)} has: deal "
                "the data out so that each rank gets one"
            )

    def turns(self, stand_in: tuple[Any, Turn] | None) -> Iterator[tuple[Any, Turn]]:
        """As many turns as the rank has that has most.

        Args:
            stand_in: This rank's last batch so far, which stands in for those that it lacks.
        """
        own = list(self.own)
        if stand_in is not None:
            batch, turn = stand_in
            repeated = batch, turn._replace(terms=0.0, repeats=True)
            own += [repeated] * (self.length - len(own))
        for place, (batch, turn) in enumerate(own):
            is_last = (place + 1) % self._window == 0 or place + 1 == self.length
            total = self._totals[self._size + place // self._window]
            share = turn.terms * self._ranks.global_world_size() / total if total else 0.0
            yield batch, turn._replace(share=share, is_last=is_last)


def collates_itself(loader: Any) -> bool:
    """Whether a function of the user's own makes its batches, which may leave samples out."""
    return getattr(loader, "collate_fn", None) not in (None, default_collate, default_convert)


def counts_targets(loss: Any) -> bool:
    """Whether a loss is a mean over those targets that it does not ignore, or weighs them."""
    return isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) and loss.reduction == "mean"


def counted_targets(loss: Any, batch: Any) -> float | None:
    """What a loss of that kind averages over in a batch of inputs and classes.

    Returns:
        The number of targets that are not ignored, or the sum of their classes' weights; None
        where the batch is another one.
    """
    target = batch[1] if isinstance(batch, list | tuple) and len(batch) == 2 else None
    if not isinstance(target, torch.Tensor) or target.is_floating_point():
        return None
    counted = target != loss.ignore_index
    if loss.weight is None:
        return float(counted.count_nonzero())
    return float(loss.weight[target[counted].to(loss.weight.device)].sum())
