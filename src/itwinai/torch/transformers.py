"""A ``Trainer`` of Transformers that reports to a trial of a study."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch.distributed as dist

import itwinai
from itwinai.errors import CheckpointError, MissingPackageError
from itwinai.reporting import TrialStopped
from itwinai.torch.reproducibility import random_state, set_random_state

try:
    from transformers import TrainerCallback, TrainerState
    from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
except ImportError as error:
    raise MissingPackageError(
        f"a study of a Trainer needs transformers ({error}): pip install 'itwinai[transformers]'"
    ) from error

#: Metrics of an evaluation that tell of the machine, not of the model.
_OF_THE_MACHINE = ("_runtime", "_per_second")


class Reported(Protocol):
    """What the callback needs of an :class:`itwinai.hpo.Trial`."""

    @property
    def folder(self) -> Path:
        """The trial's own folder."""
        ...

    @property
    def total(self) -> int:
        """Epochs of a full training, as the study counts them."""
        ...

    @property
    def rank(self) -> int:
        """Number of this process among those of the trial."""
        ...

    def load(self) -> Any:
        """What the newest checkpoint holds, or None."""
        ...

    def report(
        self,
        metrics: Mapping[str, float],
        checkpoint: Any = None,
        *,
        epoch: float | None = None,
        step: int | None = None,
    ) -> None:
        """Report an epoch, or a part of one; ends the training where the study says so."""
        ...


class TrialCallback(TrainerCallback):  # type: ignore[misc]
    """Reports each evaluation of a ``Trainer``, and keeps its checkpoints as those of the trial.

    Of the epochs that the study counts, the last one ends with the training: whether they are
    epochs of the data or evaluations, a report is at its share of the training's steps. Where the
    trainer saves at the same steps (``save_strategy`` like ``eval_strategy``), the report takes the
    files of the checkpoint along, and the trainer's own folder is deleted.

    Args:
        trial: What the function got.

    Raises:
        CheckpointError: If the trial goes on from a checkpoint that is none of a ``Trainer``.

    Example:
        >>> callback = TrialCallback(trial)  # doctest: +SKIP
        >>> trainer = Trainer(model, arguments, callbacks=[callback])  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=callback.checkpoint)  # doctest: +SKIP
    """

    def __init__(self, trial: Reported) -> None:
        self._trial = trial
        self._training = False
        #: Steps made before this attempt.
        self._before = 0
        self._metrics: dict[str, float] | None = None
        state = random_state()
        kept = trial.load()
        set_random_state(state)  # so that model and data are made as they were at first
        #: A folder to go on from, for ``resume_from_checkpoint``; None where the trial begins.
        self.checkpoint: Path | None = None
        if kept is not None:
            folder = trial.folder / f"resumed-{trial.rank}"
            self.checkpoint = folder if _write_files(folder, kept) else None

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let other callbacks, such as one that stops early, go on where they were."""
        args.restore_callback_states_from_checkpoint |= self.checkpoint is not None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """From now on evaluations are those of the study.

        Raises:
            TrialStopped: If the training had ended at the checkpoint.
        """
        self._training, self._before = True, state.global_step
        if self.checkpoint is None:
            return
        if state.global_step >= state.max_steps or _was_ended(self.checkpoint):
            shutil.rmtree(self.checkpoint)
            raise TrialStopped

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **kwargs: Any
    ) -> None:
        """Keep the metrics, beside those of other sets that are evaluated at this step."""
        if not self._training or state.global_step == self._before:
            return
        self._metrics = (self._metrics or {}) | {
            name: value
            for name, value in metrics.items()
            if name != "epoch" and not name.endswith(_OF_THE_MACHINE)
        }

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the evaluation of this step with its checkpoint."""
        if self._metrics is None:
            return
        if dist.is_initialized():
            dist.barrier()  # each rank has written its random numbers
        kept = None
        if self._trial.rank == 0:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            kept = _read_files(folder)
            shutil.rmtree(folder)
        self._report(state, kept)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report what was evaluated after the step before, where no checkpoint was written."""
        if self._metrics is not None:
            self._report(state, None)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report what was evaluated last; an evaluation after this is none of the study's."""
        self._training = False
        if self._metrics is not None:
            self._report(state, None)

    def _report(self, state: Any, checkpoint: dict[str, Any] | None) -> None:
        if self.checkpoint is not None:
            shutil.rmtree(self.checkpoint)
            self.checkpoint = None
        metrics, self._metrics = self._metrics, None
        step = state.global_step
        epoch = self._trial.total * step / state.max_steps
        self._trial.report(metrics or {}, checkpoint, epoch=epoch, step=step)


def _read_files(folder: Path) -> dict[str, Any]:
    """The files of a checkpoint as arrays of bytes, but for the one that only code can load."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): np.fromfile(path, np.uint8)
        for path in files
        if path.name != TRAINING_ARGS_NAME
    }


def _was_ended(checkpoint: Path) -> bool:
    """Whether a callback had ended the training at a checkpoint, before its last step."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    control = state.stateful_callbacks.get("TrainerControl", {})
    asked: bool = control.get("args", {}).get("should_training_stop", False)
    return asked and state.global_step < state.max_steps


def _write_files(folder: Path, files: Any) -> bool:
    """Write the files of a checkpoint; return whether a training can go on from them."""
    known = isinstance(files, Mapping) and all(isinstance(f, np.ndarray) for f in files.values())
    if not known:
        raise CheckpointError(f"{folder.parent}: its checkpoint holds no files of a Trainer")
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        if ".." in path.parts or not path.is_relative_to(folder):
            raise CheckpointError(f"{folder.parent}: its checkpoint names a file elsewhere: {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        content.tofile(path)
    if any(path.name.startswith("rng_state") for path in folder.iterdir()):
        return True
    shutil.rmtree(folder)
    itwinai.logger.warning(
        "warning: %s: its checkpoint holds the model alone (save_only_model), so the trial begins "
        "again",
        folder.parent,
    )
    return False
