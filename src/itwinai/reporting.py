"""The only thing a training knows of a study: somebody to report to, who may say stop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import itwinai


class TrialStopped(BaseException):
    """Ends a user's own ``train()`` when its trial is stopped.

    Not an ``Exception``, so that ``except Exception`` in user code does not swallow it.
    """


class Reporter(Protocol):
    """Receives the metrics of each epoch, and what the user should know besides."""

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> bool:
        """Hand over one epoch's metrics; return True when the training shall end now."""
        ...

    def note(self, about: str, text: str) -> None:
        """Tell the user; of a study's trials, the first note about something is shown."""
        ...


class NullReporter:
    """A training outside a study: nobody listens, nobody stops it."""

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None = None) -> bool:
        """Do nothing and go on."""
        return False

    def note(self, about: str, text: str) -> None:
        """Tell the user."""
        itwinai.logger.warning(text)
