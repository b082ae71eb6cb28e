"""Lightning's metrics, hyper-parameters and checkpoints in a logger of itwinai."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from itwinai.errors import MissingPackageError
from itwinai.loggers import Logger, LoggersCollection
from itwinai.loggers.base import end_context

try:
    from lightning.pytorch.callbacks import Checkpoint
    from lightning.pytorch.loggers import Logger as LightningLogger
    from lightning.pytorch.utilities import rank_zero_only
except ImportError as error:
    raise MissingPackageError(
        f"itwinai.torch.loggers needs lightning ({error}): pip install 'itwinai[lightning]'"
    ) from error

_SUCCESS = ("success", "finished")


class ItwinaiLogger(LightningLogger):  # type: ignore[misc]
    """A logger of itwinai, for the ``logger`` of a Lightning ``Trainer``.

    The logger's context begins with the first thing that is logged.

    Args:
        itwinai_logger: Where everything goes. Of a collection, the first logger that has an
            experiment gives the name, and the first that has a run the version.
        log_model: Which checkpoints are logged as artifacts: False: none; True: those that are
            left at the end; "all": each one when it has been saved.
        skip_finalize: Whether the context is left open at the end, for whoever opened it.
    """

    def __init__(
        self,
        itwinai_logger: Logger,
        log_model: Literal["all"] | bool = False,
        skip_finalize: bool = False,
    ) -> None:
        super().__init__()
        self.itwinai_logger = itwinai_logger
        self.skip_finalize = skip_finalize
        self._log_model = log_model
        self._checkpoint_callback: Checkpoint | None = None
        #: When each checkpoint was written that has been logged.
        self._logged: dict[str, float] = {}

    @property
    def name(self) -> str | None:
        """Experiment of the logger, if it has any."""
        found: str | None = self._first("experiment_id")
        return found

    @property
    def version(self) -> str | None:
        """Run of the logger, if it has any."""
        found: str | None = self._first("run_id")
        return found

    @property
    def save_dir(self) -> str:
        """Folder for what the logger writes."""
        return str(self._first("savedir") or self.itwinai_logger.savedir)

    @property
    def experiment(self) -> Logger:
        """The logger, ready to log."""
        if not self.itwinai_logger.is_initialized:
            self.itwinai_logger.create_logger_context(rank=getattr(rank_zero_only, "rank", 0))
        return self.itwinai_logger

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log each metric by its name."""
        for name, value in metrics.items():
            self.experiment.log(item=value, identifier=name, kind="metric", step=step)

    def log_hyperparams(
        self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Log the hyper-parameters of the run."""
        values = vars(params) if isinstance(params, Namespace) else params
        self.experiment.save_hyperparameters(dict(values))

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        """Log the new checkpoint, or remember to log what will be left of them."""
        keeps_all = getattr(checkpoint_callback, "save_top_k", None) == -1
        if self._log_model == "all" or (self._log_model and keeps_all):
            self._log_checkpoints(checkpoint_callback)
        elif self._log_model:
            self._checkpoint_callback = checkpoint_callback

    def finalize(self, status: str) -> None:
        """Log the checkpoints that are left, and close the logger's context."""
        if self._checkpoint_callback is not None:
            self._log_checkpoints(self._checkpoint_callback)
        if self.itwinai_logger.is_initialized and not self.skip_finalize:
            end_context(self.itwinai_logger, "FINISHED" if status in _SUCCESS else "FAILED")

    def _first(self, attribute: str) -> Any:
        """What the logger says of itself, or the first of a collection that says anything."""
        given = self.itwinai_logger
        loggers = given.loggers if isinstance(given, LoggersCollection) else [given]
        said = (getattr(one, attribute) for one in loggers)
        return next((value for value in said if value is not None), None)

    def _log_checkpoints(self, callback: Checkpoint) -> None:
        for modified, path in _scan_checkpoints(callback, self._logged):
            self.experiment.log(item=path, identifier="checkpoints", kind="artifact")
            self._logged[path] = modified


def _scan_checkpoints(callback: Checkpoint, logged: Mapping[str, float]) -> list[tuple[float, str]]:
    """Time and path of each checkpoint that is there and has not been logged since, by time."""
    paths = {getattr(callback, name, "") for name in ("last_model_path", "best_model_path")}
    paths |= set(getattr(callback, "best_k_models", {}))
    found = [(Path(path).stat().st_mtime, path) for path in paths if path and Path(path).is_file()]
    return sorted((time, path) for time, path in found if logged.get(path, 0.0) < time)
