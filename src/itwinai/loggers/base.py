"""What every logger shares: its context, which worker logs, and how often."""

from __future__ import annotations

import inspect
import logging
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, cast

from itwinai import logger as library_logger
from itwinai.config.values import expanded, plain
from itwinai.constants import BASE_EXP_NAME as BASE_EXP_NAME
from itwinai.errors import ConfigurationError

LogFrequency = int | Literal["epoch", "batch"]

#: Tells from the tags of a run how it ended.
StatusOf = Callable[[Mapping[str, str]], str | None]

Method = TypeVar("Method", bound=Callable[..., Any])


#: Shows logged values, as the ``itwinai`` logger does.
py_logger = logging.getLogger("itwinai.loggers")


def check_initialized(method: Method) -> Method:
    """Decorate a logger's method: a RuntimeError outside of the logger's context."""

    @wraps(method)
    def checked(self: Logger, *args: Any, **kwargs: Any) -> Any:
        if not self.is_initialized:
            raise RuntimeError(
                f"{type(self).__name__} has not been initialized. "
                "Use it within 'with logger.start_logging():'."
            )
        return method(self, *args, **kwargs)

    return cast(Method, checked)


def check_not_initialized(method: Method) -> Method:
    """Decorate a logger's method: a warning, and nothing else, inside the logger's context."""

    @wraps(method)
    def checked(self: Logger, *args: Any, **kwargs: Any) -> Any:
        if not self.is_initialized:
            return method(self, *args, **kwargs)
        library_logger.warning(
            "Trying to initialize %s twice.. Skipping initialization.", type(self).__name__
        )
        return None

    return cast(Method, checked)


def accepted(method: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the options that a method does not take, such as one of a user's own logger."""
    parameters = inspect.signature(method).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(options)
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in options.items() if name in names}


def end_context(logger: Logger, status: str) -> None:
    """Destroy a logger's context, and say how the run ended if it wants to know."""
    destroy = logger.destroy_logger_context
    destroy(**accepted(destroy, {"status": status}))


