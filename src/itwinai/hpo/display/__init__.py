"""What a user sees of a study: the live table, a line per trial, the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.display.progress import StudyProgress
    from itwinai.hpo.display.view import Snapshot

__all__ = [
    "Snapshot",
    "StudyProgress",
]

__getattr__ = lazily(
    __name__,
    {
        "progress": "StudyProgress",
        "view": "Snapshot",
    },
)
