"""How far a training has come in its running epoch, for a checkpoint in the middle of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from itwinai.errors import CheckpointError
from itwinai.torch.metrics import EpochMetrics
from itwinai.torch.reproducibility import random_state, set_random_state
from itwinai.torch.training.source import (
    Source,
    generator_states,
    keeps_processes,
    set_generators,
    source_of,
)

#: The most of an epoch that its middle holds; a record keeps millionths.
_BEFORE_END = 1 - 1e-6


class NanWatch:
    """Notes the first step whose loss is not a number, without waiting for a GPU.

    Args:
        first: The step, if there was one before a checkpoint.
    """

    def __init__(self, first: int | None = None) -> None:
        self._first: int | torch.Tensor = first or 0

    def see(self, loss: Any, step: int) -> None:
        """Look at the loss of a step, counted from 1."""
        if loss is None:
            return
        loss = loss.detach() if isinstance(loss, torch.Tensor) else loss
        if isinstance(loss, torch.Tensor) and not loss.is_cpu:
            first = torch.as_tensor(self._first, device=loss.device)
            self._first = torch.where(loss.isnan() & (first == 0), step, first)
        elif self._first == 0 and math.isnan(float(loss)):
            self._first = step

    @property
    def first(self) -> int | None:
        """The step; None if there was none."""
        return int(self._first) or None


class Position:
    """Where this rank stands between the begin of an epoch's training data and its end."""

    def __init__(self) -> None:
        #: Batches of the running epoch, and optimizer steps made of them.
        self.batches = self.steps = 0
        #: Batches that are left of an epoch to go on in, where that is known.
        self.left: int | None = None
        #: Whether the checkpoint that is being written is one in the middle of the epoch.
        self.is_saved = False
        #: Batches and steps of each stage at the place, if it is evaluated again from there on.
        self.counters: dict[str, int] | None = None
        #: Whether a batch is being trained on.
        self.is_in_batch = False
        self.nan_watch = NanWatch()
        self._source = Source(())
        self._metrics: EpochMetrics | None = None
        #: Random numbers of this rank when the epoch's data began.
        self._random: Mapping[str, Any] | None = None
        #: Batches of the whole epoch, where that is known.
        self._whole: int | None = None
        self._resumed: _Resumed | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is an epoch to go on in that nothing has gone on with."""
        return self._resumed is not None

    @property
    def was_at_end(self) -> bool:
        """Whether the checkpoint that the epoch goes on from had left nothing of it to train on."""
        return self.batches > 0 and self._source.taken == 0

    @property
    def keeps_place(self) -> bool:
        """Whether a training could go on where this one stands."""
        return self._source.keeps_place

    @property
    def share(self) -> float | None:
        """The part of the epoch's data that this rank has had; None where nobody knows."""
        return self.batches / self._whole if self._whole else None

    def epochs_after(self, reported: float) -> float | None:
        """Epochs that a checkpoint of this place holds; None of one at the end of an epoch.

        Args:
            reported: Epochs of the last report.
        """
        # After its last step an epoch is not over yet: it is validated and reported after it.
        share = min(self.share or 0.0, _BEFORE_END)
        return math.floor(reported) + share if self.is_saved else None

    def begin_epoch(self) -> None:
        """Stand at the begin of an epoch, unless there is one to go on in."""
        self.is_in_batch = False
        if not self.is_open:
            self.batches = self.steps = 0

    def begin(
        self, loader: Any, of_loaders: torch.Generator, metrics: EpochMetrics | None = None
    ) -> Source:
        """Begin the training data of an epoch, or go on in the middle of them.

        Args:
            loader: The training set's.
            of_loaders: Random numbers of the loaders.
            metrics: Where the epoch is added up.
        """
        self._source, self._metrics = source_of(loader), metrics
        resumed, self._resumed = self._resumed, None
        if metrics is not None:
            metrics.load_state_dicts([] if resumed is None else resumed.metrics)
        if resumed is None:
            self.batches = self.steps = 0
            self.nan_watch = NanWatch()
            self._random = {
                **random_state(),
                "loader": of_loaders.get_state(),
                "generators": generator_states(loader, of_loaders),
            }
        else:
            self._random = resumed.begin
            resumed.rewind(loader, of_loaders)
            resumed.replay(self._source, loader, of_loaders)
        left = self._source.left(self.batches)
        self._whole = None if left is None else self.batches + left
        return self._source

    def took_batch(self, ends_step: bool) -> None:
        """Hear that a batch was trained on, and whether an optimizer step ended with it."""
        self.is_in_batch = False
        self.batches += 1
        self._source.taken += 1
        self.steps += ends_step

    def state(self) -> dict[str, Any]:
        """What this rank must know to go on here, as plain values and tensors."""
        return {
            "batches": self.batches,
            "steps": self.steps,
            "place": self._source.place(),
            "begin": self._random,
            "metrics": None if self._metrics is None else self._metrics.state_dict(),
            "first_nan": self.nan_watch.first,
        }

    def resume(
        self, ranks: Sequence[Mapping[str, Any]], rank: int, size: int, loader: Any, epoch: int
    ) -> None:
        """Go on in the middle of the epoch that begins next.

        Args:
            ranks: Of each rank that there was, its random numbers and, under ``position``, what
                :meth:`state` returned.
            rank: This process.
            size: Number of processes.
            loader: The training set's.
            epoch: Which epoch that is, from 0.

        Raises:
            CheckpointError: If the checkpoint was written with other data, or by another number of
                processes of which each alone knew its data.
        """
        source = source_of(loader)
        if len(ranks) != size and source.is_of_ranks:
            raise CheckpointError(
                f"the checkpoint was written in the middle of an epoch by {len(ranks)} processes, "
                f"each of which alone knew its part of the data. Start {len(ranks)} of them, or go "
                "on from a checkpoint at the end of an epoch."
            )
        self._resumed = _Resumed.of(ranks, rank, size, epoch)
        state = self._resumed.state
        self.batches, self.steps = state["batches"], state["steps"]
        self.nan_watch = NanWatch(state["first_nan"])
        source.go_to(state["place"], _nothing, _nothing)
        self.left = source.left(self.batches)


