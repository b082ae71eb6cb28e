"""What a user sees of a study: the live table, a line per trial, the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.display.notebook import load_study, shown
    from itwinai.hpo.display.progress import StudyProgress
    from itwinai.hpo.display.summary import checkpoint_of, name_of
    from itwinai.hpo.display.tables import show, table, table_of_studies, table_of_trials
    from itwinai.hpo.display.view import Snapshot, standing
    from itwinai.hpo.display.watching import watch
    from itwinai.hpo.display.words import number, plural

__all__ = [
    "Snapshot",
    "StudyProgress",
    "checkpoint_of",
    "load_study",
    "name_of",
    "number",
    "plural",
    "show",
    "shown",
    "standing",
    "table",
    "table_of_studies",
    "table_of_trials",
    "watch",
]

__getattr__ = lazily(
    __name__,
    {
        "notebook": "load_study shown",
        "progress": "StudyProgress",
        "view": "Snapshot standing",
        "summary": "checkpoint_of name_of",
        "words": "number plural",
        "tables": "show table table_of_studies table_of_trials",
        "watching": "watch",
    },
)
