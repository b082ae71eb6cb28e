"""Checkpoints: a folder that is either complete or absent, and loads without running any code.

``model.pt`` holds the plain state of the user's model, ``state.pt`` everything else that a
training needs to go on, ``config.yaml`` the configuration it was trained with.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from omegaconf import OmegaConf

from itwinai.errors import CheckpointError
from itwinai.io.files import atomic_folder, delete_folder, newest_complete

MODEL, STATE, CONFIG = "model.pt", "state.pt", "config.yaml"


def save(
    path: Path, model: Mapping[str, Any], state: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Write a checkpoint folder.

    Args:
        path: The folder; one that exists is replaced.
        model: State dictionary of the user's model, without any wrapper's prefix.
        state: Tensors, numbers, strings and containers of them.
        config: The training's configuration.
    """
    with atomic_folder(path) as scratch:
        torch.save(dict(model), scratch / MODEL)
        torch.save(dict(state), scratch / STATE)
        OmegaConf.save(OmegaConf.create(_plain(config)), scratch / CONFIG)


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the model's state dictionary and the training's state.

    Raises:
        CheckpointError: If the checkpoint is missing, incomplete, damaged, or would run code.
    """
    found = newest_complete(path)
    if found is None:
        raise CheckpointError(f"{path}: there is no checkpoint here")
    model, state = _load_file(found / MODEL), _load_file(found / STATE)
    if not {"epoch", "best_validation_metric", "optimizer_state_dict"} <= state.keys():
        raise CheckpointError(f"{found / STATE}: not the state of a training")
    return model, state


def load_model(path: Path) -> dict[str, Any]:
    """Read the model's state dictionary alone.

    Raises:
        CheckpointError: As of :func:`load`.
    """
    found = newest_complete(path)
    if found is None:
        raise CheckpointError(f"{path}: there is no checkpoint here")
    return _load_file(found / MODEL)


def is_complete(path: Path) -> bool:
    """Whether a folder holds a model and the state of its training."""
    return (path / MODEL).exists() and (path / STATE).exists()


def keep_with_trial(path: Path, file: Any, folder: Any, data: Any) -> Path:
    """Copy what a user's own ``train()`` hands to a report into a checkpoint folder.

    Args:
        path: The folder to make.
        file: A file to copy, or None.
        folder: A folder whose contents are copied, or None.
        data: Saved as ``data.pt``, or None.
    """
    with atomic_folder(path) as scratch:
        if folder is not None:
            shutil.copytree(folder, scratch, dirs_exist_ok=True)
        if file is not None:
            shutil.copy2(file, scratch)
        if data is not None:
            torch.save(data, scratch / "data.pt")
    return path


class CheckpointPolicy(Protocol):
    """Says which checkpoints a training writes, and which it keeps."""

    newest: Path | None

    def due(self, epoch: int, improved: bool) -> list[str]:
        """Names of the checkpoints to write after an epoch (counted from 0)."""
        ...

    def written(self, path: Path) -> None:
        """Hear that a checkpoint is complete."""
        ...

    def recorded(self) -> None:
        """Hear that the study's record knows the newest one."""
        ...


class KeepEvery:
    """Of a training alone: ``epoch_<n>`` every so many epochs, and ``best_model``.

    Args:
        every: Epochs between two checkpoints; None writes only the best model.
    """

    def __init__(self, every: int | None) -> None:
        self._every = every
        self.newest: Path | None = None

    def due(self, epoch: int, improved: bool) -> list[str]:
        """The epoch's own, where it is its turn, and the best."""
        regular = bool(self._every) and (epoch + 1) % (self._every or 1) == 0
        return ([f"epoch_{epoch}"] if regular else []) + (["best_model"] if improved else [])

    def written(self, path: Path) -> None:
        """Remember the newest."""
        self.newest = path

    def recorded(self) -> None:
        """Do nothing: there is no study."""


class KeepNewest:
    """Of a trial: one checkpoint, which the next one replaces once that is on record.

    Until then a resumed study would continue from the one before.

    Args:
        every: Epochs between two checkpoints; the study's record follows the last one.
        epochs: Epochs of a full training; the last one always has a checkpoint.
        previous: The checkpoint that the trial continues from.
    """

    def __init__(self, every: int | None, epochs: int, previous: Path | None) -> None:
        self._every = every or 1
        self._epochs = epochs
        self._on_record = previous
        self.newest = previous

    def due(self, epoch: int, improved: bool) -> list[str]:
        """The epoch's own, where it is its turn."""
        due = (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs
        return [f"epoch_{epoch}"] if due else []

    def written(self, path: Path) -> None:
        """Delete the one before, unless the record knows no other."""
        before, self.newest = self.newest, path
        if before not in (None, path, self._on_record):
            _delete(before)

    def recorded(self) -> None:
        """Delete the one that the record knew."""
        self.delete_superseded()
        self._on_record = self.newest

    def delete_superseded(self) -> None:
        """Delete the one that the record knew, if there is a newer one."""
        if self._on_record != self.newest:
            _delete(self._on_record)


def _delete(path: Path | None) -> None:
    if path is not None:
        delete_folder(path)


def _load_file(path: Path) -> dict[str, Any]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: this file of the checkpoint is missing") from None
    except Exception as error:  # noqa: BLE001 - reading a damaged file may raise anything
        raise CheckpointError(_damaged(path, str(error) or type(error).__name__)) from None
    if not isinstance(content, dict):
        raise CheckpointError(_damaged(path, f"a {type(content).__name__}"))
    return content


def _damaged(path: Path, reason: str) -> str:
    return (
        f"{path}: not a whole checkpoint, or one that holds more than tensors and plain values "
        f"({reason.splitlines()[0]})"
    )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Only what YAML can write; anything else by its text."""

    def plain(value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set):
            return [plain(item) for item in value]
        return str(value)

    return {str(key): plain(value) for key, value in config.items()}
