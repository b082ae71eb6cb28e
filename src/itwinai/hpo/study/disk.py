"""How much room on its disk a study needs for checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration


def check_room(
    configuration: StudyConfiguration, slots: int, trials: int, checkpoint_bytes: int
) -> None:
    """Refuse a disk that cannot hold the checkpoints of a study.

    Args:
        configuration: The study's settings.
        slots: Trials at the same time.
        trials: Trials in all.
        checkpoint_bytes: What is known of a checkpoint's size: it has so many bytes or more. Those
            that the study's folder holds already tell it better.

    Raises:
        ConfigurationError: With what there is and what is needed at least.
    """
    own = [manifest.parent for manifest in checkpoints_in(configuration.directory)]
    size = max([checkpoint_bytes, *map(_size, own)])
    # Each running trial has one; besides them there is the best, or that of every trial.
    most = min(trials, trials if configuration.keep_checkpoints == "all" else slots + 1)
    needed, free = size * max(0, most - len(own)), _free(configuration.directory)
    if free < needed:
        raise ConfigurationError(
            f"study.storage_path={str(configuration.storage_path)!r}: {_mib(free)} are free, but "
            f"{most} checkpoints at the same time (study.keep_checkpoints="
            f"{configuration.keep_checkpoints}, {slots} trials at once) of {_mib(size)} or more "
            f"need {_mib(needed)}. Make room, or give another folder."
        )


def largest_checkpoint(directory: Path) -> int:
    """Bytes of a study's largest checkpoint, 0 if it has none."""
    return max((_size(manifest.parent) for manifest in checkpoints_in(directory)), default=0)


def checkpoints_in(directory: Path) -> list[Path]:
    """The manifests of a study's checkpoints."""
    return list(directory.glob("trials/*/*/manifest.json"))


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; those that have just been deleted count nothing."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.lstat().st_size
        except FileNotFoundError:
            continue
    return total


def _free(directory: Path) -> int:
    """Bytes that are free where a folder is, or would be."""
    place = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(place).free


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
