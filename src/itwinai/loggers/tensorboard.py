"""A logger for TensorBoard: event files of a training, or a folder of them for each run of many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from itwinai.errors import ConfigurationError, MissingPackageError
from itwinai.loggers.base import LogFrequency, Logger
from itwinai.loggers.running import WORKER

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

#: How the table of hyper-parameters calls the ends; a run that was stopped neither won nor failed.
_STATUS = {"FINISHED": "STATUS_SUCCESS", "FAILED": "STATUS_FAILURE", "KILLED": "STATUS_UNKNOWN"}


class TensorBoardLogger(Logger):
    """Writes a training alone to ``<savedir>/tensorboard``, and each of many to a folder in it.

    A trial's is ``<study>/<run>``, that of one of several workers ``<run>-worker-<rank>``. What
    tells trainings alone apart that follow each other is their ``savedir``.

    The table of hyper-parameters (tab HPARAMS) has a row for each run that saved some, with the
    last value of each metric.

    Args:
        savedir: Folder for what the logger writes.
        log_freq: "epoch": nothing of single batches; "batch": every batch; N: every N-th batch.
        framework: "pytorch", whose writer is used.
        log_on_workers: Rank or ranks of the workers that log, each to its own run; -1 for all.

    Raises:
        ConfigurationError: For another framework.
    """

    def __init__(
        self,
        savedir: str | Path = "mllogs",
        log_freq: LogFrequency = "epoch",
        framework: str = "pytorch",
        log_on_workers: int | list[int] = 0,
    ) -> None:
        super().__init__(savedir=savedir, log_freq=log_freq, log_on_workers=log_on_workers)
        if framework != "pytorch":
            raise ConfigurationError(
                f"TensorBoardLogger: framework is {framework!r}; it must be 'pytorch', because "
                "itwinai trains with PyTorch and writes TensorBoard's files without TensorFlow."
            )
        self.framework = framework
        #: Folder of the current or last run.
        self.run_path: Path | None = None
        self._open_writer: SummaryWriter | None = None
        self._has_hyperparameters = False

    @property
    def writer(self) -> SummaryWriter:
        """The open ``SummaryWriter``."""
        if self._open_writer is None:
            raise RuntimeError("TensorBoardLogger has not been initialized.")
        return self._open_writer

    def check_package(self) -> None:  # noqa: D102
        _import_writer()

    def _open(
        self,
        run_id: str | None = None,
        run_name: str | None = None,
        group: str | None = None,
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a folder, or go on with the folder ``run_id``."""
        writer = _import_writer()
        runs = path = Path(self.savedir).absolute() / "tensorboard"
        if run_id is not None:
            path = runs / run_id
        elif group is not None or WORKER in (tags or {}):
            path = _new_folder(runs / (group or ""), run_name)
        self.run_path, self.run_id = path, str(path.relative_to(runs))
        self._has_hyperparameters = False
        self._open_writer = writer(str(path))

    def _close(self, status: str) -> None:
        writer, self._open_writer = self.writer, None
        if self._has_hyperparameters:
            _write_end(writer, status)
        writer.close()

    def _write_hyperparameters(self, params: Mapping[str, Any]) -> None:
        _write_start(self.writer, params)
        self._has_hyperparameters = True

    def _metric(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self.writer.add_scalar(identifier, item, global_step=step)

    def _image(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self.writer.add_image(identifier, item, global_step=step, **kwargs)

    def _text(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self.writer.add_text(identifier, str(item), global_step=step)

    def _figure(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self.writer.add_figure(identifier, item, global_step=step, **kwargs)

    def _histogram(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self.writer.add_histogram(identifier, item, global_step=step, **kwargs)

    _writers: ClassVar[Mapping[str, Callable[..., None]]] = {
        "metric": _metric,
        "image": _image,
        "text": _text,
        "param": _text,
        "figure": _figure,
        "histogram": _histogram,
    }
    supported_kinds = tuple(_writers)


def _import_writer() -> type[SummaryWriter]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPackageError(
            f"TensorBoardLogger needs tensorboard ({error}): pip install 'itwinai[tensorboard]'"
        ) from error
    return SummaryWriter


def _new_folder(parent: Path, name: str | None) -> Path:
    """Make a folder of a run's name, or of the next number where there is none or it is taken."""
    parent.mkdir(parents=True, exist_ok=True)
    numbered = (str(number) if name is None else f"{name}-{number}" for number in count(1))
    for candidate in chain([] if name is None else [name], numbered):
        try:
            (parent / candidate).mkdir(parents=True)
        except FileExistsError:  # of an earlier run, or another process was faster
            continue
        return parent / candidate
    raise AssertionError("unreachable: there is always a free number")


def _write_start(writer: Any, params: Mapping[str, Any]) -> None:
    """Begin the run's row in the table of hyper-parameters; its metrics are the run's scalars."""
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    start = SessionStartInfo(start_time_secs=time.time())
    for name, value in params.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, (int, float)):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = str(value)
    _write(writer, metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))


def _write_end(writer: Any, status: str) -> None:
    """Complete the run's row."""
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    end = SessionEndInfo(
        status=api_pb2.Status.Value(_STATUS.get(status, "STATUS_UNKNOWN")),
        end_time_secs=time.time(),
    )
    _write(writer, metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _write(writer: Any, tag: str, data: Any) -> None:
    # Not SummaryWriter.add_hparams: it opens a run of its own, and calls every end a success.
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata

    value = Summary.Value(
        tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
    )
    writer.file_writer.add_summary(Summary(value=[value]))
