"""The training of a model in this process: hooks that a subclass overrides, services that it calls.

Every method without underscore is one of the two. The parts themselves live in modules of their
own: epochs in ``loop``, batches in ``batches``, what the configuration builds in
``optimization.factories``, exact sums over ranks in ``metrics``, what a checkpoint holds in
``state``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset

from itwinai import job
from itwinai.components import Trainer, monitor_exec
from itwinai.config.values import name_of, truth_of
from itwinai.errors import ConfigurationError
from itwinai.loggers import Logger, LogMixin, RunContext
from itwinai.reporting import NullReporter, Reporter, TrialStopped
from itwinai.torch.checkpoints import files
from itwinai.torch.checkpoints.keeping import CheckpointPolicy, KeepEvery
from itwinai.torch.config import TrainingConfiguration, read_configuration
from itwinai.torch.data import (
    check_datasets,
    length_of,
    odd_lengths,
    samples_in,
    set_epoch,
    to_device,
)
from itwinai.torch.metrics import EpochMetrics, flatten, metrics_by_name, warn_of_means
from itwinai.torch.optimization.early_stopping import EarlyStopping
from itwinai.torch.optimization.factories import (
    ModelFactory,
    build_loss,
    build_lr_scheduler,
    build_model,
    build_optimizer,
    synchronised,
    warn_of_options_without_effect,
)
from itwinai.torch.optimization.schedules import Length
from itwinai.torch.optimization.step import Optimization
from itwinai.torch.profiling.profiler import profile_torch_trainer
from itwinai.torch.strategies import TorchDistributedStrategy, check_strategy, resolve_strategy
from itwinai.torch.strategies.watch import Whereabouts
from itwinai.torch.training import hooks, session, state
from itwinai.torch.training.agreement import agree_on_metrics
from itwinai.torch.training.arguments import (
    check_is_built,
    existing_checkpoint,
    number_above_0,
    optional_number,
    path_of,
    real_number,
    seconds_above_0,
    whole_number,
)
from itwinai.torch.training.effects import Effects
from itwinai.torch.training.loop import end_epoch, remaining_epochs, run_epochs
from itwinai.torch.training.names import check_config
from itwinai.torch.training.own_values import Change
from itwinai.torch.training.position import Position
from itwinai.torch.training.protocol import Datasets, Stage
from itwinai.torch.training.reporting import report_as_one
from itwinai.torch.training.stages import evaluate, remaining_batches, run_stage
from itwinai.torch.training.step_watch import StepWatch
from itwinai.torch.training.steps import check_saving
from itwinai.torch.training.turns import Turn, counted_targets, counts_targets
from itwinai.torch.type import Batch, Metrics


class LocalTrainer(Trainer, LogMixin):
    """Trains a PyTorch model in this process, alone or as one of several.

    Args:
        config: Hyper-parameters: a mapping, a :class:`TrainingConfiguration` or a subclass of it.
        epochs: Epochs to train, in total.
        model: A module, or a class or function that builds one from the configuration's keys of
            the same names as its parameters.
        strategy: ``ddp``, ``fsdp``, ``deepspeed``, a strategy object, or None for a single process.
            A name takes effect where several processes were started (torchrun, Slurm, a trial).
        test_every: Epochs between two evaluations on the test set; None: never.
        random_seed: Seed of all random numbers; None: not seeded.
        logger: Where metrics go.
        metrics: By name; torchmetrics objects, or functions ``metric(prediction, target)``. A
            ``MetricCollection`` may stand for all of them, or for one.
        checkpoints_location: Folder of the checkpoints.
        checkpoint_every: Epochs between two checkpoints; None writes ``best_model`` only.
        checkpoint_last: How many of the newest to keep, ``best_model`` aside; None: all.
        checkpoint_sharded: Whether each rank writes its own part of a checkpoint.
        from_checkpoint: Checkpoint folder to continue from, or a folder of them.
        initial_best_validation_metric: What the validation loss must fall below.
        name: Name in messages.
        run_name: Name of the logger's run.
        enable_torch_profiling: Whether ``train()`` is profiled by ``torch.profiler``.
        store_torch_profiling_traces: Whether the profiler's traces are kept.
        profiling_wait_epochs: First epochs that are not profiled.
        profiling_warmup_epochs: Epochs after those in which the profiler runs without recording.
        time_ray: Whether the seconds of each report to a study are logged.
        checkpoint_every_steps: Optimizer steps, over all epochs, between two checkpoints in the
            middle of epochs, ``epoch_<n>_step_<k>``; None: there are none.
        validate_every_steps: Optimizer steps between two evaluations on the validation set in the
            middle of epochs, whose results are logged as ``validation_<name>_step``, and reported
            to a study; None: there are none.
        checkpoint_every_seconds: Seconds after a checkpoint until the next one, which is written
            after a step, by a clock that is looked at once a second; None: there are none.

    Raises:
        ConfigurationError: For a wrong value in ``config``, or an unknown strategy.
        CheckpointError: If ``from_checkpoint`` does not exist.
    """

    model: Any
    loss: Any = None
    optimizer: Optimizer
    lr_scheduler: LRScheduler | None = None
    #: The strategy as it was given, and as the object that was asked for, if any was.
    chosen_strategy: str | TorchDistributedStrategy | None
    known_strategy: TorchDistributedStrategy | None
    optimization: Optimization
    #: Whatever gives the batches of the training set, anew in each epoch.
    train_dataloader: Any = None
    validation_dataloader: DataLoader[Any] | None = None
    test_dataloader: DataLoader[Any] | None = None
    torch_rng: torch.Generator
    #: The random numbers that it began with, if they follow from no seed of its own.
    first_random_state: dict[str, Any] | None
    #: The plain attributes of a subclass, before anything was trained or restored.
    first_values: dict[str, Any]
    #: What tells which samples each of its sets holds.
    samples: dict[str, tuple[str, str]]
    current_epoch = 0
    train_glob_step = validation_glob_step = test_glob_step = 0
    #: Optimizer steps of all epochs so far.
    optimizer_steps = 0
    #: Whether an evaluation in the middle of an epoch runs.
    is_within_epoch = False
    #: The stage of the epoch that runs.
    running_stage: Stage = "train"
    #: Hears between steps that the job ends, or that a checkpoint is due by the clock.
    step_watch: StepWatch | None = None
    #: Whether a batch's inputs and targets had different lengths.
    is_count_doubtful = False
    #: Whether the mean was taken of a metric that is none.
    is_mean_doubtful = False
    #: Whether predictions and targets had different shapes.
    is_loss_doubtful = False
    #: The schedule, and where it stood when the epoch began.
    schedule_stood: tuple[Any, int | None] = (None, None)
    #: The first step, from 1, of the running epoch whose loss was not a number, on this rank.
    first_nan: int | None = None
    #: Whether the metrics on the test set are reported, as no study may see them.
    reports_test = False
    #: Epochs reported, those before a checkpoint that it continues included.
    reported: float = 0
    #: Epochs that the newest checkpoint holds, if it is one in the middle of an epoch.
    saved_within: float | None = None
    #: The running ``torch.profiler.profile``, if the training is profiled.
    profiler: Any = None
    #: What its logged run belongs to, such as a study's.
    run_context: RunContext | None = None
    #: Identifies this training among those that save to the same place; None: alone.
    run_id: str | None = None
    #: The logger while a training runs, such that its failures are only counted.
    open_logger: Logger | None = None
    #: What a checkpoint to continue from holds, until the training is built.
    restored: tuple[Path, dict[str, Any], dict[str, Any]] | None = None

    def __init__(
        self,
        config: Mapping[str, Any] | TrainingConfiguration | None,
        epochs: int,
        *,
        model: nn.Module | ModelFactory | None = None,
        strategy: str | TorchDistributedStrategy | None = "ddp",
        test_every: int | None = None,
        random_seed: int | None = None,
        logger: Logger | None = None,
        metrics: Metrics | None = None,
        checkpoints_location: str | Path = "checkpoints",
        checkpoint_every: int | None = None,
        checkpoint_last: int | None = None,
        checkpoint_sharded: bool = False,
        from_checkpoint: str | Path | None = None,
        initial_best_validation_metric: float | str = "inf",
        name: str | None = None,
        run_name: str | None = None,
        enable_torch_profiling: bool = False,
        store_torch_profiling_traces: bool = False,
        profiling_wait_epochs: int = 0,
        profiling_warmup_epochs: int = 0,
        time_ray: bool = False,
        checkpoint_every_steps: int | None = None,
        validate_every_steps: int | None = None,
        checkpoint_every_seconds: float | None = None,
    ) -> None:
        super().__init__(name)
        self.save_parameters(**self.locals2params(locals()))
        self.strategy = strategy
        epochs = whole_number("epochs", epochs, range(1, 2**63))
        if random_seed is not None:
            random_seed = whole_number("random_seed", random_seed, range(2**32))
        self.from_checkpoint = existing_checkpoint(from_checkpoint)
        check_is_built("logger", logger, "_target_: itwinai.loggers.ConsoleLogger")
        if not self.overrides("create_model_loss_optimizer"):
            check_is_built("model", model, "_target_: module.Class and _partial_: true")
        self.config: Any = read_configuration(config)
        self.epochs = epochs
        self.model = model
        self.test_every = optional_number("test_every", test_every)
        self.random_seed = random_seed
        self.logger = logger
        self.metrics = metrics_by_name(metrics)
        warn_of_means(self.metrics)
        self.checkpoints_location: str | Path = str(
            path_of("checkpoints_location", checkpoints_location)
        )
        self.checkpoint_every = optional_number("checkpoint_every", checkpoint_every)
        self.checkpoint_last = number_above_0("checkpoint_last", checkpoint_last)
        self.checkpoint_sharded = truth_of("checkpoint_sharded", checkpoint_sharded)
        self.checkpoint_every_steps = number_above_0(
            "checkpoint_every_steps", checkpoint_every_steps
        )
        self.checkpoint_every_seconds = seconds_above_0(
            "checkpoint_every_seconds", checkpoint_every_seconds
        )
        self.validate_every_steps = number_above_0("validate_every_steps", validate_every_steps)
        self.initial_best_validation_metric = real_number(
            "initial_best_validation_metric", initial_best_validation_metric
        )
        self.best_validation_metric = self.initial_best_validation_metric
        self.run_name = name_of("run_name", run_name)
        self.enable_torch_profiling = truth_of("enable_torch_profiling", enable_torch_profiling)
        self.store_torch_profiling_traces = truth_of(
            "store_torch_profiling_traces", store_torch_profiling_traces
        )
        self.profiling_wait_epochs = whole_number(
            "profiling_wait_epochs", profiling_wait_epochs, range(2**63)
        )
        self.profiling_warmup_epochs = whole_number(
            "profiling_warmup_epochs", profiling_warmup_epochs, range(2**63)
        )
        self.time_ray = truth_of("time_ray", time_ray)
        #: Metrics of the current epoch: ``{stage}_loss`` and ``{stage}_{metric}``.
        self.epoch_metrics: dict[str, float] = {}
        self.reporter: Reporter = NullReporter()
        self.checkpoints: CheckpointPolicy = KeepEvery(
            self.checkpoint_every, self.checkpoint_last, steps=self.checkpoint_every_steps
        )
        #: Place of the current batch in its optimizer step.
        self.turn = Turn()
        #: How far the running epoch has come.
        self.position = Position()
        #: Where this rank is, for the others to know.
        self.whereabouts = Whereabouts()
        self.effects = Effects(self.config)
        self.early_stopping = EarlyStopping(None)
        #: State of each rank, on rank 0, while a checkpoint of all ranks is written.
        self.random_states: list[Any] = []
        #: Names of the plain attributes that it had before ``train()``.
        self.values_built: frozenset[str] = frozenset()
        #: The plain attributes of a checkpoint: what each was first, and what it had become.
        self.saved_values: dict[str, Change] = {}
        #: States of a checkpoint, of objects that are not there yet.
        self.unclaimed: dict[str, Any] = {}
        #: The settings of its optimizers and schedules, before anything was trained or restored.
        self.built: dict[str, Any] = {}
        self._stages: dict[str, EpochMetrics] = {}
        #: Names of the attributes so far; what a subclass adds is its own.
        self.names_configured = frozenset(vars(self))

    # -- hooks: what is built ------------------------------------------------------------------

    def create_model_loss_optimizer(self) -> None:
        """Build model, loss, optimizer and schedule, and hand them to the strategy."""
        if self.model is None:
            raise ConfigurationError(
                "model: the trainer has none. Pass model=..., or override "
                "create_model_loss_optimizer()."
            )
        model = build_model(self.model, self.config)
        if self.config.sync_batchnorm:
            model = synchronised(model, self.device)
        if self.config.torch_compile:
            model.compile()
        if self.strategy.is_main_worker and isinstance(self.reporter, NullReporter):
            warn_of_options_without_effect(self.config)
        self.loss = build_loss(self.config)
        optimizer = build_optimizer(model, self.config)
        self.effects.watch(optimizer)
        schedule = build_lr_scheduler(optimizer, self.config, self._length())
        self.model, self.optimizer, self.lr_scheduler = self.strategy.distributed(
            model, optimizer, schedule, **self._distributed_options()
        )

    def create_dataloaders(
        self,
        train_dataset: Dataset[Any],
        validation_dataset: Dataset[Any] | None = None,
        test_dataset: Dataset[Any] | None = None,
    ) -> None:
        """Make one loader per data set; each rank's is its own part of the data."""
        self.train_dataloader = self._loader(
            train_dataset, self.config.shuffle_train, drop_last=self.config.drop_last
        )
        if validation_dataset is not None:
            self.validation_dataloader = self._loader(
                validation_dataset, self.config.shuffle_validation
            )
        if test_dataset is not None:
            self.test_dataloader = self._loader(test_dataset, self.config.shuffle_test)

    def get_default_distributed_kwargs(self) -> dict[str, Any]:
        """Options for the strategy's ``distributed()``."""
        options: dict[str, Any] = self.strategy.default_options(self.config)
        return options

    # -- hooks: what happens -------------------------------------------------------------------

    @monitor_exec
    def execute(
        self,
        train_dataset: Any,
        validation_dataset: Any | None = None,
        test_dataset: Any | None = None,
    ) -> tuple[Any, Any, Any, Any]:
        """Train, and return the three data sets and the model."""
        datasets = (train_dataset, validation_dataset, test_dataset)
        check_datasets(*datasets)
        session.check_untrained(self)  # its model is built, which reads no config any more
        check_config(self)
        return *datasets, self._trained_model(datasets)

    @profile_torch_trainer
    def train(self) -> None:
        """Run the epochs; a subclass with a loop of its own reports with :meth:`ray_report`."""
        run_epochs(self)

    def set_epoch(self) -> None:
        """Tell the loaders the current epoch, so that each epoch has an order of its own."""
        for loader in (self.train_dataloader, self.validation_dataloader, self.test_dataloader):
            set_epoch(loader, self.current_epoch)

    def train_epoch(self) -> Any:
        """Train one epoch; return the mean loss over all samples and ranks."""
        self.model.train()
        loader = hooks.train_loader_of(self)
        return run_stage(self, "train", loader, self._stage_metrics("train"))

    def validation_epoch(self) -> Any:
        """Evaluate on the validation set; return the mean loss, or None without such a set."""
        return evaluate(
            self, "validation", self.validation_dataloader, self._stage_metrics("validation")
        )

    def test_epoch(self) -> Any:
        """Evaluate on the test set; return the mean loss, or None without such a set."""
        return evaluate(self, "test", self.test_dataloader, self._stage_metrics("test"))

    def train_step(self, batch: Batch, batch_idx: int) -> tuple[Any, dict[str, Any]]:
        """Train on one batch of inputs and targets; return its loss and metrics."""
        prediction, target, loss = self._forward(batch, "train_step")
        self.optimize(loss)
        metrics = self.compute_metrics(target, prediction, self.train_glob_step, batch_idx)
        return loss, hooks.dictionary("compute_metrics", metrics, "metrics")

    def validation_step(self, batch: Batch, batch_idx: int) -> tuple[Any, dict[str, Any]]:
        """Evaluate on one batch of inputs and targets; return its loss and metrics."""
        return self._evaluation_step(batch, self.validation_glob_step, batch_idx, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> tuple[Any, dict[str, Any]]:
        """Evaluate on one batch of inputs and targets; return its loss and metrics."""
        return self._evaluation_step(batch, self.test_glob_step, batch_idx, "test")

    def samples_in_batch(self, batch: Batch) -> int:
        """Count the samples of a batch.

        Where inputs and targets have other lengths, a warning says so once.

        Raises:
            TypeError: If they cannot be counted; override this method then.
        """
        lengths = odd_lengths(batch)
        if lengths and not self.is_count_doubtful and self.strategy.is_main_worker:
            self.is_count_doubtful = True
            self.reporter.note(
                "samples_in_batch",
                f"warning: the inputs of a batch have the length {lengths[0]} and its targets "
                f"{lengths[1]}, so it counts as {lengths[0]} samples in the mean of an epoch. If "
                "that is wrong, override samples_in_batch() of the trainer.",
            )
        return samples_in(batch)

    def terms_in_loss(self, batch: Batch) -> float:
        """Say what the loss of a batch will be a mean over, before the batch is trained on.

        Batches are weighed by it where gradients are accumulated, over ranks, and in the mean of an
        epoch. By default it is the number of targets that cross entropy does not ignore (the sum
        of their weights, if classes have weights), and of samples under any other loss. Override it
        where a loss averages over something else: the tokens, nodes or pixels that count.
        """
        targets = counted_targets(self.loss, batch) if counts_targets(self.loss) else None
        return self.samples_in_batch(batch) if targets is None else targets

    # -- services ------------------------------------------------------------------------------

    @property
    def strategy(self) -> Any:
        """How the processes train together: an object, whatever was given.

        What a name stands for follows from the processes that there are: before a training from
        the program's, in it from the training's.
        """
        if self.known_strategy is None:
            self.known_strategy = self._strategy_here()
        return self.known_strategy

    @strategy.setter
    def strategy(self, chosen: str | TorchDistributedStrategy | None) -> None:
        check_strategy(chosen)
        self.chosen_strategy = chosen
        self.known_strategy = None if isinstance(chosen, str) else chosen

    @property
    def device(self) -> str:
        """Device of this process."""
        return str(self.strategy.device())

    @property
    def run_directory(self) -> Path:
        """Folder of what this training writes: a trial's own in a study, else its checkpoints'.

        It is made if it does not exist. All trials work in the folder in which the program was
        started, so a file that each of them writes under one relative name is written over.
        """
        folder = Path(self.checkpoints_location)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of a forward pass, in the configuration's precision."""
        return self.optimization.autocast()

    def optimize(self, loss: torch.Tensor) -> None:
        """Add a batch's gradients, and make the optimizer step when it is due.

        The one place for precision, accumulation, clipping, averaging, and schedules that go by
        step; an own ``train_step`` that calls it has them all.

        Args:
            loss: Mean over the samples of this rank's batch.
        """
        weighted = loss if self.turn.share == 1 else loss * self.turn.share
        last = self.turn.is_last
        with self.whereabouts.waiting("the gradients") if last else nullcontext():
            self.optimization.add(weighted, self.model, self.optimizer, self.lr_scheduler, last)

    def compute_metrics(
        self,
        true: Any,
        pred: Any,
        logger_step: int,
        batch_idx: int | None,
        stage: Stage | None = None,
    ) -> dict[str, Any]:
        """Add a batch to the epoch's metrics, and return the batch's own.

        Args:
            true: The batch's targets.
            pred: The model's predictions.
            logger_step: Batches of the stage so far.
            batch_idx: Number of the batch in its epoch.
            stage: Whose metrics; None: those of the stage that runs.
        """
        return self._stage_metrics(stage or self.running_stage).observe(true, pred)

    def log(
        self,
        item: Any,
        identifier: str,
        kind: str = "metric",
        step: int | None = None,
        batch_idx: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Log through the trainer's logger; without one this does nothing."""
        logger = self.open_logger or self.logger
        if logger is not None:
            logger.log(item, identifier, kind, step, batch_idx, **kwargs)

    def remaining_epochs(self) -> Iterator[int]:
        """Begin one epoch after the other, for an own ``train()``.

        From the one after the checkpoint that is continued (or that in which it was written) to the
        last one, or until early stopping is due; each with its own order of the data. With
        :meth:`remaining_batches`, :meth:`optimize` for each batch and :meth:`end_epoch` for each
        epoch, an own loop has all that the trainer's has::

            for epoch in self.remaining_epochs():
                for batch in self.remaining_batches():
                    ...
                self.end_epoch({"validation_loss": loss})
        """
        return remaining_epochs(self)

    def remaining_batches(self) -> Iterator[Any]:
        """Give the batches of the training set, for an own ``train()`` or ``train_epoch()``.

        Those of a whole epoch, or of its rest where the checkpoint that is continued was written in
        its middle. After the last batch of each optimizer step all is done that is due there: see
        ``checkpoint_every_steps``, ``checkpoint_every_seconds``, ``validate_every_steps``, and the
        end of a batch job. With :meth:`optimize` for each batch, gradients are accumulated as in
        the trainer's own loop::

            for batch in self.remaining_batches():
                ...
                self.optimize(loss)

        Raises:
            TypeError: If the samples of a batch cannot be counted; override
                :meth:`samples_in_batch` then.
            JobEnds: If the batch job ends. Let it pass.
        """
        return remaining_batches(self)

    def end_epoch(self, metrics: Mapping[str, Any]) -> None:
        """Do all that follows an epoch of an own ``train()``; call it on every rank.

        Schedules that go by epochs go on, early stopping hears ``validation_loss``, checkpoints
        that are due are written, and the metrics are logged and reported.

        Args:
            metrics: By name; where the ranks found different values, their mean counts.

        Raises:
            TrialStopped: If the study ends this trial. Let it pass.
            JobEnds: If the batch job ends. Let it pass.
        """
        parts = (flatten(name, value) for name, value in metrics.items())
        self.epoch_metrics = {name: float(n) for part in parts for name, n in part.items()}
        agree_on_metrics(self)
        for name, value in self.epoch_metrics.items():
            self.log(value, f"{name}_epoch", step=self.current_epoch)
        end_epoch(self)

    def ray_report(
        self,
        metrics: Mapping[str, Any],
        checkpoint_file: str | Path | None = None,
        checkpoint_dir: str | Path | None = None,
        checkpoint_data: Any | None = None,
    ) -> None:
        """Report an epoch from an own ``train()``; call it on every rank. Outside a study: no-op.

        Args:
            metrics: By name, as they shall be known to the study.
            checkpoint_file: A file to keep with the trial.
            checkpoint_dir: A folder to keep with the trial.
            checkpoint_data: Data to save with the trial. Without any of these, the newest that
                :meth:`save_checkpoint` wrote counts.

        Raises:
            TrialStopped: If the study ends this trial. Let it pass.
        """
        self.effects.look()
        if isinstance(self.reporter, NullReporter):
            return
        given = (checkpoint_file, checkpoint_dir, checkpoint_data)
        if any(part is not None for part in given) and self.strategy.is_main_worker:
            path = Path(self.checkpoints_location) / f"report_{math.floor(self.reported)}"
            self.checkpoints.written(files.keep_with_trial(path, *given))
            self.saved_within = None
        if report_as_one(self, metrics):
            raise TrialStopped

    def save_checkpoint(
        self,
        name: str,
        best_validation_metric: float | None = None,
        checkpoints_root: str | Path | None = None,
        force: bool = False,
    ) -> Path | None:
        """Write a checkpoint on rank 0; return its folder there, None on other ranks.

        In the middle of an epoch it can be called in an evaluation (see ``validate_every_steps``),
        and a training goes on from it there. Between the batches, ``checkpoint_every_steps`` saves.

        Args:
            name: Name of the folder.
            best_validation_metric: Recorded in it; None: the trainer's.
            checkpoints_root: Folder it is put in, where a study leaves it alone; None:
                ``checkpoints_location``.
            force: Write on this rank, whichever it is.

        Raises:
            ConfigurationError: While a batch is trained on.
        """
        check_saving(self, name)
        writes = self.strategy.is_main_worker or force
        if not (writes or self.strategy.is_sharded or self.checkpoint_sharded):
            return None
        path = Path(checkpoints_root or self.checkpoints_location) / name
        best = self.best_validation_metric
        best = best if best_validation_metric is None else best_validation_metric
        state.save(self, path, best, writes)
        if writes and self.open_logger is not None:
            self.open_logger.log_checkpoint(path)
        if writes and checkpoints_root is None:
            self.checkpoints.written(path)
            self.saved_within = self.position.epochs_after(self.reported)
        return path if writes else None

    def load_checkpoint(self) -> None:
        """Read ``from_checkpoint``; its weights go into the model once that is built.

        In a batch job, a training alone goes on where an earlier job of the same run has ended.
        """
        if isinstance(self.reporter, NullReporter) and job.run_id() is not None:
            location = Path(self.checkpoints_location)
            self.run_id = self.run_id or job.run_in(location)
            own = files.newest_of_run(location, self.run_id)
            self.from_checkpoint = own or self.from_checkpoint
        if self.from_checkpoint is None:
            return
        path = Path(self.from_checkpoint)
        is_trials = path == self.checkpoints.newest
        if is_trials and not files.is_complete(path):
            return  # of a trial's own train(), which reads itself what it gave to ray_report()
        state.begin_after(self, files.load(path, or_earlier=not is_trials))

    def train_in_this_process(self, *datasets: Any) -> Any:
        """Do all of one training here: join the other ranks, build everything, train, leave.

        Returns:
            The model, without any wrapper.
        """
        return session.train(self, datasets)

    def overrides(self, *hooks: str) -> bool:
        """Whether a subclass, or this object, has one of these hooks of its own."""
        return any(
            hook in vars(self) or getattr(type(self), hook) is not getattr(LocalTrainer, hook)
            for hook in hooks
        )

    # -- inside --------------------------------------------------------------------------------

    def _strategy_here(self) -> TorchDistributedStrategy:
        """The strategy of a name, in this process."""
        return resolve_strategy(self.chosen_strategy, self.config)

    def _trained_model(self, datasets: Datasets) -> Any:
        """Train, here or wherever a subclass trains; return the model."""
        return self.train_in_this_process(*datasets)

    def _loader(
        self, dataset: Dataset[Any], shuffle: bool, drop_last: bool = False
    ) -> DataLoader[Any]:
        loader: DataLoader[Any] = self.strategy.create_dataloader(
            dataset,
            batch_size=self.config.batch_size,
            shuffle=shuffle,
            num_workers=self.config.num_workers_dataloader,
            pin_memory=self.config.pin_gpu_memory,
            generator=self.torch_rng,
            drop_last=drop_last,
        )
        return loader

    def _stage_metrics(self, stage: str) -> EpochMetrics:
        if stage not in self._stages:
            self._stages[stage] = EpochMetrics(self.metrics)
            self._stages[stage].to(self.device)
        return self._stages[stage]

    def _length(self) -> Length | None:
        # Where the ranks have not equally many batches, all make as many steps as the longest.
        ranks = self.strategy.allgather_obj(length_of(self.train_dataloader))
        if None in ranks:
            return None
        window = self.config.snapshot()["gradient_accumulation_steps"]
        return Length(self.epochs, -(-max(ranks) // window))

    def _evaluation_step(
        self, batch: Batch, logger_step: int, batch_idx: int, stage: Stage
    ) -> tuple[Any, dict[str, Any]]:
        prediction, target, loss = self._forward(batch, f"{stage}_step")
        metrics = self.compute_metrics(target, prediction, logger_step, batch_idx, stage)
        return loss, hooks.dictionary("compute_metrics", metrics, "metrics")

    def _forward(self, batch: Batch, step: str) -> tuple[Any, Any, Any]:
        """Prediction, target and loss of a batch, for a step that nobody overrode."""
        inputs, target = to_device(hooks.inputs_and_targets(batch, step), self.device)
        with self.autocast():
            prediction = self.model(inputs)
            loss = hooks.loss_of(self)(prediction, target)
        self._note_shapes(prediction, target)
        return prediction, target, loss

    def _note_shapes(self, prediction: Any, target: Any) -> None:
        shapes = hooks.odd_shapes(self.loss, prediction, target)
        if shapes and not self.is_loss_doubtful and self.strategy.is_main_worker:
            self.is_loss_doubtful = True
            name = type(self.loss).__name__
            self.reporter.note(
                "shapes",
                f"warning: predictions have the shape {tuple(shapes[0])} and targets "
                f"{tuple(shapes[1])}, so {name} compares each with several of the others, not with "
                "its own. Let the model, or the data set, give both the same shape.",
            )

    def _distributed_options(self) -> dict[str, Any]:
        options = self.get_default_distributed_kwargs()
        return hooks.dictionary("get_default_distributed_kwargs", options, "options")
