"""What every logger must do, proved with the logger itself.

One line proves a logger, in a script or a test::

    check_logger(MyLogger)

Each rule is a function below. It gets a :class:`Bench`, which makes loggers that write to a new
folder and, if told how, reads back what they wrote.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import itwinai
from itwinai.loggers import Logger, RunContext, running
from itwinai.testing.claims import BrokenClaimError, must, must_equal, must_raise

#: Gives the metrics in a folder, as pairs of identifier and value, in any order.
Reader = Callable[[Path], Collection[tuple[str, float]]]


class Factory(Protocol):
    """Makes a logger: a class, or a function."""

    def __call__(self, *, savedir: Path, log_freq: Any, log_on_workers: Any) -> Logger:
        """Make a logger that writes to a folder."""
        ...


class BrokenLoggerError(AssertionError):
    """A logger breaks a rule.

    Attributes:
        rule: The rule's name.
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"the logger breaks the rule '{rule}': {reason}")
        self.rule = rule


def check_logger(factory: Factory, read: Reader | None = None, timeout: float = 300) -> list[str]:
    """Prove that a logger keeps all rules.

    Processes are started, so a script calls this below ``if __name__ == "__main__":``.

    Args:
        factory: Returns a new logger for the arguments ``savedir``, ``log_freq`` and
            ``log_on_workers``; a class, for example.
        read: Gives the metrics that loggers wrote to a folder. With it the rules are proved by what
            was written; without, by what the logger says that it does.
        timeout: Seconds after which processes that do not end are given up.

    Returns:
        The names of the rules that were checked.

    Raises:
        BrokenLoggerError: For the first rule that is broken.
    """
    for rule in RULES:
        name = rule.__name__.replace("_", " ")
        with tempfile.TemporaryDirectory(prefix="itwinai-") as folder:
            try:
                rule(Bench(factory, read, Path(folder), timeout))
            except Exception as error:
                reason = str(error) if isinstance(error, BrokenClaimError) else repr(error)
                raise BrokenLoggerError(name, reason) from error
    return [rule.__name__.replace("_", " ") for rule in RULES]


class Bench:
    """Makes the loggers of one rule.

    Args:
        factory: Returns a new logger.
        read: Gives the metrics that loggers wrote to a folder.
        root: Where folders are made.
        timeout: Seconds after which processes that do not end are given up.
    """

    def __init__(
        self, factory: Factory, read: Reader | None, root: Path, timeout: float = 300
    ) -> None:
        self._factory, self._read, self._root = factory, read, root
        self._numbers = count()
        self.timeout = timeout

    def new(self, log_freq: Any = "epoch", log_on_workers: Any = 0) -> tuple[Logger, Path]:
        """Make a logger, and the folder that it writes to."""
        folder = self._root / str(next(self._numbers))
        folder.mkdir()
        made = self._factory(savedir=folder, log_freq=log_freq, log_on_workers=log_on_workers)
        return made, folder

    def must_hold(self, folder: Path, *metrics: tuple[str, float]) -> None:
        """Make sure that a folder holds these metrics and no others."""
        if self._read is not None:
            found = sorted((name, float(value)) for name, value in self._read(folder))
            must_equal(found, sorted(metrics), "metrics that were written")


# -- the rules -------------------------------------------------------------------------------------


def nothing_is_logged_before_the_start(bench: Bench) -> None:
    """Outside of its context a logger raises RuntimeError."""
    logger, folder = bench.new()
    must(not logger.is_initialized, "is_initialized is true before the start")
    must_raise(RuntimeError, lambda: logger.log(1.0, "loss"), "log() before the start")
    params: dict[str, Any] = {}
    must_raise(
        RuntimeError,
        lambda: logger.save_hyperparameters(params),
        "save_hyperparameters() before the start",
    )
    destroy = logger.destroy_logger_context
    must_raise(RuntimeError, destroy, "destroy_logger_context() before the start")
    bench.must_hold(folder)


def a_second_start_warns_and_changes_nothing(bench: Bench) -> None:
    """The second ``create_logger_context()`` is one warning; the first context stays."""
    logger, folder = bench.new()
    with logger.start_logging():
        logger.log(1.0, "loss", step=0)
        with _warnings() as warnings:
            logger.create_logger_context()
        must_equal(len(warnings), 1, "number of warnings of a second start")
        must(logger.is_initialized, "a second start ended the first context")
        logger.log(2.0, "accuracy", step=0)
    bench.must_hold(folder, ("loss", 1.0), ("accuracy", 2.0))


