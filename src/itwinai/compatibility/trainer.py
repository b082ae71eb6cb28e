"""What programs for itwinai 0.4 read from a trainer, beside what is there for its own sake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itwinai.loggers import Logger, MLFlowLogger, get_mlflow_logger


class TrainerAttributes:
    """Attributes of a trainer of 0.4, as views of what the trainer has.

    Those of a checkpoint are there while ``create_model_loss_optimizer`` and ``create_dataloaders``
    run in a training that continues from one; otherwise they are None. The trainer puts the states
    back by itself afterwards.
    """

    logger: Logger | None
    restored: tuple[Path, dict[str, Any], dict[str, Any]] | None

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
