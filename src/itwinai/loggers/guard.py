"""One logger, called such that its failures cost its own records and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from itwinai import logger as library_logger
from itwinai.errors import ItwinaiError
from itwinai.io.failures import Failures
from itwinai.loggers.base import Logger, StatusOf, accepted, end_context

#: Options of single loggers, by the name of their class.
PerLogger = Mapping[str, Mapping[str, Any]]


class Guard:
    """Calls one logger. What it raises is counted, the first one is shown, and the work goes on.

    Options that a method of the logger does not take are left out, so that a user's own logger
    need not know them.

    Args:
        logger: The logger.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger = logger
        self.name = type(logger).__name__
        self.failures = Failures(0, "")
        self._is_open = False

    def open(self, rank: int, per_logger: PerLogger | None = None, **options: Any) -> None:
        """Create the logger's context, and count from zero.

        Args:
            rank: Global rank of this worker.
            per_logger: Options of single loggers, this one's among them.
            options: Options of every logger.

        Raises:
            ItwinaiError: For a mistake to correct, such as a missing package.
        """
        self.failures = Failures(0, "")
        create = self.logger.create_logger_context
        own = (per_logger or {}).get(self.name, {})
        given = accepted(create, {"rank": rank, **options, **own})
        self._is_open = self._call("start", create, **given)

    def close(self, status: str) -> None:
        """Destroy the logger's context, if there is one."""
        if self._is_open:
            self._is_open = False
            self._call("stop", end_context, self.logger, status)

    def save_hyperparameters(self, params: Mapping[str, Any]) -> None:
        """Log the hyper-parameters of the run."""
        self._call("save hyper-parameters", self.logger.save_hyperparameters, params)

    def log(self, item: Any, identifier: str, **arguments: Any) -> None:
        """Log one item."""
        self._call(
            f"log '{identifier}'",
            self.logger.log,
            item=item,
            identifier=identifier,
            **arguments,
        )

    def log_checkpoint(self, folder: Path) -> None:
        """Log copies of a checkpoint's files, if the logger asks for them."""
        self._call(f"log the checkpoint {folder.name}", self.logger.log_checkpoint, folder)

    def end_runs_below(self, status_of: StatusOf) -> None:
        """Give the runs below the logger's run their ends."""
        self._call("end the runs below", self.logger.end_runs_below, status_of)

    def _call(self, action: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Call something of the logger; return whether it worked."""
        try:
            call(*args, **kwargs)
        except Exception as error:
            if action == "start" and isinstance(error, ItwinaiError):
                raise
            self._count(action, error)
            return False
        return True

    def _count(self, action: str, error: Exception) -> None:
        text = f"could not {action} ({type(error).__name__}: {error})"
        self.failures += Failures(1, text)
        if self.failures.count == 1:
            library_logger.warning(
                "%s %s. The work goes on; further failures of this logger are only counted.",
                self.name,
                text,
            )