def it_can_be_stopped_and_started_again(bench: Bench) -> None:
    """After ``destroy_logger_context()`` it is as before the start, and can be started again."""
    logger, folder = bench.new()
    for number in (1, 2):
        logger.create_logger_context()
        logger.log(float(number), f"loss{number}", step=0)
        logger.destroy_logger_context()
        must(not logger.is_initialized, "is_initialized is true after the end")
        must_raise(RuntimeError, logger.destroy_logger_context, "a second end")
        must_raise(RuntimeError, lambda: logger.log(9.0, "loss"), "log() after the end")
    bench.must_hold(folder, ("loss1", 1.0), ("loss2", 2.0))


def the_context_ends_with_an_exception(bench: Bench) -> None:
    """An exception of the training passes, and the context has ended."""
    logger, folder = bench.new()

    def fail() -> None:
        with logger.start_logging():
            logger.log(1.0, "loss", step=0)
            raise ZeroDivisionError

    must_raise(ZeroDivisionError, fail, "an exception in the context")
    must(not logger.is_initialized, "is_initialized is true after an exception")
    bench.must_hold(folder, ("loss", 1.0))


def only_the_chosen_workers_log(bench: Bench) -> None:
    """``log_on_workers`` is a rank, a list of ranks, or -1 for all."""
    for workers, rank, logs in (
        (0, 0, True),
        (0, 1, False),
        (2, 2, True),
        (-1, 7, True),
        ([0, 3], 3, True),
        ([0, 3], 1, False),
    ):
        case = f"log_on_workers={workers}, rank {rank}"
        logger, folder = bench.new(log_on_workers=workers)
        with logger.start_logging(rank=rank):
            logger.save_hyperparameters({"lr": 0.1})
            logger.log(1.0, "loss", step=0)
            must_equal(logger.should_log(), logs, f"should_log() with {case}")
        must(logs or not any(folder.iterdir()), f"something was written with {case}")
        bench.must_hold(folder, *[("loss", 1.0)] * logs)


def the_frequency_chooses_batches_alone(bench: Bench) -> None:
    """``log_freq`` chooses among the values of batches, and leaves out none of an epoch's."""
    for log_freq, batches in (
        ("epoch", []),
        ("batch", [0, 1, 2, 3, 4]),
        (1, [0, 1, 2, 3, 4]),
        (3, [0, 3]),
    ):
        logger, folder = bench.new(log_freq=log_freq)
        with logger.start_logging():
            for batch in range(5):
                logger.log(float(batch), f"batch{batch}", step=batch, batch_idx=batch)
            logger.log(9.0, "epoch", step=0)
            chosen = [batch for batch in range(5) if logger.should_log(batch)]
            must_equal(chosen, batches, f"batches chosen with log_freq={log_freq!r}")
        expected = [(f"batch{batch}", float(batch)) for batch in batches]
        bench.must_hold(folder, *expected, ("epoch", 9.0))


def a_wrong_frequency_is_refused(bench: Bench) -> None:
    """At once, and when it is set later, by a ValueError."""
    logger, _ = bench.new(log_freq=2)
    for wrong in (0, -3, "never", True, None, 1.5):
        must_raise(ValueError, partial(bench.new, log_freq=wrong), f"log_freq={wrong!r}")
        later = partial(setattr, logger, "log_freq", wrong)
        must_raise(ValueError, later, f"setting log_freq to {wrong!r}")
    must_equal(logger.log_freq, 2, "log_freq after wrong values")


def unknown_kinds_are_left_out(bench: Bench) -> None:
    """An item that the back end cannot keep is no error."""
    logger, folder = bench.new()
    with logger.start_logging():
        logger.log(object(), "thing", kind="no such kind")
        logger.log(1.0, "loss", step=0)
    bench.must_hold(folder, ("loss", 1.0))


def hyper_parameters_are_of_any_type(bench: Bench) -> None:
    """What is in a configuration can be saved."""
    logger, _ = bench.new()
    values = (1, 0.5, True, None, "text", [1, 2], (3,), {"a": {"b": 1}}, Path("x"), 1 + 2j, int)
    with logger.start_logging():
        logger.save_hyperparameters({f"p{i}": value for i, value in enumerate(values)})
        logger.save_hyperparameters({})


