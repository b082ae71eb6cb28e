"""A logger that needs nothing: metrics on standard output, everything else in a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from itwinai.config.values import truth_of
from itwinai.loggers.base import LogFrequency, Logger, py_logger


class ConsoleLogger(Logger):
    """Shows metrics on standard output; keeps files in ``<savedir>/simple-logger/<number>``.

    Args:
        savedir: Folder for what the logger writes.
        log_freq: "epoch": nothing of single batches; "batch": every batch; N: every N-th batch.
        log_on_workers: Rank or ranks of the workers that log; -1 for all.
        log_checkpoints: Whether copies of checkpoints are logged, as artifacts.
    """

    def __init__(
        self,
        savedir: str | Path = "mllogs",
        log_freq: LogFrequency = "epoch",
        log_on_workers: int | list[int] = 0,
        log_checkpoints: bool = False,
    ) -> None:
        super().__init__(savedir=savedir, log_freq=log_freq, log_on_workers=log_on_workers)
        self.log_checkpoints = truth_of("ConsoleLogger.log_checkpoints", log_checkpoints)
        #: Folder of the current or last run.
        self.run_path: Path | None = None

    def _open(self, run_id: str | None = None, **kwargs: Any) -> None:
        """Begin a folder, or go on with the folder ``run_id``."""
        runs = Path(self.savedir).absolute() / "simple-logger"
        self.run_path = _new_numbered_folder(runs) if run_id is None else runs / run_id
        self.run_id = self.run_path.name

    def _write_hyperparameters(self, params: Mapping[str, Any]) -> None:
        text = json.dumps(dict(params), indent=2, default=str)
        self._file("hyperparameters.json").write_text(text + "\n", encoding="utf-8")

    def _file(self, identifier: str) -> Path:
        if self.run_path is None:
            raise RuntimeError("ConsoleLogger has not been initialized.")
        path = self.run_path / identifier
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _metric(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        py_logger.info(f"ConsoleLogger: {identifier} = {item}")

    def _artifact(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        target = self._file(identifier)
        if not isinstance(item, (str, Path)):
            self.serialize(item, str(target))
        elif Path(item).is_dir():
            shutil.copytree(item, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(item, target)

    def _torch(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        import torch

        torch.save(item, self._file(identifier))

    _writers: ClassVar[Mapping[str, Callable[..., None]]] = {
        "metric": _metric,
        "artifact": _artifact,
        "torch": _torch,
    }
    supported_kinds = tuple(_writers)


def _new_numbered_folder(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal()]
    number = max(taken, default=-1) + 1
    while True:
        try:
            (parent / str(number)).mkdir()
        except FileExistsError:  # another process was faster
            number += 1
        else:
            return parent / str(number)
