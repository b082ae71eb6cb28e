"""A logger for MLflow: a local folder by default, or any tracking server.

What the logger writes names its run, and does not depend on the run and server that mlflow keeps
in global variables; those are set only for the user's own calls of mlflow's functions.

What goes to a server over HTTP is spooled first and sent from a thread, so that no training waits
for a server that does not answer; everything else is written at once.
"""

from __future__ import annotations

import fcntl
import inspect
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlparse

from itwinai import logger as library_logger
from itwinai.confidential import masked
from itwinai.config.values import name_of, truth_of
from itwinai.errors import ConfigurationError, MissingPackageError
from itwinai.loggers.base import BASE_EXP_NAME, LogFrequency, Logger, StatusOf
from itwinai.loggers.naming import Names
from itwinai.loggers.sending import Sender, all_or_each
from itwinai.loggers.spool import UNSENT, Spool

if TYPE_CHECKING:
    from itwinai.loggers.mlflow_server import ServerRun

URI_VARIABLE = "MLFLOW_TRACKING_URI"
PARAMS_PER_REQUEST = 100

#: Tags of the values that parameters have in a run that goes on, where they have changed.
NOW = "now"

#: Seconds that a training waits at its start for a server to name its run; mlflow's own functions
#: reach only a run that is known then.
FOR_A_RUN_S = 2.0

#: Tag of all runs below a study's, its trials' and their workers': id of the study's run.
ROOT = "itwinai.root"