def it_knows_what_a_training_tells_it(bench: Bench) -> None:
    """A training gives names and tags, and goes on with a run; nothing of it fails."""
    logger, folder = bench.new()
    context = RunContext(group="study", tags={"itwinai.trial": "3"}, folder=folder / "kept")
    for number in (1, 2):
        with running(logger, _Alone(), {"lr": 0.1}, "trial-3", context) as guarded:
            guarded.log(float(number), f"loss{number}", step=0)
        failures = [guard.failures.of(guard.name) for guard in guarded.guards]
        must(not any(guarded.failures.values()), "; ".join(failures))
    must(not logger.is_initialized, "is_initialized is true after the training")


def what_it_raises_stops_no_training(bench: Bench) -> None:
    """A training goes on without the logger, also when the service is away from the beginning."""
    methods = (
        "create_logger_context",
        "save_hyperparameters",
        "log",
        "destroy_logger_context",
    )
    for method in methods:
        logger, _ = bench.new()
        setattr(logger, method, _away)
        with running(logger, _Alone(), {"lr": 0.1}) as guarded:
            guarded.log(1.0, "loss", step=0)
        must(any(guarded.failures.values()), f"a failure of {method}() was not counted")
        logger.__dict__.pop(method)
        if logger.is_initialized:
            logger.destroy_logger_context()


def it_travels_to_other_processes(bench: Bench) -> None:
    """Before the start it can be pickled, and two processes can log at the same time."""
    loggers = [bench.new() for _ in range(2)]
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(2, spawn) as pool:
        together = manager.Barrier(2)
        tasks = [
            pool.submit(_log_in_process, pickle.dumps(logger), float(number), together)
            for number, (logger, _) in enumerate(loggers)
        ]
        for task in tasks:
            task.result(bench.timeout)
    for number, (_, folder) in enumerate(loggers):
        bench.must_hold(folder, ("loss", float(number)))


def it_survives_a_fork(bench: Bench) -> None:
    """A process that was forked before the start can log."""
    if not hasattr(os, "fork"):
        return
    logger, folder = bench.new()
    spawn = multiprocessing.get_context("spawn")
    # From a new process, because forking one that has threads is not safe.
    with ProcessPoolExecutor(1, spawn) as pool:
        code = pool.submit(_log_in_fork, pickle.dumps(logger), bench.timeout).result(bench.timeout)
    must_equal(code, 0, "exit code of the forked process")
    bench.must_hold(folder, ("loss", 5.0))


RULES: tuple[Callable[[Bench], None], ...] = (
    nothing_is_logged_before_the_start,
    a_second_start_warns_and_changes_nothing,
    it_can_be_stopped_and_started_again,
    the_context_ends_with_an_exception,
    only_the_chosen_workers_log,
    the_frequency_chooses_batches_alone,
    a_wrong_frequency_is_refused,
    unknown_kinds_are_left_out,
    hyper_parameters_are_of_any_type,
    it_knows_what_a_training_tells_it,
    what_it_raises_stops_no_training,
    it_travels_to_other_processes,
    it_survives_a_fork,
)


# -- inside ----------------------------------------------------------------------------------------


class _Alone:
    """The team of a single process."""

    def global_rank(self) -> int:
        return 0

    def global_world_size(self) -> int:
        return 1

    def broadcast_obj(self, obj: Any, src_rank: int) -> Any:
        return obj


def _away(*args: Any, **kwargs: Any) -> None:
    raise ConnectionError("the service is away")


def _log_in_process(pickled: bytes, value: float, together: threading.Barrier | None) -> None:
    logger: Logger = pickle.loads(pickled)
    with logger.start_logging():
        if together is not None:
            together.wait()
        logger.save_hyperparameters({"value": value})
        logger.log(value, "loss", step=0)


def _log_in_fork(pickled: bytes, timeout: float) -> int | None:
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=_log_in_process, args=(pickled, 5.0, None))
    child.start()
    child.join(timeout)
    child.kill()
    return child.exitcode


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect the warnings of the package's logger."""
    messages: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Collecting(logging.WARNING)
    itwinai.logger.addHandler(handler)
    try:
        yield messages
    finally:
        itwinai.logger.removeHandler(handler)
