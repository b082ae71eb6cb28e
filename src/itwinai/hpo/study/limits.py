"""What ends a study before its last trial: time, failures alike, a request of user or job."""

from __future__ import annotations

import time
from pathlib import Path

from itwinai import job
from itwinai.hpo.record import STOP_FILE
from itwinai.hpo.trial import FAILURES, TrialState

#: Seconds between two looks for it: the folder may lie on a slow disk.
_LOOK_EVERY = 1.0


class Limits:
    """The time budget, and the requests to stop.

    Args:
        budget: Seconds in all, over all runs of the study; None: no limit.
        spent: Seconds that earlier runs have taken.
        directory: The study's folder; a request that an earlier run has met is removed from it.
    """

    def __init__(self, budget: float | None, spent: float, directory: Path) -> None:
        self._end = None if budget is None else time.monotonic() + budget - spent
        self._file = directory / STOP_FILE
        self._file.unlink(missing_ok=True)
        self._looked = time.monotonic()
        self._requested = self._job_ends = False

    def reached(self) -> str | None:
        """Say why the study ends now, or None if it goes on."""
        now = time.monotonic()
        if self._end is not None and now >= self._end:
            return "the study's time budget ended"
        if now - self._looked >= _LOOK_EVERY:
            self._looked = now
            self._requested = self._requested or self._file.exists()
            self._job_ends = job.stop_requested()
        if self._job_ends:
            return "the job ends"
        return "the study was asked to stop" if self._requested else None


class FailFast:
    """Gives up when a study's first trials all fail in the same way.

    Args:
        most: So many failures are enough.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._failures: list[tuple[TrialState, str]] | None = []

    def hear(self, state: TrialState, reason: str) -> str | None:
        """Take an end; return the first one's reason once it is time to give up."""
        if state not in FAILURES or self._failures is None:
            self._failures = None
            return None
        self._failures.append((state, reason))
        kinds = {(state, reason.split(":")[0]) for state, reason in self._failures}
        if len(kinds) > 1:
            self._failures = None
            return None
        return self._failures[0][1] if len(self._failures) >= self._most else None
