"""Which checkpoints a training writes, and which of them it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from itwinai.io.files import delete_folder
from itwinai.io.newest import NewestCheckpoint
from itwinai.torch.checkpoints.files import name_of


class CheckpointPolicy(Protocol):
    """Says which checkpoints a training writes, and which it keeps."""

    newest: Path | None

    def due(self, epoch: int, improved: bool, last: bool) -> list[str]:
        """Names of the checkpoints to write after an epoch (counted from 0).

        Args:
            epoch: The epoch.
            improved: Whether its validation loss is the lowest so far.
            last: Whether the training ends with it, also where that is early.
        """
        ...

    def due_at_step(self, step: int) -> bool:
        """Whether one is due in the middle of an epoch, after so many steps of the training."""
        ...

    def written(self, path: Path) -> None:
        """Hear that a checkpoint is complete."""
        ...

    def recorded(self) -> None:
        """Hear that the study's record knows the newest one."""
        ...


class KeepEvery:
    """Of a training alone: one every so many epochs, or steps, and ``best_model``.

    Args:
        every: Epochs between two checkpoints; None writes only the best model.
        last: How many of the newest to keep, ``best_model`` aside; None: all.
        final: Whether there is always one after the last epoch.
        steps: Optimizer steps between two checkpoints in the middle of epochs; None: there are
            none.
    """

    def __init__(
        self,
        every: int | None,
        last: int | None = None,
        final: bool = False,
        steps: int | None = None,
    ) -> None:
        self._every = every
        self._steps = steps
        self._last = last
        self._final = final
        self._epochs: list[Path] = []
        self.newest: Path | None = None

    def due(self, epoch: int, improved: bool, last: bool) -> list[str]:
        """The epoch's own, where it is its turn, and the best."""
        regular = bool(self._every) and (epoch + 1) % (self._every or 1) == 0
        regular = regular or (self._final and last)
        return ([name_of(epoch)] if regular else []) + (["best_model"] if improved else [])

    def due_at_step(self, step: int) -> bool:
        """Whether it is the turn of one."""
        return self._steps is not None and step % self._steps == 0

    def written(self, path: Path) -> None:
        """Remember the newest, and delete the oldest of those that are too many."""
        self.newest = path
        if not path.name.startswith("epoch_"):
            return
        self._epochs = [*(known for known in self._epochs if known != path), path]
        while self._last is not None and len(self._epochs) > self._last:
            oldest = self._epochs.pop(0)
            delete_folder(oldest, within=oldest.parent)

    def recorded(self) -> None:
        """Do nothing: there is no study."""


class KeepNewest(NewestCheckpoint):
    """Of a trial: one checkpoint, which the next one replaces once that is on record.

    Args:
        every: Epochs between two checkpoints; the study's record follows the last one. The last
            epoch always has one, also where the training ends early.
        previous: The checkpoint that the trial continues from.
        folder: The trial's; a checkpoint that lies elsewhere stays.
        steps: Optimizer steps between two checkpoints in the middle of epochs; None: there are
            none.
    """

    def __init__(
        self,
        every: int | None,
        previous: Path | None,
        folder: Path,
        steps: int | None = None,
    ) -> None:
        super().__init__(folder)
        self._every = every or 1
        self._steps = steps
        if previous is not None:
            self.continues(previous)

    def due(self, epoch: int, improved: bool, last: bool) -> list[str]:
        """The epoch's own, where it is its turn."""
        return [name_of(epoch)] if last or (epoch + 1) % self._every == 0 else []

    def due_at_step(self, step: int) -> bool:
        """Whether it is the turn of one."""
        return self._steps is not None and step % self._steps == 0