@dataclass(frozen=True)
class _Resumed:
    """The middle of an epoch, as a checkpoint tells it.

    Attributes:
        state: Of this rank, or of rank 0 where the number of ranks has changed.
        metrics: What this rank goes on adding up.
        begin: This rank's random numbers when the epoch's data began; None of a new rank.
        now: Its random numbers at the checkpoint.
        epoch: Which epoch it is, from 0.
    """

    state: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    begin: Mapping[str, Any] | None
    now: Mapping[str, Any]
    epoch: int

    @classmethod
    def of(cls, ranks: Sequence[Mapping[str, Any]], rank: int, size: int, epoch: int) -> _Resumed:
        states = [one["position"] for one in ranks]
        own = rank if len(ranks) == size else 0
        mine = states[rank : rank + 1] if len(ranks) == size else states if rank == 0 else []
        known = rank < len(ranks)
        return cls(
            state=states[own],
            metrics=[state["metrics"] for state in mine if state["metrics"] is not None],
            begin=states[rank]["begin"] if known else None,
            now=ranks[rank] if known else {},
            epoch=epoch,
        )

    def rewind(self, loader: Any, of_loaders: torch.Generator) -> None:
        """Put all that the epoch's order is drawn from back to where it was at the begin."""
        if self.begin is not None:
            set_random_state(self.begin)
            of_loaders.set_state(self.begin["loader"])
            set_generators(loader, self.begin.get("generators", {}))

    def replay(self, source: Source, loader: Any, of_loaders: torch.Generator) -> None:
        """Let a source go to the place, and random numbers then to where they were there."""
        known = self.begin is not None

        def begin() -> None:
            # The epoch drew no seed for its processes, which were there, and its rest does.
            if self.epoch > 0 and keeps_processes(loader):
                self.rewind(loader, of_loaders)

        def settle() -> None:
            if known:
                set_random_state(self.now)

        source.go_to(self.state["place"], begin, settle)


def _nothing() -> None:
    pass
