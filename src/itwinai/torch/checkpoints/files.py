"""Checkpoints: a folder that is either complete or absent, and loads without running any code.

``model.pt``
    Plain state dictionary of the user's model, without any wrapper's prefix.
``state.pt``
    Everything else that a training needs to go on.
``config.yaml``
    The configuration it was trained with.
``manifest.json``
    Format, epoch, metrics, versions, size and SHA-256 of each of the other files, and a SHA-256 of
    its own; written last.
``shards/``
    Instead of ``model.pt``, of a training whose ranks each save their own part.
``shards-trained/``
    The weights that train on, where those in ``shards`` are an average of them.
"""

from __future__ import annotations

import math
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import itwinai
from itwinai.confidential import unresolved
from itwinai.errors import CheckpointError
from itwinai.io.files import atomic_folder, newest_complete
from itwinai.io.manifest import MANIFEST, check_manifest, read_manifest, write_manifest
from itwinai.torch.checkpoints.plain import as_plain

MODEL, STATE, CONFIG = "model.pt", "state.pt", "config.yaml"
SHARDS = "shards"
#: Weights that train on, where those to keep are an average of them.
TRAINED = "shards-trained"

_NAME = re.compile(r"epoch_(\d+)(?:_step_(\d+))?")

#: In the state of every training whose checkpoint was written with a manifest.
_BUILT = "built"


def save(
    path: Path,
    model: Mapping[str, Any] | None,
    state: Mapping[str, Any],
    config: Mapping[str, Any],
    about: Mapping[str, Any] | None = None,
    write_shards: Callable[[Path], None] | None = None,
) -> None:
    """Write a checkpoint folder.

    Args:
        path: The folder; one that exists is replaced.
        model: State dictionary of the user's model, without any wrapper's prefix; None: in shards.
        state: Tensors, numbers, strings and containers of them.
        config: The training's configuration; secrets of the environment stay there.
        about: Facts for people and programs that read the manifest alone.
        write_shards: Fills the folder ``shards``, together with the other ranks.
    """
    from omegaconf import OmegaConf  # with its grammar, more than all the rest here

    with atomic_folder(path) as scratch:
        if model is not None:
            _save(as_plain(dict(model)), scratch / MODEL)
        if write_shards is not None:
            write_shards(scratch / SHARDS)
        _save(as_plain(dict(state)), scratch / STATE)
        OmegaConf.save(OmegaConf.create(unresolved(_plain(config))), scratch / CONFIG)
        write_manifest(
            scratch,
            _plain(about or {}, infinite=str),
            {"torch": str(torch.__version__)},
            is_within_epoch="step" in state,
        )


