"""A training by Lightning as a step of a pipeline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itwinai.components import Trainer, monitor_exec
from itwinai.config.model import validate
from itwinai.config.reading import read_mapping
from itwinai.distributed import detect_distributed_environment
from itwinai.environ import environment
from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.space import SearchSpace
from itwinai.torch.lightning_cli import built, keeping_model

if TYPE_CHECKING:
    from itwinai.hpo.planning import PlannedCost
    from itwinai.hpo.record import StudyResult
    from itwinai.torch.ray.lightning.study import LightningStudy, LightningSubject


class TorchLightningTrainer(Trainer):
    """Trains a ``LightningModule`` as Lightning's own command line would, or runs a study of it.

    In a study the trainer writes nothing on its own unless ``trainer`` in the configuration asks:
    no progress bar, no summary, no logs. Devices and number of processes are those of a trial.

    Args:
        config: As of ``LightningCLI``, with ``trainer``, ``model`` and maybe ``data``, and maybe
            ``seed_everything``; or a YAML file with these. Its values are the default
            configuration of a study, and ``trainer.max_epochs`` the epochs of a full training.
        mlflow_saved_model: Name under which each :class:`itwinai.torch.loggers.ItwinaiLogger` of
            the trainer gets the trained module, if it keeps models.
        search_space: Tuned names and their domains; None trains once. A name is that of an
            argument of the module's or the data module's constructor, such as ``lr``, or a path in
            ``config``, such as ``trainer.gradient_clip_val``.
        study: A :class:`StudyConfiguration` or a mapping of its fields.

    Raises:
        ConfigurationError: If the file cannot be read; for a wrong or unknown key of ``study`` or
            ``search_space``.
    """

    #: The pipeline it is a step of, as a study's folder keeps it; set by the command line.
    study_pipeline: str | None = None
    #: The study that ``execute`` ran.
    study_result: StudyResult | None = None

    def __init__(
        self,
        config: Mapping[str, Any] | str | Path,
        mlflow_saved_model: str = "my_model",
        search_space: Mapping[str, Any] | None = None,
        study: StudyConfiguration | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_parameters(**self.locals2params(locals()))
        self.config = dict(config) if isinstance(config, Mapping) else read_mapping(config)
        self.mlflow_saved_model = mlflow_saved_model
        self.search_space = None if search_space is None else SearchSpace.parse(search_space)
        self._has_study = bool(study)
        self.study = (
            study
            if isinstance(study, StudyConfiguration)
            else validate(StudyConfiguration, study or {}, "study")
        )

    @monitor_exec
    def execute(self) -> Any:  # type: ignore[override] # the configuration says what the data are
        """Train, and return the trained module; of a study the best trial's, or None.

        Raises:
            ConfigurationError: For whatever cannot work in a study, before anything starts.
            MissingPackageError: If Lightning or its command line's parser is not installed.
            StudyError: As of :func:`itwinai.hpo.launch.run_study`.
        """
        with _without_other_tasks():
            return self._fit() if self.search_space is None else self._tune(self.search_space)

    def plan(
        self,
        *,
        epoch_seconds: float | None = None,
        probe: bool = False,
        like: str | Path | None = None,
        limit: float | None = None,
    ) -> PlannedCost:
        """Say what the study will cost; see :func:`itwinai.hpo.retraining.planned_cost`."""
        from itwinai.hpo.retraining import planned_cost

        return planned_cost(self.subject(), epoch_seconds, probe, like, limit)

    def subject(self, *data: Any) -> LightningSubject:
        """This trainer, for whoever trains trials of its study again.

        Args:
            data: Nothing: the configuration says what the data are.

        Raises:
            ConfigurationError: If it has no search space.
        """
        from itwinai.torch.ray.lightning.study import LightningSubject

        if self.search_space is None:
            raise ConfigurationError(
                "search_space: there is none, so this trains once, and has no trials"
            )
        return LightningSubject(self._study_of(self.search_space))

    def _fit(self) -> Any:
        if self._has_study:
            raise ConfigurationError(
                "search_space: there is none, and study says how it would be searched. Give one, "
                "such as {lr: {type: loguniform, lower: 1e-4, upper: 1e-1}}, or leave study out "
                "to train once."
            )
        cli = built(self.config, [keeping_model(self.mlflow_saved_model)])
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        return cli.model

    @property
    def study_places(self) -> dict[str, str]:
        """Where in ``config`` each tuned name lies, and the seed."""
        tuned = {} if self.search_space is None else self._study_of(self.search_space).places
        return {**tuned, "random_seed": "seed_everything"}

    def _tune(self, space: SearchSpace) -> Any:
        study = self._study_of(space)
        self.study_result = study.run(self.study_pipeline)
        return study.best_module(self.study_result)

    def _study_of(self, space: SearchSpace) -> LightningStudy:
        from itwinai.torch.ray.lightning.study import LightningStudy

        return LightningStudy(self.config, space, self.study, self.mlflow_saved_model)


def _without_other_tasks() -> AbstractContextManager[None]:
    """Where a job's script started this process without srun, though the job is of several tasks.

    Lightning would wait for the other ones.
    """
    tasks = os.environ.get("SLURM_NTASKS", "1")
    is_alone = detect_distributed_environment().global_world_size == 1
    return environment({"SLURM_NTASKS": None} if is_alone and tasks != "1" else {})
