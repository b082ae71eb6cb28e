"""Whose a folder is: one for its user alone, and none that others could have put there."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path


def make_own(folder: Path) -> None:
    """Make a folder of mode 0700; one that is there already stays as it is."""
    folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def why_not_own(folder: Path, *files: str) -> str:
    """Say why what is in a folder may be somebody else's; nothing if it is this user's.

    Args:
        folder: It may be a link: whoever follows it has chosen it.
        files: Names in it that are to be used, if they are there.
    """
    for path in (folder, *(folder / name for name in files)):
        try:
            found = path.stat() if path == folder else path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(found.st_mode):
            return f"{path} is a symbolic link"
        # Root's own files, and whatever root looks at, are in good hands.
        if os.geteuid() not in (0, found.st_uid) and found.st_uid != 0:
            return f"{path} belongs to user {found.st_uid}, not to you"
        if path == folder and found.st_mode & stat.S_IWOTH:
            return f"everybody may write to {path}; 'chmod o-w' it once you have looked at it"
    return ""


def why_leads_out(folder: Path, *patterns: str) -> str:
    """Say which of the paths in a folder is a link, through which something would be written.

    Args:
        folder: The folder.
        patterns: Of paths in it, each after those of the folders that it lies in.

    Returns:
        The reason; nothing if there is no link.
    """
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.is_symlink():
                return f"{path} is a symbolic link, through which files outside would be changed"
    return ""


def open_to_group(folder: Path) -> None:
    """Let the group of a folder read what is in it, without following links."""
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):  # it is gone, or another user's
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) | (0o050 if stat.S_ISDIR(mode) else 0o040))
