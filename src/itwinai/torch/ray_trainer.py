"""``RayTorchTrainer``: the interface of ``TorchTrainer``, running a hyper-parameter study.

The one bridge between the training side and the studies: it turns a trainer into the program that
every trial runs, and a study's winner back into a model.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import itwinai
from itwinai.components import monitor_exec
from itwinai.config.model import validate
from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.engine.worker import Place
from itwinai.hpo.errors import UnusedParameterError
from itwinai.hpo.launch import plan_study, run_study
from itwinai.hpo.results import StudyResult
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import Assignment, TrialResult
from itwinai.reporting import Reporter
from itwinai.torch import checkpoint as checkpoints
from itwinai.torch.ray_arguments import read_ray_arguments
from itwinai.torch.reproducibility import set_seed
from itwinai.torch.strategies.base import NonDistributedStrategy
from itwinai.torch.trainer import TorchTrainer
from itwinai.torch.tunables import apply_values, check_names, default_values

Datasets = tuple[Any, Any, Any]


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
        'asha'
    """

    study_result: StudyResult | None = None

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
        self.study = study if isinstance(study, StudyConfiguration) else _read_study(study)

    @monitor_exec
    def execute(
        self,
        train_dataset: Any,
        validation_dataset: Any | None = None,
        test_dataset: Any | None = None,
    ) -> tuple[Any, Any, Any, Any]:
        """Run the study; return the three data sets and the best trial's model.

        The model is None where the best trial kept no checkpoint.
        """
        datasets = (train_dataset, validation_dataset, test_dataset)
        space = self.search_space
        if space is None and not self.ray_search_space:
            return *datasets, self.train_in_this_process(*datasets)
        model = (
            study_from_ray_arguments(self, datasets)
            if space is None
            else tune(self, space, self.study, datasets)
        )
        return *datasets, model


class TrainerProgram:
    """What every trial runs: a fresh copy of the trainer, with the trial's values.

    Args:
        trainer: The trainer as the user configured it.
        datasets: Training, validation and test set; they cross to each process once.
    """

    def __init__(self, trainer: TorchTrainer, datasets: Datasets) -> None:
        self._trainer = _pickled(trainer)
        self._datasets = datasets

    def __call__(self, assignment: Assignment, place: Place, reporter: Reporter) -> None:
        """Train with a trial's values."""
        torch.set_num_threads(place.cpus)
        trainer = fresh_copy(self._trainer)
        sampled = apply_values(trainer, assignment.params)
        continued = None if assignment.checkpoint is None else Path(assignment.checkpoint)
        trainer.random_seed = (
            assignment.seed if trainer.random_seed is None else trainer.random_seed
        )
        trainer.run_name = f"{trainer.run_name or 'trial'}-{assignment.number}"
        trainer.checkpoints_location = assignment.directory
        trainer.checkpoints = checkpoints.KeepNewest(
            trainer.checkpoint_every, trainer.epochs, continued
        )
        trainer.from_checkpoint = continued or trainer.from_checkpoint
        trainer.reports = assignment.epochs
        trainer.reporter = ReadingCheck(reporter, trainer, sampled)
        trainer.train_in_this_process(*self._datasets)


class ReadingCheck:
    """Passes reports on, after making sure that the training has read what was sampled.

    Args:
        reporter: Who gets the reports.
        trainer: Whose configuration is watched.
        sampled: Names that were sampled into it.
    """

    def __init__(self, reporter: Reporter, trainer: TorchTrainer, sampled: list[str]) -> None:
        self._reporter = reporter
        self._trainer = trainer
        self._sampled = sampled

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> bool:
        """Pass a report on.

        Raises:
            UnusedParameterError: At the first report, if a sampled name was never read.
        """
        config = self._trainer.config
        unread, self._sampled = config.unread(self._sampled), []
        if unread:
            known = [name for name in config.snapshot() if name not in unread]
            raise UnusedParameterError(_unused(unread[0], known))
        return self._reporter.report(metrics, checkpoint)


def tune(
    trainer: TorchTrainer, space: SearchSpace, study: StudyConfiguration, datasets: Datasets
) -> nn.Module | None:
    """Run a study of a trainer; keep its result as ``trainer.study_result``.

    Returns:
        The best trial's model on the CPU, or None where it kept no checkpoint.

    Raises:
        ConfigurationError: For whatever cannot work, before anything starts.
        StudyError: As of :func:`itwinai.hpo.launch.run_study`.
    """
    check_names(trainer, space, space)
    plan = plan_study(study, space, trainer.epochs, _default(trainer, space, study))
    program = TrainerProgram(trainer, datasets)
    result = run_study(plan, lambda: program)
    trainer.study_result = result  # type: ignore[attr-defined]
    return _best_model(trainer, result.best, datasets)


def study_from_ray_arguments(trainer: TorchTrainer, datasets: Datasets) -> nn.Module | None:
    """Run the study that a trainer's ``ray_*`` arguments describe; as :func:`tune`."""
    space, study = read_ray_arguments(
        trainer.ray_search_space,
        trainer.ray_tune_config,
        trainer.ray_run_config,
        trainer.ray_scaling_config,
    )
    return tune(trainer, space, study, datasets)


def _default(
    trainer: TorchTrainer, space: SearchSpace, study: StudyConfiguration
) -> dict[str, Any] | None:
    default = default_values(trainer, space)
    if default is None and study.default_first:
        itwinai.logger.warning(
            "warning: the config lacks a value for some of %s, so there is no default "
            "configuration to compare with. Set them in the config, or study.default_first=false.",
            ", ".join(space),
        )
    return default


def _best_model(
    trainer: TorchTrainer, best: TrialResult | None, datasets: Datasets
) -> nn.Module | None:
    """Rebuild the winner from its checkpoint."""
    if (
        best is None
        or best.checkpoint is None
        or not (best.checkpoint / checkpoints.MODEL).exists()
    ):
        return None
    copy = fresh_copy(_pickled(trainer))
    apply_values(copy, best.params)
    copy.strategy = NonDistributedStrategy()
    copy.torch_rng = set_seed(None)
    copy.create_dataloaders(*datasets)  # a schedule may want to know an epoch's steps
    copy.create_model_loss_optimizer()
    model: nn.Module = copy.model
    model.load_state_dict(checkpoints.load_model(best.checkpoint))
    return model.cpu().eval()


def _pickled(trainer: TorchTrainer) -> bytes:
    from ray import cloudpickle

    buffer = io.BytesIO()
    try:
        cloudpickle.dump(trainer, buffer)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise ConfigurationError(
            f"the trainer cannot be sent to a trial's process: {error}. Open files, locks and "
            "connections must be made inside train(), not in the constructor."
        ) from error
    return buffer.getvalue()


def fresh_copy(pickled: bytes) -> TorchTrainer:
    """Return a trainer as it was pickled; nothing of an earlier trial is in it."""
    from ray import cloudpickle

    trainer: TorchTrainer = cloudpickle.loads(pickled)
    return trainer


def _read_study(study: Mapping[str, Any] | None) -> StudyConfiguration:
    return validate(StudyConfiguration, study or {}, "study")


def _unused(name: str, known: list[str]) -> str:
    hint = did_you_mean(name, known)
    return (
        f"{name!r} was sampled but never read{hint or '.'} If only some configurations need it, "
        "read it before the branch."
    )
