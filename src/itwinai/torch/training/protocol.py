"""What the loops, the reports and the checkpoints ask of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from itwinai.loggers import Logger, RunContext
from itwinai.reporting import Reporter
from itwinai.torch.checkpoints.keeping import CheckpointPolicy
from itwinai.torch.optimization.early_stopping import EarlyStopping
from itwinai.torch.optimization.step import Optimization
from itwinai.torch.strategies.watch import Whereabouts
from itwinai.torch.training.effects import Effects
from itwinai.torch.training.own_values import Change
from itwinai.torch.training.position import Position
from itwinai.torch.training.step_watch import StepWatch
from itwinai.torch.training.turns import Turn

Stage = Literal["train", "validation", "test"]

#: Training, validation and test set.
Datasets = tuple[Any, Any, Any]


#: A checkpoint that was read: its folder, the model's state, and the training's.
Restored = tuple[Path, dict[str, Any], dict[str, Any]]


class Built(Protocol):
    """What a training has built, and where it stands: all that a checkpoint holds."""

    model: Any
    optimizer: Optimizer
    lr_scheduler: LRScheduler | None
    optimization: Optimization
    early_stopping: EarlyStopping
    #: Whatever gives the batches of the training set.
    train_dataloader: Any
    strategy: Any
    config: Any
    #: The running epoch, from 0.
    current_epoch: int
    #: Its metrics: ``{stage}_loss`` and ``{stage}_{metric}``.
    epoch_metrics: dict[str, float]
    #: Batches of each stage so far.
    train_glob_step: int
    validation_glob_step: int
    test_glob_step: int
    #: Optimizer steps of all epochs so far.
    optimizer_steps: int
    #: How far it has come in the running epoch.
    position: Position
    torch_rng: torch.Generator
    random_seed: int | None
    #: The random numbers that it began with, if they follow from no seed of its own.
    first_random_state: dict[str, Any] | None
    #: The plain attributes of a subclass, before anything was trained or restored.
    first_values: dict[str, Any]
    #: The schedule, and where it stood when the epoch began.
    schedule_stood: tuple[Any, int | None]
    #: Names of the plain attributes that it had before ``train()``.
    values_built: frozenset[str]
    #: The plain attributes of a checkpoint: what each was first, and what it had become.
    saved_values: dict[str, Change]
    #: States of a checkpoint, of objects that are not there yet.
    unclaimed: dict[str, Any]
    #: What tells which samples each of its sets holds.
    samples: dict[str, tuple[str, str]]
    #: The settings of its optimizers and schedules, before anything was trained or restored.
    built: dict[str, Any]
    #: State of each rank, on rank 0, while a checkpoint of all ranks is written.
    random_states: list[Any]
    #: Identifies this training among those that save to the same place; None: alone.
    run_id: str | None
    #: Whether each rank writes its own part of a checkpoint.
    checkpoint_sharded: bool
    #: Which configured keys have an effect.
    effects: Effects
    #: Where this rank is, for the others to know.
    whereabouts: Whereabouts


class Training(Built, Protocol):
    """A training that the loop takes through its epochs."""

    #: Epochs in all.
    epochs: int
    #: The first step, from 1, of the running epoch whose loss was not a number, on this rank.
    first_nan: int | None
    validation_dataloader: Any
    #: Optimizer steps between two checkpoints in the middle of epochs; None: there are none.
    checkpoint_every_steps: int | None
    #: Seconds between two of them; None: not by the clock.
    checkpoint_every_seconds: float | None
    #: Optimizer steps between two evaluations in the middle of epochs; None: there are none.
    validate_every_steps: int | None
    #: Whether such an evaluation runs.
    is_within_epoch: bool
    #: Whether the mean was taken of a metric that is none.
    is_mean_doubtful: bool
    #: The stage of the epoch that runs.
    running_stage: Stage
    #: Hears between steps what a clock decides, where something may be heard.
    step_watch: StepWatch | None
    #: Epochs between two evaluations on the test set; None: never.
    test_every: int | None
    reports_test: bool
    #: The running ``torch.profiler.profile``, if the training is profiled.
    profiler: Any
    #: Place of the current batch in its optimizer step.
    turn: Turn
    logger: Logger | None
    #: Who hears the metrics of each epoch, and of evaluations in the middle of one.
    reporter: Reporter
    #: Epochs reported, those before a checkpoint that it continues included.
    reported: float
    #: Epochs that the newest checkpoint holds, if it is one in the middle of an epoch.
    saved_within: float | None
    #: Whether the seconds of each report are logged.
    time_ray: bool
    #: Which checkpoints are written, and kept.
    checkpoints: CheckpointPolicy
    #: What the validation loss must fall below to be the best: in the beginning, and now.
    initial_best_validation_metric: float
    best_validation_metric: float
    loss: Any

    def overrides(self, *hooks: str) -> bool:
        """Whether a subclass, or this object, has one of these hooks of its own."""
        ...

    def samples_in_batch(self, batch: Any) -> int:
        """Number of samples in a batch."""
        ...

    def terms_in_loss(self, batch: Any) -> float:
        """What the loss of a batch is a mean over."""
        ...

    def set_epoch(self) -> None:
        """Tell the loaders the current epoch."""
        ...

    def train_epoch(self) -> Any:
        """Train one epoch; return the mean loss."""
        ...

    def validation_epoch(self) -> Any:
        """Evaluate on the validation set; return the mean loss, or None."""
        ...

    def test_epoch(self) -> Any:
        """Evaluate on the test set; return the mean loss, or None."""
        ...

    def save_checkpoint(self, name: str) -> Path | None:
        """Write a checkpoint."""
        ...

    def log(
        self,
        item: Any,
        identifier: str,
        *,
        kind: str = "metric",
        step: int | None = None,
        batch_idx: int | None = None,
    ) -> None:
        """Log a value."""
        ...


class Trainable(Training, Protocol):
    """A training from its begin to its end."""

    #: Name of its logged run, and what that belongs to.
    run_name: str | None
    run_context: RunContext | None
    #: The logger while the training runs, such that its failures are only counted.
    open_logger: Logger | None
    #: What a checkpoint to continue from holds, until the training is built.
    restored: Restored | None
    checkpoints_location: str | Path
    #: The strategy as it was given, and as the object that was asked for.
    chosen_strategy: Any
    known_strategy: Any

    def load_checkpoint(self) -> None:
        """Read the checkpoint to continue from, if there is one."""
        ...

    def create_dataloaders(
        self, train_dataset: Any, validation_dataset: Any, test_dataset: Any
    ) -> None:
        """Make one loader per data set."""
        ...

    def create_model_loss_optimizer(self) -> None:
        """Build model, loss, optimizer and schedule."""
        ...

    def train(self) -> None:
        """Run the epochs."""
        ...
