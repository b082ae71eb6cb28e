"""A logger for Weights & Biases: a run on a server, or in a folder that can be sent there later."""

from __future__ import annotations

import inspect
import os
import pickle
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from itwinai.config.values import truth_of
from itwinai.errors import ConfigurationError, MissingPackageError
from itwinai.loggers.base import BASE_EXP_NAME, LogFrequency, Logger

#: Exit codes, which W&B shows as finished, failed and killed.
_EXIT_CODES = {"FINISHED": 0, "FAILED": 1, "KILLED": 255}


class WandBLogger(Logger):
    """Logs to a run of W&B; a study's runs are one group.

    Nothing is asked for on the terminal: a missing API key is an error at the start.

    Args:
        savedir: Folder for what the logger writes.
        project_name: Project of the runs.
        log_freq: "epoch": nothing of single batches; "batch": every batch; N: every N-th batch.
        log_on_workers: Rank or ranks of the workers that log, each to its own run; -1 for all.
        offline_mode: Write to ``<savedir>/wandb`` alone and never use the network, as
            ``WANDB_MODE=offline`` does; ``wandb sync`` sends it later.
        log_checkpoints: Whether copies of checkpoints are logged, as artifacts.
        close_timeout_s: Seconds that the end of a training waits for the server at most, above
            zero, where the installed wandb can be told (``finish_timeout``) and
            ``WANDB_FINISH_TIMEOUT`` says nothing else. What the server does not have then stays
            in ``<savedir>/wandb``, from where ``wandb sync`` sends it.

    Raises:
        ConfigurationError: If ``close_timeout_s`` is not above zero.
    """

    def __init__(
        self,
        savedir: str | Path = "mllogs",
        project_name: str = BASE_EXP_NAME,
        log_freq: LogFrequency = "epoch",
        log_on_workers: int | list[int] = 0,
        offline_mode: bool = False,
        log_checkpoints: bool = False,
        close_timeout_s: float = 10.0,
    ) -> None:
        super().__init__(savedir=savedir, log_freq=log_freq, log_on_workers=log_on_workers)
        self.log_checkpoints = truth_of("WandBLogger.log_checkpoints", log_checkpoints)
        self.project_name = project_name
        self.offline_mode = truth_of("WandBLogger.offline_mode", offline_mode)
        if close_timeout_s <= 0:
            raise ConfigurationError(
                f"WandBLogger: close_timeout_s is {close_timeout_s!r}; it must be above zero."
            )
        self.close_timeout_s = close_timeout_s
        self._run: Any = None

    @property
    def wandb(self) -> Any:
        """The package ``wandb``."""
        return _import_wandb()

    @property
    def active_run(self) -> Any:
        """The open run; None outside of the context."""
        return self._run

    def check_package(self) -> None:  # noqa: D102
        _import_wandb()

    def _open(
        self,
        run_id: str | None = None,
        run_name: str | None = None,
        group: str | None = None,
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Start a run, or go on with the run ``run_id``."""
        wandb, mode = self.wandb, self._mode()
        online = mode not in ("offline", "disabled")
        if online:
            _check_key(wandb)
        folder = Path(self.savedir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=self.project_name,
            dir=str(folder),
            mode=mode,
            id=run_id,
            resume="allow" if run_id and online else None,
            name=run_name,
            group=group,
            tags=[f"{name}:{value}" for name, value in (tags or {}).items()],
            # A run that the user has opened stays the user's.
            reinit="default" if wandb.run is None else "create_new",
            settings=self._settings(),
        )
        self.run_id = self._run.id
        self._run.define_metric("*", step_metric="step", step_sync=False)

    def _settings(self) -> dict[str, Any]:
        known = getattr(self.wandb.Settings, "model_fields", {})
        if "finish_timeout" not in known or "WANDB_FINISH_TIMEOUT" in os.environ:
            return {}
        return {"finish_timeout": self.close_timeout_s}

    def _mode(self) -> str:
        if self.offline_mode:
            return "offline"
        return os.environ.get("WANDB_MODE") or str(self.wandb.setup().settings.mode)

    def _close(self, status: str) -> None:
        run, self._run = self._run, None
        run.summary["end_state"] = status
        run.finish(exit_code=_EXIT_CODES.get(status, 1))

    def _write_hyperparameters(self, params: Mapping[str, Any]) -> None:
        self._run.config.update(dict(params), allow_val_change=True)

    def _value(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        # W&B's own steps only grow, but those of batches and of epochs are two series.
        self._run.log({identifier: item} | ({} if step is None else {"step": step}), commit=True)

    def _image(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self._value(self.wandb.Image(item, **kwargs), identifier, step)

    def _param(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self._write_hyperparameters({identifier: item})

    def _watch(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self._run.watch(item, **kwargs)

    def _artifact(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        if isinstance(item, (str, Path)):
            self._log_path(Path(item), identifier)
        else:
            self._log_written(identifier, lambda path: path.write_bytes(pickle.dumps(item)))

    def _torch(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        import torch

        self._log_written(identifier, lambda path: torch.save(item, path))

    def _log_written(self, identifier: str, write: Callable[[Path], Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / PurePosixPath(identifier).name
            write(path)
            self._log_path(path, identifier)

    def _log_path(self, path: Path, identifier: str) -> None:
        name = re.sub(r"[^\w.-]", "-", identifier)
        artifact = self.wandb.Artifact(name, type="itwinai")
        if path.is_dir():
            artifact.add_dir(str(path))
        else:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    _writers: ClassVar[Mapping[str, Callable[..., None]]] = {
        "metric": _value,
        "watch": _watch,
        "param": _param,
        "text": _value,
        "dict": _value,
        "image": _image,
        "figure": _image,
        "artifact": _artifact,
        "torch": _torch,
    }
    supported_kinds = tuple(_writers)


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise MissingPackageError(
            f"WandBLogger needs wandb ({error}): pip install 'itwinai[wandb]'"
        ) from error
    return wandb


def _check_key(wandb: Any) -> None:
    """Refuse to start without an API key, for which W&B would ask on the terminal."""
    can_ask = "prompt" in inspect.signature(wandb.login).parameters
    if not (wandb.login(prompt=False) if can_ask else wandb.api.api_key):
        raise ConfigurationError(
            "WandBLogger: no API key of W&B. Set WANDB_API_KEY, run `wandb login`, or write to a "
            "folder alone with offline_mode=True."
        )
