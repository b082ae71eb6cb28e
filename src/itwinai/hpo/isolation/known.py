"""A trial that begins again: what it reports up to where it was is on record already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from itwinai.reporting import END_OF_EPOCH, Progress, Reporter


class AfterKnown:
    """Keeps back the reports of a trial that begins again up to where it was.

    Args:
        reporter: Who gets the later ones.
        known: Epochs that are on record; none of a trial that just begins.
    """

    def __init__(self, reporter: Reporter, known: float) -> None:
        self._reporter = reporter
        self._known = known
        self._epochs = 0.0

    def report(
        self,
        metrics: Mapping[str, float],
        checkpoint: Path | None = None,
        progress: Progress = END_OF_EPOCH,
    ) -> bool:
        """Pass a report on if it is new; one that is known ended nothing."""
        self._epochs = progress.after(self._epochs)
        is_new = self._epochs > self._known
        return is_new and self._reporter.report(metrics, checkpoint, progress)

    def note(self, about: str, text: str) -> None:
        """Pass a note on."""
        self._reporter.note(about, text)
