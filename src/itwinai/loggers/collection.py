"""Several loggers behind one; a back end that fails costs its own records and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from itwinai import logger as library_logger
from itwinai.errors import ConfigurationError, ItwinaiError
from itwinai.loggers.base import Logger, check_initialized
from itwinai.loggers.mlflow import MLFlowLogger


class LoggersCollection(Logger):
    """Hands everything on to its loggers, each with its own frequency and workers.

    An exception of a logger is counted in :attr:`failures`, the first one is shown, and the work
    goes on. Mistakes in the configuration, such as a missing package, are raised.

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
        #: Number of failed calls of each logger, by the name of its class.
        self.failures: dict[str, int] = dict.fromkeys(names, 0)

    def _open(self, **kwargs: Any) -> None:
        try:
            self._each(
                "start", lambda one: one.create_logger_context(rank=self.worker_rank, **kwargs)
            )
        except ItwinaiError:
            self._close("FAILED")
            raise

    def _close(self, status: str) -> None:
        # A user's own logger may take no status: it gets one only if there is something to say.
        arguments = {} if status == "FINISHED" else {"status": status}
        self._each("stop", lambda one: one.destroy_logger_context(**arguments))

    def _write_hyperparameters(self, params: Mapping[str, Any]) -> None:
        self._each("save hyper-parameters", lambda one: one.save_hyperparameters(params))

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
        self._each(
            f"log '{identifier}'",
            lambda one: one.log(item=item, identifier=identifier, **arguments),
        )

    def _each(self, action: str, call: Callable[[Logger], None]) -> None:
        for logger in self.loggers:
            try:
                call(logger)
            except ItwinaiError:
                raise
            except Exception as error:  # noqa: BLE001 - counted, and training must go on
                self._count(type(logger).__name__, action, error)

    def _count(self, name: str, action: str, error: Exception) -> None:
        self.failures[name] += 1
        if self.failures[name] == 1:
            library_logger.warning(
                "%s could not %s (%s: %s). The work goes on; "
                "further failures of this logger are only counted.",
                name,
                action,
                type(error).__name__,
                error,
            )


def get_mlflow_logger(logger: Logger | None) -> MLFlowLogger | None:
    """Return the MLflow logger that ``logger`` is or contains, if any."""
    candidates = logger.loggers if isinstance(logger, LoggersCollection) else [logger]
    return next((one for one in candidates if isinstance(one, MLFlowLogger)), None)
