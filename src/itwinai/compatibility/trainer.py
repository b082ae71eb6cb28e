"""What programs for itwinai 0.4 read from a trainer, beside what is there for its own sake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itwinai.loggers import Logger, MLFlowLogger, get_mlflow_logger

if TYPE_CHECKING:
    from itwinai.compatibility.results import ResultGrid
    from itwinai.hpo.record import StudyResult
    from itwinai.torch.strategies.base import TorchDistributedStrategy


class TrainerAttributes:
    """Attributes of a trainer of 0.4, as views of what the trainer has.

    Those of a checkpoint are there while ``create_model_loss_optimizer`` and ``create_dataloaders``
    run in a training that continues from one; otherwise they are None. The trainer puts the states
    back by itself afterwards.
    """

    chosen_strategy: Any
    config: Any
    logger: Logger | None
    restored: tuple[Path, dict[str, Any], dict[str, Any]] | None
    study_result: StudyResult | None

    def strategy_on_ray(self) -> TorchDistributedStrategy | None:
        """The strategy for Ray Train's workers; None without a cluster, or if it has none."""
        from itwinai.compatibility.strategies import on_ray

        return on_ray(self.chosen_strategy, self.config.dist_backend)

    @property
    def tune_result_grid(self) -> ResultGrid | None:
        """The trials of the study that ``execute`` ran, as Ray Tune's results show them."""
        from itwinai.compatibility.results import ResultGrid

        return None if self.study_result is None else ResultGrid(self.study_result)

    @property
    def mlflow_logger(self) -> MLFlowLogger | None:
        """The MLflow logger among the trainer's, if there is one."""
        return get_mlflow_logger(self.logger)

    @property
    def mlflow_worker_run_id(self) -> str | None:
        """Id of the MLflow run that is open in this process."""
        logger = self.mlflow_logger
        return (
            None if logger is None or logger.active_run is None else logger.active_run.info.run_id
        )

    @property
    def model_state_dict(self) -> Mapping[str, Any] | None:
        """The checkpoint's model; empty where it is in shards."""
        return None if self.restored is None else self.restored[1]

    @property
    def optimizer_state_dict(self) -> Any:
        """The checkpoint's optimizer."""
        return self._state("optimizer_state_dict")

    @property
    def lr_scheduler_state_dict(self) -> Any:
        """The checkpoint's schedule."""
        return self._state("lr_scheduler_state_dict")

    @property
    def torch_rng_state(self) -> Any:
        """The checkpoint's random state of PyTorch, of rank 0."""
        return self._state("torch_rng_state")

    def _state(self, name: str) -> Any:
        return None if self.restored is None else self.restored[2].get(name)
