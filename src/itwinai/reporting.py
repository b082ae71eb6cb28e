"""The only thing a training knows of a study: somebody to report to, who may say stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import itwinai

#: Digits that a number is written with at most.
_MOST_DIGITS = 8


class TrialStopped(BaseException):
    """Ends a user's own ``train()`` when its trial is stopped.

    Not an ``Exception``, so that ``except Exception`` in user code does not swallow it.
    """


@dataclass(frozen=True)
class Progress:
    """How far a training has come with a report.

    Attributes:
        epochs: Epochs trained, with the part of the running one; None: to the end of that.
        steps: Optimizer steps made; None: nobody tells.
        saved: Epochs that the newest checkpoint holds; None: as many.
    """

    epochs: float | None = None
    steps: int | None = None
    saved: float | None = None

    def after(self, before: float) -> float:
        """Epochs trained, where the report before was after so many."""
        return math.floor(before) + 1 if self.epochs is None else self.epochs


#: Of a report after a whole epoch.
END_OF_EPOCH = Progress()


class Reporter(Protocol):
    """Receives the metrics of each report, and what the user should know besides."""

    def report(
        self,
        metrics: Mapping[str, float],
        checkpoint: Path | None = None,
        progress: Progress = END_OF_EPOCH,
    ) -> bool:
        """Hand metrics over, and the newest checkpoint; return True to end the training now."""
        ...

    def note(self, about: str, text: str) -> None:
        """Tell the user; of a study's trials, the first note about something is shown."""
        ...


class NullReporter:
    """A training outside a study: nobody listens, nobody stops it."""

    def report(
        self,
        metrics: Mapping[str, float],
        checkpoint: Path | None = None,
        progress: Progress = END_OF_EPOCH,
    ) -> bool:
        """Do nothing and go on."""
        return False

    def note(self, about: str, text: str) -> None:
        """Tell the user."""
        itwinai.logger.warning(text)


class TellingReporter(NullReporter):
    """A training outside a study, whose reports the user sees as they come."""

    def __init__(self) -> None:
        #: Epochs trained at the last report.
        self.done = 0.0

    def report(
        self,
        metrics: Mapping[str, float],
        checkpoint: Path | None = None,
        progress: Progress = END_OF_EPOCH,
    ) -> bool:
        """Tell the user and go on."""
        self.done = progress.after(self.done)
        values = "  ".join(f"{name}={rounded(value)}" for name, value in metrics.items())
        itwinai.logger.info("epoch %g  %s", self.done, values)
        return False


def rounded(value: float, digits: int = 4) -> str:
    """Write a number with few digits; with more, up to 8, where it would look like a whole one.

    Example:
        >>> rounded(0.123456), rounded(0.99996), rounded(12345.6), rounded(2.0)
        ('0.1235', '0.99996', '12345.6', '2')
    """
    for more in range(digits, _MOST_DIGITS):
        text = f"{value:.{more}g}"
        if not float(text).is_integer() or float(text) == value:
            return text
    return f"{value:.{_MOST_DIGITS}g}"
