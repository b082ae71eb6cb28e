"""Several loggers behind one; a back end that fails costs its own records and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itwinai.errors import ConfigurationError, ItwinaiError
from itwinai.loggers.base import Logger, StatusOf, check_initialized
from itwinai.loggers.guard import Guard
from itwinai.loggers.mlflow import MLFlowLogger


class LoggersCollection(Logger):
    """Hands everything on to its loggers, each with its own frequency and workers.

    An exception of a logger is counted, the first one is shown, and the work goes on. Mistakes in
    the configuration, such as a missing package, are raised when the context is created.

    Args:
        loggers: The loggers, no two of one type.
    """

    def __init__(self, loggers: list[Logger]) -> None:
        names = [type(logger).__name__ for logger in loggers]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigurationError(
                f"LoggersCollection: more than one logger of type {', '.join(repeated)}. "
                "Keep one of each type."
            )
        super().__init__(log_freq="batch", log_on_workers=-1)
        self.loggers = loggers
        self.supported_kinds = tuple(
            dict.fromkeys(kind for logger in loggers for kind in logger.supported_kinds)
        )
        self.guards = [Guard(logger) for logger in loggers]

    @property
    def failures(self) -> dict[str, int]:
        """Number of failed calls of each logger since it was started, by the name of its class."""
        return {guard.name: guard.failures.count for guard in self.guards}

    def _open(self, **kwargs: Any) -> None:
        try:
            for guard in self.guards:
                guard.open(self.worker_rank, **kwargs)
        except ItwinaiError:
            self._close("FAILED")
            raise

    def _close(self, status: str) -> None:
        for guard in self.guards:
            guard.close(status)

    def _write_hyperparameters(self, params: Mapping[str, Any]) -> None:
        for guard in self.guards:
            guard.save_hyperparameters(params)

    @check_initialized
    def log(  # noqa: D102
        self,
        item: Any,
        identifier: str,
        kind: str = "metric",
        step: int | None = None,
        batch_idx: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments = {"kind": kind, "step": step, "batch_idx": batch_idx, **kwargs}
        for guard in self.guards:
            guard.log(item, identifier, **arguments)

    def log_checkpoint(self, folder: Path) -> None:  # noqa: D102
        for guard in self.guards:
            guard.log_checkpoint(folder)

    def end_runs_below(self, status_of: StatusOf) -> None:  # noqa: D102
        for guard in self.guards:
            guard.end_runs_below(status_of)


def get_mlflow_logger(logger: Logger | None) -> MLFlowLogger | None:
    """Return the MLflow logger that ``logger`` is or contains, if any."""
    candidates = logger.loggers if isinstance(logger, LoggersCollection) else [logger]
    return next((one for one in candidates if isinstance(one, MLFlowLogger)), None)
