"""A trial that begins again: what it reports up to where it was is on record already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from itwinai.reporting import Reporter


class AfterKnown:
    """Keeps back the reports of a trial that begins again up to where it was.

    Args:
        reporter: Who gets the later ones.
        known: How many are on record; none of a trial that just begins.
    """

    def __init__(self, reporter: Reporter, known: int) -> None:
        self._reporter = reporter
        self._known = known

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> bool:
        """Pass a report on if it is new; one that is known ended nothing."""
        self._known -= 1
        return self._known < 0 and self._reporter.report(metrics, checkpoint)

    def note(self, about: str, text: str) -> None:
        """Pass a note on."""
        self._reporter.note(about, text)
