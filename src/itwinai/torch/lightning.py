"""A training by Lightning as a step of a pipeline."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from itwinai.components import Trainer, monitor_exec
from itwinai.config.reading import read_mapping
from itwinai.distributed import detect_distributed_environment
from itwinai.environ import environment
from itwinai.errors import MissingPackageError


class TorchLightningTrainer(Trainer):
    """Trains a ``LightningModule`` as Lightning's own command line would.

    Args:
        config: As of ``LightningCLI``, with ``trainer``, ``model`` and ``data``, and maybe
            ``seed_everything``; or a YAML file with these.
        mlflow_saved_model: Name under which each :class:`itwinai.torch.loggers.ItwinaiLogger` of
            the trainer gets the trained module, if it keeps models.

    Raises:
        ConfigurationError: If the file cannot be read.
    """

    def __init__(
        self, config: Mapping[str, Any] | str | Path, mlflow_saved_model: str = "my_model"
    ) -> None:
        super().__init__()
        self.save_parameters(**self.locals2params(locals()))
        self.config = dict(config) if isinstance(config, Mapping) else read_mapping(config)
        self.mlflow_saved_model = mlflow_saved_model

    @monitor_exec
    def execute(self) -> Any:  # type: ignore[override] # the configuration says what the data are
        """Train, and return the trained module.

        Raises:
            MissingPackageError: If Lightning or its command line's parser is not installed.
        """
        with _without_other_tasks():
            return self._fit()

    def _fit(self) -> Any:
        command_line, module, data, callback = _import_lightning()
        name = self.mlflow_saved_model

        class KeepModel(callback):  # type: ignore[misc, valid-type]
            def on_train_end(self, trainer: Any, pl_module: Any) -> None:
                _keep_model(trainer, pl_module, name)

        with warnings.catch_warnings():
            # Our own words on the command line are nothing that it reads.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            cli = command_line(
                model_class=module,
                datamodule_class=data,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=None,
                trainer_defaults={"callbacks": [KeepModel()]},
                args=self.config,
                run=False,
            )
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        return cli.model


def _without_other_tasks() -> AbstractContextManager[None]:
    """Where a job's script started this process without srun, though the job is of several tasks.

    Lightning would wait for the other ones.
    """
    tasks = os.environ.get("SLURM_NTASKS", "1")
    is_alone = detect_distributed_environment().global_world_size == 1
    return environment({"SLURM_NTASKS": None} if is_alone and tasks != "1" else {})


def _keep_model(trainer: Any, module: Any, name: str) -> None:
    """Give the module to the loggers, before they are closed."""
    from itwinai.torch.loggers import ItwinaiLogger

    for logger in trainer.loggers:
        if isinstance(logger, ItwinaiLogger):
            logger.experiment.log(module, name, kind="model")


def _import_lightning() -> tuple[Any, Any, Any, Any]:
    try:
        from lightning.pytorch import Callback, LightningDataModule, LightningModule
        from lightning.pytorch.cli import LightningCLI
    except ImportError as error:
        raise MissingPackageError(
            f"TorchLightningTrainer needs lightning ({error}): pip install 'itwinai[lightning]'"
        ) from error
    return LightningCLI, LightningModule, LightningDataModule, Callback