class LogMixin(ABC):
    """Something that values can be logged to."""

    @abstractmethod
    def log(
        self,
        item: Any,
        identifier: str,
        kind: str = "metric",
        step: int | None = None,
        batch_idx: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Log one item.

        Args:
            item: What to log.
            identifier: Its name.
            kind: What it is, such as "metric", "param" or "artifact".
            step: Position in the training, for values that form a series.
            batch_idx: Number of the batch; None for a value that is no batch's.
            **kwargs: Options of the back end.
        """


class Logger(LogMixin):
    """Base of all loggers.

    A back end fills in ``_open``, ``_close``, ``_write_hyperparameters`` and the table
    ``_writers``; they are only called on the workers that log.

    Args:
        savedir: Folder for what the logger writes.
        log_freq: "epoch": nothing of single batches; "batch": every batch; N: every N-th batch.
        log_on_workers: Rank or ranks of the workers that log; -1 for all.
        experiment_id: Experiment of the back end.
        run_id: Run of the back end.
    """

    #: Method for each kind of item; called with the item, its identifier, the step, and options.
    _writers: ClassVar[Mapping[str, Callable[..., None]]] = {}
    #: Kinds of items the back end can keep; others are left out.
    supported_kinds: tuple[str, ...] = ()
    #: Whether a run can lie below another; a study then has a run, and its trials' lie below it.
    nests_runs: ClassVar[bool] = False
    #: Whether copies of checkpoints are logged, as artifacts.
    log_checkpoints: bool = False

    def __init__(
        self,
        savedir: str | Path = "mllogs",
        log_freq: LogFrequency = "epoch",
        log_on_workers: int | list[int] = 0,
        experiment_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        self.savedir = expanded(savedir)
        self.log_freq = log_freq
        self.log_on_workers = log_on_workers
        self.experiment_id = experiment_id
        self.run_id = run_id
        self.worker_rank = 0
        self.is_initialized = False

    @property
    def log_freq(self) -> LogFrequency:
        """How often the values of batches are logged."""
        return self._log_freq

    @log_freq.setter
    def log_freq(self, value: LogFrequency) -> None:
        is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
        if not is_count and value not in ("epoch", "batch"):
            raise ConfigurationError(
                f"{type(self).__name__}: log_freq is {value!r}; "
                "it must be 'epoch', 'batch' or a number above zero."
            )
        self._log_freq = value

    @property
    def log_on_workers(self) -> int | list[int]:
        """Rank or ranks of the workers that log; -1 for all."""
        return self._log_on_workers

    @log_on_workers.setter
    def log_on_workers(self, value: int | list[int]) -> None:
        given: Any = plain(value)  # whatever YAML gave
        ranks = [given] if isinstance(given, str) or not isinstance(given, Sequence) else given
        if not all(isinstance(r, int) and not isinstance(r, bool) and r >= -1 for r in ranks):
            raise ConfigurationError(
                f"{type(self).__name__}: log_on_workers is {given!r}; "
                "it must be a rank (0 is the first), a list of ranks, or -1 for all."
            )
        self._log_on_workers: int | list[int] = given

    @contextmanager
    def start_logging(self, rank: int = 0) -> Iterator[None]:
        """Create the context and destroy it after; a run left by an exception counts as failed.

        Args:
            rank: Global rank of this worker.
        """
        self.create_logger_context(rank=rank)
        try:
            yield
        except BaseException:
            end_context(self, "FAILED")
            raise
        end_context(self, "FINISHED")

    @check_not_initialized
    def create_logger_context(self, rank: int = 0, **kwargs: Any) -> None:
        """Make ready to log.

        Args:
            rank: Global rank of this worker.
            **kwargs: Options of the back end; those it does not know are ignored. A training gives
                ``run_name``; within a study also ``group``, the study's name, and ``tags``;
                ``run_id``, the run of a training that is continued; and ``parent_run_id``, to a
                logger that nests runs.

        Raises:
            MissingPackageError: If the package of the back end is not installed.
        """
        self.worker_rank = rank
        if self.should_log():
            self._open(**kwargs)
        self.is_initialized = True

    @check_initialized
    def destroy_logger_context(self, status: str = "FINISHED") -> None:
        """Close what :meth:`create_logger_context` opened.

        Args:
            status: How the run ended: "FINISHED", "FAILED" or "KILLED".

        Raises:
            RuntimeError: Without a context.
        """
        self.is_initialized = False
        if self.should_log():
            self._close(status)

    def check_package(self) -> None:
        """Make sure that the package of the back end is installed.

        Raises:
            MissingPackageError: If it is not.
        """

    def end_runs_below(self, status_of: StatusOf) -> None:
        """Give the runs below this one their ends; processes that are no more left some open.

        Args:
            status_of: Tells from a run's tags how it ended; None: leave it as it is.
        """

    @check_initialized
    def save_hyperparameters(self, params: Mapping[str, Any]) -> None:
        """Log the hyper-parameters of the run."""
        if self.should_log():
            self._write_hyperparameters(params)

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
        if kind in self._writers and self.should_log(batch_idx):
            self._writers[kind](self, item, identifier, step, **kwargs)

    def log_checkpoint(self, folder: Path) -> None:
        """Log copies of a checkpoint's files as artifacts, if this logger asks for them.

        They are named ``<checkpoint>_model``, ``<checkpoint>_state`` and ``<checkpoint>_config``.

        Args:
            folder: The checkpoint.
        """
        for name in ("model", "state", "config") if self.log_checkpoints else ():
            for file in folder.glob(f"{name}.*"):  # a model in shards has none
                self.log(item=str(file), identifier=f"{folder.name}_{name}", kind="artifact")

    def serialize(self, obj: Any, identifier: str) -> str:
        """Pickle an object to ``<savedir>/<identifier>``; return the file's path."""
        path = Path(self.savedir) / identifier
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(obj))
        return str(path)

    def logs_on(self, rank: int) -> bool:
        """Tell whether the worker of this rank logs."""
        workers = self.log_on_workers
        ranks = [workers] if isinstance(workers, int) else workers
        return rank in ranks or -1 in ranks

    def should_log(self, batch_idx: int | None = None) -> bool:
        """Tell whether this worker logs, and logs this batch.

        Args:
            batch_idx: Number of the batch; None for a value that is no batch's.
        """
        if not self.logs_on(self.worker_rank):
            return False
        if batch_idx is None:
            return True
        if isinstance(self.log_freq, int):
            return batch_idx % self.log_freq == 0
        return self.log_freq == "batch"

    def _open(self, **kwargs: Any) -> None:
        """Open the back end."""

    def _close(self, status: str) -> None:
        """Close the back end."""

    def _write_hyperparameters(self, params: Mapping[str, Any]) -> None:
        """Hand the hyper-parameters to the back end."""


class EmptyLogger(Logger):
    """Accepts everything, at any time, and keeps nothing."""

    def destroy_logger_context(self, status: str = "FINISHED") -> None:  # noqa: D102
        self.is_initialized = False

    def save_hyperparameters(self, params: Mapping[str, Any]) -> None:  # noqa: D102
        return

    def log(  # noqa: D102
        self,
        item: Any,
        identifier: str,
        kind: str = "metric",
        step: int | None = None,
        batch_idx: int | None = None,
        **kwargs: Any,
    ) -> None:
        return
