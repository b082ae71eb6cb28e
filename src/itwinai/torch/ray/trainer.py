"""The trainers that users name: ``TorchTrainer``, and ``RayTorchTrainer``, which runs a study.

Both train here, or hand the training over: to a study, or to Ray Train's workers. What does that is
loaded when it is needed, because every trial's process loads this module and none runs a study.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from itwinai.compatibility.trainer import TrainerAttributes
from itwinai.config.model import validate
from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.space import SearchSpace
from itwinai.loggers import Logger
from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.data import check_datasets
from itwinai.torch.optimization.factories import ModelFactory
from itwinai.torch.ray.arguments import RayArguments
from itwinai.torch.strategies.base import TorchDistributedStrategy
from itwinai.torch.training.names import check_config
from itwinai.torch.training.protocol import Datasets
from itwinai.torch.training.trainer import LocalTrainer
from itwinai.torch.type import Metrics

if TYPE_CHECKING:
    from itwinai.hpo.planning import PlannedCost
    from itwinai.hpo.record import StudyResult
    from itwinai.torch.ray.subject import TrainerSubject


class TorchTrainer(LocalTrainer, TrainerAttributes):
    """Trains a PyTorch model, alone or as one of several processes.

    With ``ray_search_space`` its ``execute`` runs a study, and the model is the best trial's; with
    ``ray_scaling_config`` alone, Ray Train's workers train. The order of the arguments is that of
    itwinai 0.4.

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
        metrics: By name; torchmetrics objects, or functions ``metric(prediction, target)``.
        checkpoints_location: Folder of the checkpoints.
        checkpoint_every: Epochs between two checkpoints; None writes ``best_model`` only.
        disable_tqdm: Without effect: there is no progress bar.
        name: Name in messages.
        profiling_wait_epochs: First epochs that are not profiled.
        profiling_warmup_epochs: Epochs after those in which the profiler runs without recording.
        measure_gpu_data: Without effect.
        enable_torch_profiling: Whether ``train()`` is profiled by ``torch.profiler``.
        store_torch_profiling_traces: Whether the profiler's traces are kept.
        measure_epoch_time: Without effect: ``epoch_time_s`` is logged always.
        ray_scaling_config: A ``ray.train.ScalingConfig``: processes and resources per trial, or of
            one training in Ray Train's workers.
        ray_tune_config: A ``ray.tune.TuneConfig``.
        ray_run_config: A ``ray.tune.RunConfig``.
        ray_search_space: A search space; with it ``execute`` runs a study.
        ray_torch_config: A ``ray.train.torch.TorchConfig``, of one training in Ray Train's workers.
        ray_data_config: A ``ray.train.DataConfig``, of one training in Ray Train's workers.
        from_checkpoint: Checkpoint folder to continue from, or a folder of them.
        initial_best_validation_metric: What the validation loss must fall below.
        run_name: Name of the logger's run.
        time_ray: Whether the seconds of the study, and of each report to it, are logged.
        checkpoint_last: How many of the newest to keep, ``best_model`` aside; None: all.
        checkpoint_sharded: Whether each rank writes its own part of a checkpoint.
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

    ray_scaling_config: Any
    ray_tune_config: Any
    ray_run_config: Any
    ray_search_space: Mapping[str, Any] | None
    ray_torch_config: Any
    ray_data_config: Any
    #: The pipeline it is a step of, as a study's folder keeps it; set by the command line.
    study_pipeline: str | None = None
    #: The study that ``execute`` ran.
    study_result: StudyResult | None = None

    def __init__(
        self,
        config: Mapping[str, Any] | TrainingConfiguration | None,
        epochs: int,
        model: nn.Module | ModelFactory | None = None,
        strategy: str | TorchDistributedStrategy | None = "ddp",
        test_every: int | None = None,
        random_seed: int | None = None,
        logger: Logger | None = None,
        metrics: Metrics | None = None,
        checkpoints_location: str | Path = "checkpoints",
        checkpoint_every: int | None = None,
        disable_tqdm: bool = False,
        name: str | None = None,
        profiling_wait_epochs: int = 0,
        profiling_warmup_epochs: int = 0,
        measure_gpu_data: bool = False,
        enable_torch_profiling: bool = False,
        store_torch_profiling_traces: bool = False,
        measure_epoch_time: bool = False,
        ray_scaling_config: Any = None,
        ray_tune_config: Any = None,
        ray_run_config: Any = None,
        ray_search_space: Mapping[str, Any] | None = None,
        ray_torch_config: Any = None,
        ray_data_config: Any = None,
        from_checkpoint: str | Path | None = None,
        initial_best_validation_metric: float | str = "inf",
        run_name: str | None = None,
        time_ray: bool = False,
        checkpoint_last: int | None = None,
        checkpoint_sharded: bool = False,
        checkpoint_every_steps: int | None = None,
        validate_every_steps: int | None = None,
        checkpoint_every_seconds: float | None = None,
    ) -> None:
        given = self.locals2params(locals())
        super().__init__(**{key: given[key] for key in given if key not in _NOT_OF_A_TRAINING})
        for key in _NOT_OF_A_TRAINING:
            setattr(self, key, given[key])
        self.save_parameters(**given)

    @property
    def ray_arguments(self) -> RayArguments:
        """The ``ray_*`` arguments together."""
        return RayArguments(
            search_space=self.ray_search_space,
            tune=self.ray_tune_config,
            run=self.ray_run_config,
            scaling=self.ray_scaling_config,
            torch=self.ray_torch_config,
            data=self.ray_data_config,
        )

    def subject(
        self,
        train_dataset: Any = None,
        validation_dataset: Any = None,
        test_dataset: Any = None,
    ) -> TrainerSubject:
        """This trainer with its data sets, for whoever trains trials of its study again."""
        from itwinai.torch.ray.subject import TrainerSubject

        datasets = (train_dataset, validation_dataset, test_dataset)
        return TrainerSubject(self, *self._space_and_study(), datasets)

    def _space_and_study(self) -> tuple[SearchSpace | None, StudyConfiguration]:
        """What is tuned, and how; where nothing is, how trials would be run."""
        if self.ray_search_space:
            return self.ray_arguments.study()
        return None, StudyConfiguration()

    def _strategy_here(self) -> TorchDistributedStrategy:
        """The strategy of a name; Ray's, as in 0.4, where a cluster and ``ray_*`` arguments are."""
        on_ray = None if self.ray_arguments == RayArguments() else self.strategy_on_ray()
        return on_ray or super()._strategy_here()

    def _trained_model(self, datasets: Datasets) -> Any:
        """Train in a study, in Ray Train's workers, or here, as the ``ray_*`` arguments say."""
        if self.ray_search_space:
            return self._best_model(*self.ray_arguments.study(), datasets)
        if self.ray_scaling_config is not None:
            from itwinai.torch.ray.long_training import train_on_ray

            return train_on_ray(self, self.ray_arguments, datasets)
        return super()._trained_model(datasets)

    def _best_model(
        self, space: SearchSpace, study: StudyConfiguration, datasets: Datasets
    ) -> nn.Module | None:
        """Run a study; return the best trial's model, or None where it kept no checkpoint."""
        from itwinai.torch.ray.studies import best_model, tune

        self.study_result = tune(self, space, study, datasets, self.study_pipeline)
        return best_model(self, self.study_result, datasets)


