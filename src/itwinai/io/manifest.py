"""The manifest of a checkpoint: what its files must be, so that one that is not whole is noticed.

``manifest.json`` holds the format, facts, versions, size and SHA-256 of each of the other files,
and a SHA-256 of its own.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import itwinai
from itwinai.errors import CheckpointError

MANIFEST = "manifest.json"
_OWN_SUM = "sha256"

#: Version of the format; a reader refuses a newer one. Only a checkpoint in the middle of an epoch
#: is of the second, for earlier versions of itwinai would begin the next epoch with it.
FORMAT, _WHOLE_EPOCHS = 2, 1


def write_manifest(
    folder: Path,
    about: Mapping[str, Any],
    versions: Mapping[str, str] | None = None,
    is_within_epoch: bool = False,
) -> None:
    """Write the manifest of a folder whose files are complete.

    Args:
        folder: The checkpoint.
        about: Facts for people and programs that read the manifest alone.
        versions: Of libraries that wrote it, besides Python and itwinai.
        is_within_epoch: Whether it was written in the middle of an epoch.
    """
    manifest = {
        "format": FORMAT if is_within_epoch else _WHOLE_EPOCHS,
        **about,
        "versions": {
            "python": platform.python_version(),
            **(versions or {}),
            "itwinai": itwinai.__version__,
        },
        "files": {str(file.relative_to(folder)): _sum(file) for file in _files(folder)},
    }
    manifest[_OWN_SUM] = _sum_of(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Read a checkpoint's manifest; None if it has none.

    Raises:
        CheckpointError: If it is damaged, or of a newer format.
    """
    file = folder / MANIFEST
    if not file.exists():
        return None
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = int(manifest["format"])
        sums = [(sums["bytes"] + 0, sums["sha256"]) for sums in manifest["files"].values()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file}: not a checkpoint's manifest ({error})") from None
    if version > FORMAT:
        raise CheckpointError(
            f"{folder}: written in format {version}, but this version of itwinai reads up to "
            f"{FORMAT}. Use the version that wrote it, {manifest.get('versions', {})}."
        )
    own = manifest.pop(_OWN_SUM, None)  # earlier versions wrote none
    if not sums or (own is not None and own != _sum_of(manifest)):
        raise CheckpointError(
            f"{file}: not a whole checkpoint; the file was altered after it was written"
        )
    return manifest


def check_manifest(folder: Path) -> dict[str, Any] | None:
    """Compare a checkpoint's files with its manifest, and return that; None if it has none.

    Raises:
        CheckpointError: For the first file that is missing, cut off or altered.
    """
    manifest = read_manifest(folder)
    for name, expected in (manifest or {}).get("files", {}).items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: this file of the checkpoint is missing")
        found = _sum(folder / name)
        if found != expected:
            cut = found["bytes"] < expected["bytes"]
            raise CheckpointError(
                f"{folder / name}: not a whole checkpoint; the file was "
                f"{'cut off' if cut else 'altered'} after it was written"
            )
    return manifest


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sum(file: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {"bytes": file.stat().st_size, "sha256": digest.hexdigest()}


def _sum_of(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
