"""The one checkpoint that a trial keeps."""

from __future__ import annotations

from pathlib import Path

from itwinai.io.files import delete_folder


class NewestCheckpoint:
    """A trial's checkpoint, which the next one replaces once that is on record.

    Until then a resumed study would continue from the one before.

    Args:
        folder: The trial's; a checkpoint that lies elsewhere stays.

    Attributes:
        newest: The last that was written; None: there is none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._on_record: Path | None = None
        self.newest: Path | None = None

    def continues(self, path: Path) -> None:
        """Hear of the checkpoint that the trial goes on from, which the record knows."""
        self._on_record = self.newest = path

    def written(self, path: Path) -> None:
        """Hear that a checkpoint is complete; delete the one before, unless it is on record."""
        before, self.newest = self.newest, path
        if before is not None and before not in (path, self._on_record):
            delete_folder(before, within=self._folder)

    def recorded(self) -> None:
        """Hear that the newest is on record; delete the one that was."""
        self.delete_superseded()
        self._on_record = self.newest

    def delete_superseded(self) -> None:
        """Delete the one on record, if there is a newer one."""
        if self._on_record is not None and self._on_record != self.newest:
            delete_folder(self._on_record, within=self._folder)