#: Arguments that only this class keeps: Ray's, and those without effect.
_NOT_OF_A_TRAINING = (
    *("ray_scaling_config", "ray_tune_config", "ray_run_config", "ray_search_space"),
    *("ray_torch_config", "ray_data_config"),
    *("disable_tqdm", "measure_gpu_data", "measure_epoch_time"),
)


class RayTorchTrainer(TorchTrainer):
    """Runs a study in which every trial is a complete training of a :class:`TorchTrainer`.

    Nothing is initialised here: model, loggers, process group and random state are made inside
    the trial, once its resources are allocated.

    Args:
        config: As of :class:`TorchTrainer`; its values are the default configuration.
        epochs: Epochs of a full training.
        search_space: Tuned names and their domains; None trains once, as ``TorchTrainer`` does.
        study: A :class:`StudyConfiguration` or a mapping of its fields.
        options: As of :class:`TorchTrainer`.

    Raises:
        ConfigurationError: For a wrong or unknown key of ``study`` or ``search_space``.

    Example:
        >>> trainer = RayTorchTrainer(
        ...     config={"optim_lr": 1e-3}, epochs=12, model=torch.nn.Linear(2, 2),
        ...     search_space={"optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1}},
        ...     study={"name": "digits", "metric": "validation_loss", "mode": "min"})
        >>> trainer.study.scheduler
        'auto'
    """

    def __init__(
        self,
        config: Any,
        epochs: int,
        *,
        search_space: Mapping[str, Any] | None = None,
        study: StudyConfiguration | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(config, epochs, **options)
        self.update_parameters(search_space=search_space, study=study)
        self.search_space = None if search_space is None else SearchSpace.parse(search_space)
        self._has_study = bool(study)
        self.study = study if isinstance(study, StudyConfiguration) else _read_study(study)

    def plan(
        self,
        train_dataset: Any,
        validation_dataset: Any | None = None,
        test_dataset: Any | None = None,
        *,
        epoch_seconds: float | None = None,
        probe: bool = False,
        like: str | Path | None = None,
        limit: float | None = None,
    ) -> PlannedCost:
        """Say what the study will cost: trials, rungs, epochs, time, disk. Nothing is started.

        Args:
            train_dataset: As of ``execute``.
            validation_dataset: As of ``execute``.
            test_dataset: As of ``execute``.
            epoch_seconds: Seconds of an epoch of the default configuration; None: not known.
            probe: Whether two epochs of the default configuration may be trained, in this process,
                to measure them; the second one counts.
            like: Folder of an earlier study, the mean of whose epochs is taken.
            limit: Seconds that a job may take; the plan tells how many jobs it takes.

        Raises:
            ConfigurationError: For whatever ``execute`` would refuse before it starts, and for more
                than one of ``epoch_seconds``, ``probe`` and ``like``.
            StudyError: If there is no such study as ``like``.
        """
        from itwinai.hpo.retraining import planned_cost

        datasets = (train_dataset, validation_dataset, test_dataset)
        check_datasets(*datasets)
        check_config(self)
        if self.search_space is None:
            raise ConfigurationError(
                "search_space: there is none, so this trains once, and there is no study to plan"
            )
        return planned_cost(self.subject(*datasets), epoch_seconds, probe, like, limit)

    def _space_and_study(self) -> tuple[SearchSpace | None, StudyConfiguration]:
        return self.search_space, self.study

    def _trained_model(self, datasets: Datasets) -> Any:
        """Run the study; return the best trial's model, or None where it kept no checkpoint."""
        if self.search_space is None:
            if self._has_study:
                raise ConfigurationError(
                    "search_space: there is none, and study says how it would be searched. Give "
                    "one, such as {optim_lr: {type: loguniform, lower: 1e-4, upper: 1e-1}}, or "
                    "leave study out to train once."
                )
            return super()._trained_model(datasets)
        return self._best_model(self.search_space, self.study, datasets)


def _read_study(study: Mapping[str, Any] | None) -> StudyConfiguration:
    return validate(StudyConfiguration, study or {}, "study")