def _save(data: Any, path: Path) -> None:
    """Write a file of PyTorch's.

    Raises:
        OSError: If the disk is full; PyTorch hides it behind an error about a position.
    """
    with open(path, "wb") as file:
        try:
            torch.save(data, file)
        except RuntimeError as error:
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def load(path: Path, or_earlier: bool = False) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Read a checkpoint.

    Args:
        path: Its folder, or one that holds several ``epoch_<n>`` and ``epoch_<n>_step_<k>`` of one
            training, of which the newest is taken.
        or_earlier: Whether a damaged one is named in a warning and the one before it is taken.

    Returns:
        The folder that was read, the model's state dictionary (empty if it is in shards), and the
        training's state.

    Raises:
        CheckpointError: If it is missing, incomplete, damaged, or would run code; if the folder
            holds checkpoints of several trainings.
    """
    candidates = [path] if _is_one(path) else _of_one_run(path)
    if or_earlier:
        candidates += [
            folder
            for folder in _epochs_in(path.parent)
            if _is_before(folder, path) and run_of(folder) == run_of(path)
        ]
    for number, candidate in enumerate(candidates):
        try:
            return candidate, *_load_one(candidate)
        except CheckpointError as error:
            if number + 1 == len(candidates) or not or_earlier:
                raise
            itwinai.logger.warning("warning: %s. Trying the checkpoint before it.", error)
    raise AssertionError("the last candidate was returned or has raised")


def load_model(path: Path) -> dict[str, Any]:
    """Read the model's state dictionary alone.

    Raises:
        CheckpointError: As of :func:`load`, or if the model is in shards.
    """
    found = _found(path)
    manifest = check_files(found)
    if manifest is not None and MODEL not in manifest["files"]:
        raise CheckpointError(
            f"{found}: the model is in shards. Bring them together with "
            "itwinai.torch.checkpoints.sharded.merge_shards()."
        )
    model = _load_file(found / MODEL)
    if manifest is None:
        _refuse_lost_manifest(found, _state_or_nothing(found))
    return model


def check_files(path: Path) -> dict[str, Any] | None:
    """Compare a checkpoint's files with its manifest, and return that.

    None without a manifest, which checkpoints of itwinai 0.4 do not have; there the check sums
    within PyTorch's files, which it does not look at itself, tell of altered ones.

    Raises:
        CheckpointError: For the first file that is missing, cut off or altered.
    """
    manifest = check_manifest(path)
    if manifest is None:
        for file in sorted(path.glob("*.pt")):
            _check_inner_sums(file)
    return manifest


def check_whole(path: Path) -> Path:
    """Return the folder of a checkpoint of which nothing is missing or altered.

    Raises:
        CheckpointError: If it is not there, incomplete or damaged.
    """
    found = _found(path)
    if check_files(found) is None and _is_one(found):
        if not is_complete(found):
            raise CheckpointError(f"{found}: a part of the checkpoint is missing")
        _refuse_lost_manifest(found, _state_or_nothing(found))
    return path


def is_complete(path: Path) -> bool:
    """Whether a folder holds a model and the state of its training."""
    return (path / STATE).exists() and ((path / MODEL).exists() or (path / SHARDS).exists())


def name_of(epoch: int, step: int | None = None) -> str:
    """Name of a checkpoint after an epoch, from 0, or after so many steps of it."""
    return f"epoch_{epoch}" if step is None else f"epoch_{epoch}_step_{step}"


def newest_of_run(location: Path, run: str | None) -> Path | None:
    """The newest undamaged checkpoint of those by epoch that a training saved; None before them.

    Args:
        location: Folder of the checkpoints.
        run: Identifies the training among others that saved there.
    """
    for folder in _epochs_in(location):
        with suppress(CheckpointError):
            manifest = check_files(newest_complete(folder) or folder)
            if manifest is not None and manifest.get("run") == run:
                return folder
    return None


def newest_within(location: Path, epoch: int, run: str | None) -> Path | None:
    """The newest undamaged checkpoint in the middle of an epoch; None if there is none.

    Args:
        location: Folder of the checkpoints.
        epoch: The epoch, from 0.
        run: Identifies the training that saved it; None: any.
    """
    for folder in _epochs_in(location):
        is_within = folder.name.startswith(name_of(epoch) + "_")
        with suppress(CheckpointError):
            if is_within and (run is None or run_of(folder) == run):
                return check_whole(folder)
    return None


def run_of(path: Path) -> str | None:
    """What identifies the training that wrote a checkpoint; None where nothing tells."""
    manifest = read_manifest(newest_complete(path) or path)
    return None if manifest is None else manifest.get("run")


def runs_in(folder: Path) -> dict[str | None, list[str]]:
    """The trainings whose checkpoints by epoch lie in a folder, with the names of these."""
    runs: dict[str | None, list[str]] = {}
    for path in _epochs_in(folder):
        with suppress(CheckpointError):
            runs.setdefault(run_of(path), []).append(path.name)
    return runs


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
            _save(data, scratch / "data.pt")
    return path


def save_tensors(tensors: Mapping[str, Any], file: Path) -> None:
    """Write tensors; those that share their storage still do when they are read."""
    _save(dict(tensors), file)


def load_tensors(file: Path) -> dict[str, Any]:
    """Read what :func:`save_tensors` has written, on the CPU.

    Raises:
        CheckpointError: If it is damaged.
    """
    return _load_file(file)


def _load_one(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    found = _found(path)
    manifest = check_files(found)
    sharded = manifest is not None and MODEL not in manifest["files"]
    model = {} if sharded else _load_file(found / MODEL)
    state = _load_file(found / STATE)
    if manifest is None:
        _refuse_lost_manifest(found, state)
    if not {"epoch", "best_validation_metric", "optimizer_state_dict"} <= state.keys():
        raise CheckpointError(f"{found / STATE}: not the state of a training")
    return model, state


def _found(path: Path) -> Path:
    found = newest_complete(path)
    if found is None:
        raise CheckpointError(f"{path}: there is no checkpoint here")
    return found


def _is_one(path: Path) -> bool:
    found = newest_complete(path)
    names = (MODEL, STATE, MANIFEST, SHARDS)
    return found is not None and any((found / name).exists() for name in names)


def _of_one_run(folder: Path) -> list[Path]:
    """The checkpoints of the only training that wrote to a folder, the newest first."""
    found = list(_epochs_in(folder))
    others = [path for path in sorted(folder.glob("*/")) if _is_one(path)]
    if not found and others:
        raise CheckpointError(
            f"{folder}: there is no epoch_<n> here, but {', '.join(p.name for p in others)}. Name "
            f"the one to go on from, as in from_checkpoint={str(others[0])!r}"
        )
    if not found:
        raise CheckpointError(f"{folder}: there is no checkpoint here")
    runs = runs_in(folder)
    if len(runs) > 1:
        parts = "; ".join(f"of one {', '.join(reversed(names))}" for names in runs.values())
        raise CheckpointError(
            f"{folder}: here are checkpoints of {len(runs)} trainings, {parts}. Name the one to go "
            f"on from, as in from_checkpoint={str(found[0])!r}"
        )
    return found


def _epochs_in(folder: Path) -> Iterator[Path]:
    """The folders ``epoch_<n>`` and ``epoch_<n>_step_<k>`` in a folder, the newest first."""
    placed = {place: path for path in folder.glob("epoch_*") if (place := _place_of(path))}
    return (placed[place] for place in sorted(placed, reverse=True))


def _is_before(folder: Path, path: Path) -> bool:
    here, there = _place_of(folder), _place_of(path)
    return here is not None and there is not None and here < there


def _place_of(path: Path) -> tuple[int, float] | None:
    """Epoch and step of a checkpoint, by its name; the end of an epoch is after all steps."""
    found = _NAME.fullmatch(path.name)
    return None if found is None else (int(found[1]), float(found[2] or math.inf))


def _check_inner_sums(file: Path) -> None:
    """Compare a file of PyTorch's, a ZIP archive, with the check sums in it."""
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            altered = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise CheckpointError(_damaged(file, str(error) or type(error).__name__)) from None
    if altered is not None:
        raise CheckpointError(_damaged(file, f"{altered} was altered after it was written"))


def _refuse_lost_manifest(path: Path, state: Mapping[str, Any]) -> None:
    """Refuse a checkpoint without a manifest whose state tells that there was one."""
    if _BUILT in state:
        raise CheckpointError(
            f"{path / MANIFEST}: this file of the checkpoint is missing, and without it nothing "
            "tells whether the others are whole. Restore it from a copy, or take another checkpoint"
        )


def _state_or_nothing(path: Path) -> Mapping[str, Any]:
    """A training's state, of which the model alone needs nothing; empty if it cannot be read."""
    with suppress(CheckpointError):
        return _load_file(path / STATE)
    return {}


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


def _plain(config: Mapping[str, Any], infinite: Callable[[float], Any] = float) -> dict[str, Any]:
    """Only what YAML and JSON can write; anything else by its text.

    Args:
        config: Any values.
        infinite: What an infinite number, or NaN, becomes; JSON has none.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return infinite(value)
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set):
            return [plain(item) for item in value]
        return str(value)

    return {str(key): plain(value) for key, value in config.items()}