class MLFlowLogger(Logger):
    """Logs to a run of MLflow.

    Args:
        savedir: Folder for what the logger writes.
        experiment_name: Experiment of the runs; made if there is none of that name.
        tracking_uri: A server or folder; None: what ``MLFLOW_TRACKING_URI`` says, else the folder
            ``<savedir>/mlflow``.
        run_description: Text shown with the run.
        run_name: Name of the run; None: mlflow makes one up.
        log_freq: "epoch": nothing of single batches; "batch": every batch; N: every N-th batch.
        log_on_workers: Rank or ranks of the workers that log, each to its own run; -1 for all.
        log_checkpoints: Whether copies of checkpoints are logged, as artifacts.
        close_timeout_s: Seconds that a training waits for a server at most, at its start and its
            end together. What the server does not have then stays in ``<savedir>/unsent``, from
            where ``itwinai loggers sync`` sends it.

    Raises:
        ConfigurationError: If ``close_timeout_s`` is below zero.
    """

    nests_runs = True

    def __init__(
        self,
        savedir: str | Path = "mllogs",
        experiment_name: str = BASE_EXP_NAME,
        tracking_uri: str | None = None,
        run_description: str | None = None,
        run_name: str | None = None,
        log_freq: LogFrequency = "epoch",
        log_on_workers: int | list[int] = 0,
        log_checkpoints: bool = False,
        close_timeout_s: float = 10.0,
    ) -> None:
        super().__init__(savedir=savedir, log_freq=log_freq, log_on_workers=log_on_workers)
        self.log_checkpoints = truth_of("MLFlowLogger.log_checkpoints", log_checkpoints)
        uri = tracking_uri or os.environ.get(URI_VARIABLE) or str(self.savedir / "mlflow")
        self.tracking_uri = absolute_uri(uri)
        experiment = name_of("MLFlowLogger.experiment_name", experiment_name)
        self.experiment_name = experiment or BASE_EXP_NAME
        self.run_description = run_description
        self.run_name = name_of("MLFlowLogger.run_name", run_name)
        if close_timeout_s < 0:
            raise ConfigurationError(
                f"MLFlowLogger: close_timeout_s is {close_timeout_s!r}; it must not be below zero."
            )
        self.close_timeout_s = close_timeout_s
        self._client: Any = None
        self._sender: Sender | None = None
        self._server_run: ServerRun | None = None
        self._patience = _Patience(close_timeout_s)
        self._run: Any = None
        self._globals = ExitStack()
        #: Parameters of the run, which MLflow lets nobody change.
        self._params: dict[str, str] = {}
        self._names: dict[str, Names] = {}

    @property
    def mlflow(self) -> Any:
        """The package ``mlflow``; within the context its functions reach this logger's run."""
        return import_mlflow()

    @property
    def active_run(self) -> Any:
        """The open ``mlflow.entities.Run``; None outside of the context."""
        return self._run

    def resolve_experiment_id(self) -> str:
        """Return the id of the experiment, which is made if it does not exist."""
        from itwinai.loggers.mlflow_server import experiment_id

        client = connect(self.tracking_uri)
        with _one_process_at_a_time(self.tracking_uri):
            return experiment_id(client, self.experiment_name)

    def _open(
        self,
        run_id: str | None = None,
        run_name: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Start a run, or go on with the run ``run_id``."""
        given = {
            "mlflow.parentRunId": parent_run_id,
            "mlflow.note.content": self.run_description,
            **(tags or {}),
        }
        tags = {name: value for name, value in given.items() if value}
        is_on_server = urlparse(self.tracking_uri).scheme in ("http", "https")
        begin = self._begin_on_server if is_on_server else self._begin
        begin(run_id, run_name or self.run_name, tags)
        are_files = local_folder(self.tracking_uri) is not None
        self._names = {kind: Names(are_files) for kind in ("metric", "param", "tag")}
        self._globals.enter_context(_global_uri(self.tracking_uri))
        if self._run is not None:
            with self._patience.spent():
                own = _global_run(self._run.info.run_id, self._answers, self._brief)
                self._globals.enter_context(own)

    def _begin(self, run_id: str | None, run_name: str | None, tags: Mapping[str, str]) -> None:
        """Open the run, and wait for it."""
        client = self._client = connect(self.tracking_uri)
        if run_id is None:
            run = client.create_run(self.resolve_experiment_id(), tags=tags, run_name=run_name)
        else:
            client.update_run(run_id, status="RUNNING")
            run = client.get_run(run_id)
        self._know(run)

    def _begin_on_server(
        self, run_id: str | None, run_name: str | None, tags: Mapping[str, str]
    ) -> None:
        """Have the run opened, and wait for it a little."""
        import_mlflow()
        from itwinai.loggers import mlflow_server as server

        first = server.opening(self.tracking_uri, self.experiment_name, run_name, run_id, tags)
        spool = Spool.made(Path(self.savedir).absolute() / UNSENT, first)
        self._server_run = server.ServerRun(spool, self.tracking_uri)
        self._sender = Sender(spool, self._server_run)
        self._client = server.SpooledClient(self.tracking_uri, self._sender)
        self.run_id, self.experiment_id, self._params = first["name"], None, {}
        self._patience = _Patience(self.close_timeout_s)
        with self._patience.spent():
            self._sender.wait_for_answer(min(FOR_A_RUN_S, self.close_timeout_s))
        self._know(self._server_run.run)

    def _know(self, run: Any) -> None:
        """Keep what a run is, once the server has told."""
        self._run = run
        if run is not None:
            self.run_id, self.experiment_id = run.info.run_id, run.info.experiment_id
            self._params = dict(run.data.params)

    def _brief(self) -> AbstractContextManager[None]:
        """Make mlflow's requests to a server end soon, within the context."""
        if self._sender is None:
            return nullcontext()
        from itwinai.loggers.mlflow_server import brief_requests

        return brief_requests()

    def _answers(self) -> bool:
        """Whether mlflow's own functions would be answered now."""
        return self._sender is None or self._sender.answers

    def _close(self, status: str) -> None:
        try:
            with self._patience.spent():
                self._globals.close()
        finally:
            client, self._client, self._run = self._client, None, None
            sender, self._sender, self._server_run = self._sender, None, None
            try:
                client.set_terminated(self.run_id, status)
            finally:
                if sender is not None:
                    self._end_sending(sender)

    def _end_sending(self, sender: Sender) -> None:
        left = sender.close(self._patience.left_s)
        if left:
            library_logger.warning(
                "MLflow's server %s has not got all of a run: %s are in %s. To send them: "
                "itwinai loggers sync %s",
                masked(self.tracking_uri),
                left,
                sender.folder,
                sender.folder.parent,
            )
        if sender.refused:
            raise sender.refused[0]

    def check_package(self) -> None:  # noqa: D102
        import_mlflow()

    def end_runs_below(self, status_of: StatusOf) -> None:  # noqa: D102
        self._wait_for_server()
        query = f"tags.`{ROOT}` = '{self.run_id}'"
        client = connect(self.tracking_uri)
        with self._patience.spent(), self._brief():
            for run in pages(client.search_runs, [self.experiment_id], query):
                status = status_of(run.data.tags)
                if status not in (None, run.info.status):
                    client.set_terminated(run.info.run_id, status, run.info.end_time)

    def _wait_for_server(self) -> None:
        """Wait until the server has all of this run, as long as it answers.

        Raises:
            ConnectionError: If it does not.
        """
        if self._sender is None or self._server_run is None:
            return
        with self._patience.spent():
            self._sender.wait_for_all(self._patience.left_s)
        self._know(self._server_run.run)
        if self._run is None or not self._sender.answers:
            raise ConnectionError(f"MLflow's server {self.tracking_uri} does not answer")

    def _write_hyperparameters(self, params: Mapping[str, Any]) -> None:
        whole = {self._name(name, "param"): str(value) for name, value in params.items()}
        values = {name: _shortened(value) for name, value in whole.items()}
        changed = {n: v for n, v in values.items() if self._params.get(n, v) != v}
        new = iter([(n, v) for n, v in values.items() if n not in self._params])
        refused = []
        while batch := dict(islice(new, PARAMS_PER_REQUEST)):
            refused += self._log_params(batch)
        self._keep_beside(changed, {n: v for n, v in whole.items() if v != values[n]})
        if refused:
            raise refused[0]

    def _log_params(self, params: Mapping[str, str]) -> list[Exception]:
        """Log parameters, and return the errors about those that the server refuses."""
        param = self.mlflow.entities.Param

        def send(some: Sequence[Any]) -> None:
            self._client.log_batch(self.run_id, params=some)
            self._params |= {one.key: one.value for one in some}

        return all_or_each(send, [param(n, v) for n, v in params.items()], self._refuses)

    def _refuses(self, error: Exception) -> bool:
        # In a folder the error has another code, but there nothing can be away.
        if not isinstance(error, self.mlflow.MlflowException):
            return False
        is_folder = local_folder(self.tracking_uri) is not None
        return error.error_code == "INVALID_PARAMETER_VALUE" or is_folder

    def _keep_beside(self, changed: Mapping[str, str], long: Mapping[str, str]) -> None:
        """Keep what MLflow does not take as a parameter: another value of one, and a long one."""
        for name, value in changed.items():
            self._tag(value, f"{NOW}.{name}", None)
        for name, value in long.items():
            self._client.log_text(self.run_id, value, f"params/{name}.txt")
        if changed:
            names = ", ".join(changed)
            library_logger.warning("MLflow lets no parameter change: tags %s.* tell %s", NOW, names)
        if long:
            names = ", ".join(long)
            library_logger.warning("MLflow cuts a long parameter: all of %s is in params/", names)

    def _metric(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self._client.log_metric(self.run_id, self._name(identifier, "metric"), item, step=step)

    def _param(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self._write_hyperparameters({identifier: item})

    def _tag(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self._client.set_tag(self.run_id, self._name(identifier, "tag"), str(item))

    def _name(self, name: Any, kind: str) -> str:
        return self._names[kind].of(str(name))

    def _figure(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self._client.log_figure(self.run_id, item, identifier, **kwargs)

    def _image(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self._client.log_image(self.run_id, item, identifier, **kwargs)

    def _dict(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self._client.log_dict(self.run_id, item, identifier)

    def _text(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self._client.log_text(self.run_id, item, identifier)

    def _artifact(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        if not isinstance(item, (str, Path)):
            with self._new_file(identifier) as path:
                path.write_bytes(pickle.dumps(item))
        elif Path(item).is_dir():
            self._client.log_artifacts(self.run_id, str(item), identifier)
        else:
            self._client.log_artifact(self.run_id, str(item), identifier)

    def _torch(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        import torch

        with self._new_file(identifier) as path:
            torch.save(item, path)

    def _model(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        from mlflow import pytorch

        # A recent mlflow traces models by default, for which it needs an example.
        can_choose = "serialization_format" in inspect.signature(pytorch.save_model).parameters
        if can_choose and "input_example" not in kwargs:
            kwargs.setdefault("serialization_format", "pickle")
        with self._new_file(identifier) as path:
            pytorch.save_model(item, str(path), **kwargs)

    def _dataset(
        self,
        item: Any,
        identifier: str,
        step: int | None,
        context: str | None = None,
        **kwargs: Any,
    ) -> None:
        entities = self.mlflow.entities
        dataset = entities.Dataset.from_dictionary(item.to_dict())
        tags = [entities.InputTag("mlflow.data.context", kwargs.get("context", identifier))]
        self._client.log_inputs(self.run_id, [entities.DatasetInput(dataset, tags)])

    @contextmanager
    def _new_file(self, identifier: str) -> Iterator[Path]:
        """Give the path of a file or folder to write, which then becomes an artifact."""
        target = PurePosixPath(identifier)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / target.name
            yield path
            parent = str(target.parent) if target.parent.name else None
            self._client.log_artifact(self.run_id, str(path), parent)

    _writers: ClassVar[Mapping[str, Callable[..., None]]] = {
        "metric": _metric,
        "figure": _figure,
        "image": _image,
        "artifact": _artifact,
        "torch": _torch,
        "dict": _dict,
        "param": _param,
        "tag": _tag,
        "text": _text,
        "model": _model,
        "dataset": _dataset,
    }
    supported_kinds = tuple(_writers)


class _Patience:
    """How long a training may still wait for its server.

    Args:
        seconds: How long in all.
    """

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Subtract what the block takes."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.left_s = max(0.0, self.left_s - (time.monotonic() - began))


def _shortened(value: str) -> str:
    """Cut a parameter's value to what MLflow takes."""
    from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH as LONGEST

    return value if len(value) <= LONGEST else f"{value[: LONGEST - 3]}..."


def connect(tracking_uri: str) -> Any:
    """Return a client of a server, or of a folder, which is made if it does not exist.

    Raises:
        MissingPackageError: If mlflow is not installed.
    """
    mlflow = import_mlflow()
    if local_folder(tracking_uri):
        # mlflow 3 keeps runs in plain files only when asked to; its default needs a database.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    with _one_process_at_a_time(tracking_uri):
        return mlflow.MlflowClient(tracking_uri=tracking_uri)


def pages(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """Yield all that one of a client's searches finds, page by page."""
    token = None
    while True:
        page = search(*arguments, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return


def import_mlflow() -> Any:
    """Return the package ``mlflow``.

    Raises:
        MissingPackageError: If it is not installed.
    """
    try:
        import mlflow
    except ImportError as error:
        raise MissingPackageError(
            f"runs of MLflow need mlflow ({error}): pip install 'itwinai[mlflow]'"
        ) from error
    return mlflow


def absolute_uri(uri: str) -> str:
    """Turn a path into a URI that holds in any working folder; leave URIs as they are."""
    if urlparse(uri).scheme or uri == "databricks":
        return uri
    return Path(uri).expanduser().resolve().as_uri()


def local_folder(uri: str) -> Path | None:
    """Return the folder of a ``file:`` URI, None for any other."""
    parts = urlparse(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


@contextmanager
def _one_process_at_a_time(uri: str) -> Iterator[None]:
    """Keep trials that start together from making a folder's experiments twice."""
    folder = local_folder(uri)
    if folder is None:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as file:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _global_uri(uri: str) -> Iterator[None]:
    """Let mlflow's own functions use a server or folder.

    mlflow copies it to an environment variable, where the next trial would find it.
    """
    mlflow = import_mlflow()
    before = os.environ.get(URI_VARIABLE)
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        os.environ.pop(URI_VARIABLE, None)
        if before is not None:
            os.environ[URI_VARIABLE] = before


@contextmanager
def _global_run(
    run_id: str, answers: Callable[[], bool], brief: Callable[[], AbstractContextManager[None]]
) -> Iterator[None]:
    """Let mlflow's own functions write to a run, also within another run that the user opened.

    Args:
        run_id: The run.
        answers: Tells at the end whether the server answers; else mlflow forgets the run alone.
        brief: Makes mlflow's requests end soon.
    """
    mlflow = import_mlflow()
    try:
        with brief():
            mlflow.start_run(run_id=run_id, nested=True)
    except mlflow.MlflowException as error:
        library_logger.warning("Functions of mlflow itself will not log to this run: %s", error)
    yield
    active = mlflow.active_run()
    if active is None or active.info.run_id != run_id:
        return
    with tempfile.TemporaryDirectory() as nowhere, brief(), suppress(mlflow.MlflowException):
        if not answers():
            mlflow.set_tracking_uri(Path(nowhere).as_uri())
        mlflow.end_run()
