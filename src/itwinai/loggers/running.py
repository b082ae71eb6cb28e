"""One training's run: opened below the right one, guarded, and closed with its real end."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from itwinai import logger as library_logger
from itwinai.io.failures import FILE_NAME, add_failures
from itwinai.io.files import write_text
from itwinai.job import JobEnds
from itwinai.loggers.base import Logger
from itwinai.loggers.collection import LoggersCollection
from itwinai.loggers.guard import PerLogger
from itwinai.loggers.mlflow import ROOT
from itwinai.reporting import TrialStopped

#: Name of the file that keeps the ids of runs; other ranks' have the rank in it.
RUNS = "runs.json"

#: Tag of a process's run, where a training has several.
WORKER = "itwinai.worker"


class Team(Protocol):
    """The processes that train together."""

    def global_rank(self) -> int:
        """Rank of this one."""
        ...

    def global_world_size(self) -> int:
        """How many they are."""
        ...

    def broadcast_obj(self, obj: Any, src_rank: int) -> Any:
        """Give all of them what one has."""
        ...


@dataclass(frozen=True)
class RunContext:
    """What a training's run belongs to.

    Attributes:
        group: What the run is one of many of: a study's name.
        tags: Tags of the run.
        parents: Id of the run above it, by the name of the logger's class.
        folder: Keeps which runs there are, for a training that is continued and then goes on with
            them, and the failures of loggers; None: nothing is kept.
    """

    group: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


@contextmanager
def running(
    logger: Logger | None,
    team: Team,
    hyper_parameters: Mapping[str, Any],
    run_name: str | None = None,
    context: RunContext | None = None,
) -> Iterator[LoggersCollection]:
    """Log one training, from each of its processes.

    Where several of them log, each has a run of its own; those of a logger that nests runs lie
    below one of the training.

    Args:
        logger: As the user made it, or None.
        team: The processes of the training.
        hyper_parameters: Those of the run.
        run_name: Name of the run.
        context: What the run belongs to.

    Yields:
        A logger that never fails; after the training it tells what could not be logged.

    Raises:
        ItwinaiError: At the start, for a mistake to correct, such as a missing package.
    """
    run = _Run(guarded(logger), team, run_name, context or RunContext())
    try:
        with ExitStack() as stack:
            parents = run.context.parents
            if run.shared:
                above = run.opened(run.above, run.options_above(), hyper_parameters)
                stack.enter_context(above)
                parents = team.broadcast_obj(ids_of(run.above), src_rank=0)
            stack.enter_context(run.opened(run.own, run.options(parents), hyper_parameters))
            run.keep_ids()
            yield run.own
    finally:
        tell_failures([run.own, run.above], run.file(FILE_NAME))


class _Run:
    """The loggers of one process of a training, and what each of them is told at the start.

    Args:
        own: Those of this process.
        team: The processes of the training.
        name: Name of the run.
        context: What the run belongs to.
    """

    def __init__(
        self, own: LoggersCollection, team: Team, name: str | None, context: RunContext
    ) -> None:
        self.own, self.name, self.context = own, name, context
        self.rank = team.global_rank()
        ranks = range(team.global_world_size())
        #: Loggers of which several processes have one that logs.
        self.several = [one for one in own.loggers if sum(map(one.logs_on, ranks)) > 1]
        self.shared = [one for one in self.several if one.nests_runs]
        for one in self.shared:
            one.check_package()  # on all ranks, because they wait for each other below
        #: On rank 0: the runs of the training that those of its processes lie below.
        self.above = nesting(self.shared if self.rank == 0 else [])
        kept = self.file(RUNS)
        self.kept = json.loads(kept.read_text("utf-8")) if kept and kept.exists() else {}

    def options(self, parents: Mapping[str, str]) -> PerLogger:
        """Options of this process's loggers."""
        options = {}
        for one in self.own.loggers:
            is_one_of_several = one in self.several
            above = parents if one in self.shared else self.context.parents
            options[_name(one)] = self._options(one, "own", above, is_one_of_several)
        return options

    def options_above(self) -> PerLogger:
        """Options of the training's own run, where its processes have runs below it."""
        parents = self.context.parents
        return {
            _name(one): self._options(one, "above", parents, False) for one in self.above.loggers
        }

    def _options(
        self, one: Logger, which: str, parents: Mapping[str, str], is_one_of_several: bool
    ) -> dict[str, Any]:
        name, tags, key = self.name, dict(self.context.tags), _name(one)
        if is_one_of_several:
            name = "-".join(filter(None, [name, f"worker-{self.rank}"]))
            tags[WORKER] = str(self.rank)
        if key in self.context.parents:
            tags[ROOT] = self.context.parents[key]
        options = {
            "run_name": name,
            "group": self.context.group,
            "tags": tags,
            "parent_run_id": parents.get(key),
            "run_id": self.kept.get(which, {}).get(key),
        }
        return {option: value for option, value in options.items() if value}

    @contextmanager
    def opened(
        self, loggers: LoggersCollection, options: PerLogger, hyper_parameters: Mapping[str, Any]
    ) -> Iterator[None]:
        """Open loggers, and close them with the state that the training ends in."""
        loggers.create_logger_context(rank=self.rank, per_logger=options)
        status = "FAILED"
        try:
            loggers.save_hyperparameters(hyper_parameters)
            yield
            status = "FINISHED"
        except (TrialStopped, JobEnds, KeyboardInterrupt):
            status = "KILLED"
            raise
        finally:
            loggers.destroy_logger_context(status)

    def keep_ids(self) -> None:
        """Keep the ids of the open runs for a continuation."""
        path, ids = self.file(RUNS), {"own": ids_of(self.own), "above": ids_of(self.above)}
        if path is not None and any(ids.values()) and ids != self.kept:
            write_text(path, json.dumps(ids, indent=2) + "\n")

    def file(self, name: str) -> Path | None:
        """A file of this process in the folder of the run."""
        stem, suffix = name.split(".")
        rank = f"-{self.rank}" if self.rank else ""
        return self.context.folder and self.context.folder / f"{stem}{rank}.{suffix}"


def guarded(logger: Logger | None) -> LoggersCollection:
    """Return a logger that hands everything on, and whose failures are only counted."""
    if isinstance(logger, LoggersCollection):
        return logger
    return LoggersCollection([] if logger is None else [logger])


def nesting(loggers: list[Logger]) -> LoggersCollection:
    """Copy the loggers that nest runs, to open a run above theirs."""
    copies = [copy.deepcopy(one) for one in loggers if one.nests_runs]
    for one in copies:
        one.log_on_workers = -1
    return LoggersCollection(copies)


def ids_of(loggers: LoggersCollection) -> dict[str, str]:
    """Ids of the open runs, by the name of the logger's class."""
    opened = [one for one in loggers.loggers if one.is_initialized and one.should_log()]
    return {_name(one): str(one.run_id) for one in opened if one.run_id is not None}


def tell_failures(collections: list[LoggersCollection], path: Path | None) -> None:
    """Say at the end what could not be logged, and keep it in a file."""
    for loggers in collections:
        failures = {guard.name: guard.failures for guard in loggers.guards if guard.failures.count}
        for name, failed in failures.items():
            library_logger.warning("%s", failed.of(name))
        if path is not None:
            add_failures(path, failures)


def _name(logger: Logger) -> str:
    return type(logger).__name__
