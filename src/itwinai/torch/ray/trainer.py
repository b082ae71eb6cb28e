"""``RayTorchTrainer``: the interface of ``TorchTrainer``, running a hyper-parameter study.

The one bridge between the training side and the studies: it turns a trainer into the program that
every trial runs, and a study's winner back into a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

import itwinai
from itwinai.components import monitor_exec
from itwinai.config.model import validate
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.space import SearchSpace
from itwinai.io.files import delete_folder
from itwinai.torch.ray.arguments import read_ray_arguments
from itwinai.torch.ray.program import Datasets, TrainerProgram
from itwinai.torch.ray.rebuilding import rebuilt_model
from itwinai.torch.ray.tunables import check_names, default_values
from itwinai.torch.trainer import TorchTrainer

if TYPE_CHECKING:
    from itwinai.hpo.record import StudyResult


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
        if space is None:
            return *datasets, self._road()(datasets)
        return *datasets, tune(self, space, self.study, datasets)


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
    # Loaded here, because every trial's process loads this module, and none runs a study.
    from itwinai.hpo.launch import plan_study, run_study
    from itwinai.torch.ray.runs import StudyRuns

    check_names(trainer, space, space)
    plan = plan_study(study, space, trainer.epochs, _default(trainer, space, study))
    program = TrainerProgram(trainer, datasets)
    runs = StudyRuns(trainer.logger, program, trainer.time_ray)
    result = run_study(plan, program, pipeline=trainer.study_pipeline, company=runs.of)
    trainer.study_result = result  # type: ignore[attr-defined]
    _delete_superseded(result)
    best = result.best
    return None if best is None else rebuilt_model(trainer, best.params, best.checkpoint, datasets)


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
    default = default_values(trainer, [name for name in space if name not in space.defaults])
    if default is None and study.default_first:
        itwinai.logger.warning(
            "warning: the config lacks a value for some of %s, so there is no default "
            "configuration to compare with. Set them in the config, or study.default_first=false.",
            ", ".join(space),
        )
    return default


def _delete_superseded(result: StudyResult) -> None:
    """Delete what the last trial of each slot left besides its newest checkpoint."""
    kept = {trial.checkpoint for trial in result.trials}
    trials = result.record.parent / "trials"
    for path in [*trials.glob("*/epoch_*"), *trials.glob("*/report_*")]:
        if path not in kept:
            delete_folder(path)


def _read_study(study: Mapping[str, Any] | None) -> StudyConfiguration:
    return validate(StudyConfiguration, study or {}, "study")
