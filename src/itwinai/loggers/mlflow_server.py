"""Runs on a tracking server of MLflow: what is logged is spooled, and the spool is sent.

mlflow is imported here, so this module is imported by whoever is about to use it.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from mlflow import MlflowClient, MlflowException
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from itwinai.confidential import without_user
from itwinai.loggers.sending import Sender, all_or_each
from itwinai.loggers.spool import Call, Spool, SpoolError

#: Tag of the name that a run has before the server gives it an id.
NAME = "itwinai.run"
_NAME_BEGINS = "itwinai-run-"

#: Seconds that a request may take: while a training runs, and when nothing waits for it.
WHILE_TRAINING_S, AFTERWARDS_S = 5, 30

#: What a server answers about the call itself, which would be no better later.
_REFUSALS = (
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "MALFORMED_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "INVALID_STATE",
)


def experiment_id(client: Any, name: str) -> str:
    """Return the id of an experiment, which is made if it does not exist."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise  # no other process was faster
    return str(experiment.experiment_id)


def is_refusal(error: Exception) -> bool:
    """Whether an error is about a call itself, and not about a server that is away."""
    if isinstance(error, MlflowException):
        return error.error_code in _REFUSALS
    return isinstance(error, (SpoolError, KeyError, TypeError, FileNotFoundError))


class SpooledClient(MlflowClient):  # type: ignore[misc]
    """A client whose calls that write to a run never wait for the server.

    They are spooled for the one run that the spool is of; its id is not looked at. What the client
    makes files of, such as figures, goes the same way.

    Args:
        tracking_uri: The server.
        sender: Takes the calls.
    """

    def __init__(self, tracking_uri: str, sender: Sender) -> None:
        super().__init__(tracking_uri=tracking_uri)
        self._sender = sender

    def log_metric(  # noqa: D102
        self, run_id: str, key: str, value: Any, timestamp: int | None = None, step: Any = None
    ) -> None:
        point = {"value": float(value), "timestamp": timestamp or now_ms(), "step": int(step or 0)}
        self._sender.add({"call": "metric", "key": key, **point})

    def log_batch(  # noqa: D102
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[Any] = (),
        synchronous: bool | None = None,
    ) -> None:
        for metric in metrics:
            self.log_metric(run_id, metric.key, metric.value, metric.timestamp, metric.step)
        for param in params:
            self._sender.add({"call": "param", "key": param.key, "value": param.value})
        for tag in tags:
            self.set_tag(run_id, tag.key, tag.value)

    def set_tag(  # noqa: D102
        self, run_id: str, key: str, value: Any, synchronous: bool | None = None
    ) -> None:
        self._sender.add({"call": "tag", "key": key, "value": str(value)})

    def log_artifact(  # noqa: D102
        self, run_id: str, local_path: str, artifact_path: str | None = None
    ) -> None:
        self._add_file("artifact", local_path, artifact_path)

    def log_artifacts(  # noqa: D102
        self, run_id: str, local_dir: str, artifact_path: str | None = None
    ) -> None:
        self._add_file("artifacts", local_dir, artifact_path)

    def _add_file(self, call: str, path: str, target: str | None) -> None:
        kept = self._sender.spool.keep(Path(path).absolute())
        self._sender.add({"call": call, "file": kept, "to": target})

    def log_inputs(  # noqa: D102
        self, run_id: str, datasets: Sequence[DatasetInput] | None = None, models: Any = None
    ) -> None:
        for one in datasets or ():
            tags = {tag.key: tag.value for tag in one.tags}
            self._sender.add({"call": "dataset", "dataset": dict(one.dataset), "tags": tags})

    def set_terminated(  # noqa: D102
        self, run_id: str, status: str | None = None, end_time: int | None = None
    ) -> None:
        end = {"status": status or "FINISHED", "end_time": end_time or now_ms()}
        self._sender.add({"call": "end", **end})


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def opening(
    tracking_uri: str,
    experiment: str,
    run_name: str | None,
    run_id: str | None,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """The call that opens a run, or goes on with one.

    Args:
        tracking_uri: The server.
        experiment: Name of the experiment.
        run_name: Name of the run, as people see it.
        run_id: Id or name of the run to go on with; None: a new one.
        tags: Tags of a new run; those that are the name of a run become its id.
    """
    return {
        "call": "run",
        "service": "mlflow",
        "uri": without_user(tracking_uri),  # a file is no place for a password
        "experiment": experiment,
        "name": run_id or f"{_NAME_BEGINS}{uuid.uuid4().hex}",
        "goes_on": run_id is not None,
        "run_name": run_name,
        "start_time": now_ms(),
        "tags": dict(tags),
    }


class ServerRun:
    """Makes the calls of one spool.

    A call may be made twice, where an answer was lost; that changes nothing, because a point of a
    metric has its time, and a run its name.

    Args:
        spool: Has the calls, and the files that they name.
        tracking_uri: The server.
        afterwards: Whether the training has ended, and another may have gone on with its run.
    """

    together: frozenset[str] = frozenset({"metric", "param"})

    def __init__(self, spool: Spool, tracking_uri: str, afterwards: bool = False) -> None:
        self._spool, self._opening = spool, spool.first()
        self._afterwards = self._maybe_made = afterwards
        self.name = f"MLflow's server {without_user(tracking_uri)}"
        self._client = MlflowClient(tracking_uri=tracking_uri)
        #: The ``mlflow.entities.Run``, as it was when it was opened; None before.
        self.run: Any = None

    def make(self, calls: Sequence[Call]) -> list[Exception]:
        """Make calls of one name; return an error for each that the server refuses."""
        make = self._makers.get(calls[0]["call"])
        if make is None:
            return [SpoolError(f"{call['call']!r} is no call of MLflow") for call in calls]
        with brief_requests(AFTERWARDS_S if self._afterwards else WHILE_TRAINING_S):
            run_id = self._open()
            return all_or_each(lambda some: make(self, run_id, some), calls, is_refusal)

    def _open(self) -> str:
        """Open the run if it is not open; return its id."""
        if self.run is None:
            self.run = self._continued() if self._opening["goes_on"] else self._new()
        return str(self.run.info.run_id)

    def _new(self) -> Any:
        """Make the run, unless an earlier try, whose answer was lost, has made it."""
        opening, experiment = (
            self._opening,
            experiment_id(self._client, self._opening["experiment"]),
        )
        made = self._find(opening["name"], experiment) if self._maybe_made else None
        if made is not None:
            return made
        tags = {key: self._id_of(value, experiment) for key, value in opening["tags"].items()}
        self._maybe_made = True
        return self._client.create_run(
            experiment, opening["start_time"], {**tags, NAME: opening["name"]}, opening["run_name"]
        )

    def _continued(self) -> Any:
        name = self._opening["name"]
        if name.startswith(_NAME_BEGINS):
            name = self._id_of(name, experiment_id(self._client, self._opening["experiment"]))
        if not self._afterwards:
            self._client.update_run(name, status="RUNNING")
        return self._client.get_run(name)

    def _find(self, name: str, experiment: str) -> Any:
        found = self._client.search_runs([experiment], f"tags.`{NAME}` = '{name}'", max_results=1)
        return found[0] if found else None

    def _id_of(self, value: str, experiment: str) -> str:
        """The id of the run of this name; what is no such name stays as it is."""
        if not value.startswith(_NAME_BEGINS):
            return value
        run = self._find(value, experiment)
        if run is None:
            raise LookupError("the run above it, or which it goes on with, is not there yet")
        return str(run.info.run_id)

    def _run(self, run_id: str, calls: Sequence[Call]) -> None:
        """The run is open now."""

    def _metrics(self, run_id: str, calls: Sequence[Call]) -> None:
        points = [Metric(c["key"], c["value"], c["timestamp"], c["step"]) for c in calls]
        self._client.log_batch(run_id, metrics=points, synchronous=True)

    def _params(self, run_id: str, calls: Sequence[Call]) -> None:
        params = [Param(call["key"], call["value"]) for call in calls]
        self._client.log_batch(run_id, params=params, synchronous=True)

    def _tag(self, run_id: str, calls: Sequence[Call]) -> None:
        for call in calls:
            self._client.set_tag(run_id, call["key"], call["value"])

    def _artifact(self, run_id: str, calls: Sequence[Call]) -> None:
        for call in calls:
            self._client.log_artifact(run_id, str(self._spool.kept(call["file"])), call["to"])

    def _artifacts(self, run_id: str, calls: Sequence[Call]) -> None:
        for call in calls:
            self._client.log_artifacts(run_id, str(self._spool.kept(call["file"])), call["to"])

    def _dataset(self, run_id: str, calls: Sequence[Call]) -> None:
        for call in calls:
            tags = [InputTag(key, value) for key, value in call["tags"].items()]
            dataset = Dataset.from_dictionary(call["dataset"])
            self._client.log_inputs(run_id, [DatasetInput(dataset, tags)])

    def _end(self, run_id: str, calls: Sequence[Call]) -> None:
        for call in calls:
            self._end_with(run_id, call["status"], call["end_time"])

    def finish(self) -> None:
        """Give a run that a killed process has left open the end "FAILED"."""
        if not any(call["call"] == "end" for call in self._spool.all()):
            with brief_requests(AFTERWARDS_S):
                self._end_with(self._open(), "FAILED", self._spool.last_change_ms())

    def _end_with(self, run_id: str, status: str, end_time: int) -> None:
        """Tell how the run has ended, unless it has ended again since."""
        known = self._client.get_run(run_id).info.end_time if self._afterwards else None
        if known is None or known < end_time:
            self._client.set_terminated(run_id, status, end_time)

    _makers: ClassVar[Mapping[str, Callable[[ServerRun, str, Sequence[Call]], None]]] = {
        "run": _run,
        "metric": _metrics,
        "param": _params,
        "tag": _tag,
        "artifact": _artifact,
        "artifacts": _artifacts,
        "dataset": _dataset,
        "end": _end,
    }


class _BriefRequests:
    """Requests of mlflow that end soon, and are not tried again, while one asks for it.

    What the user has set stays. mlflow reads these from the environment alone, and several loggers
    of one process ask at the same time, so they are counted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._set: list[str] = []

    @contextmanager
    def of(self, seconds: int = WHILE_TRAINING_S) -> Iterator[None]:
        """Let a request take so many seconds; of several who ask, the first decides."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._begin(seconds)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._end()

    def _begin(self, seconds: int) -> None:
        wanted = {
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        }
        self._set = [name for name in wanted if name not in os.environ]
        os.environ.update({name: wanted[name] for name in self._set})

    def _end(self) -> None:
        for name in self._set:
            os.environ.pop(name, None)


brief_requests = _BriefRequests().of
