"""What ends a study before its last trial: time, errors, a request of user or job, an outage."""

from __future__ import annotations

import time

from itwinai import job
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import StudyError, TrialsFailedError
from itwinai.hpo.record import STOP_FILE, MemoryRecord
from itwinai.hpo.study.outage import Outage
from itwinai.hpo.trial import FAILURES, TrialState

#: Seconds between two looks for it: the folder may lie on a slow disk.
_LOOK_EVERY = 1.0


class Limits:
    """The time budget, the requests to stop, and errors that every trial would meet.

    Args:
        configuration: The study's settings: its budget, for all its runs together, and its folder,
            from which a request is removed that an earlier run has met.
        spent: Seconds that earlier runs have taken.
        record: Where the study is written, which others may delete or replace.
        outage: Waits for what the machines lack, and may give up.
    """

    def __init__(
        self,
        configuration: StudyConfiguration,
        spent: float,
        record: MemoryRecord,
        outage: Outage,
    ) -> None:
        self._record = record
        self._outage = outage
        budget = configuration.time_budget_s
        self._end = None if budget is None else time.monotonic() + budget - spent
        self._fail_fast = FailFast(configuration.fail_fast)
        self._directory = configuration.directory
        self._file = self._directory / STOP_FILE
        self._file.unlink(missing_ok=True)
        self._looked = time.monotonic()
        self._requested = self._job_ends = False
        #: The first error that every trial would meet, if there was one.
        self.fatal: StudyError | None = None

    def reached(self) -> str | None:
        """Say why the study ends now, or None if it goes on."""
        now = time.monotonic()
        if self._end is not None and now >= self._end:
            return "the study's time budget ended"
        if now - self._looked >= _LOOK_EVERY:
            self._looked = now
            self._requested = self._requested or self._file.exists()
            self._job_ends = job.stop_requested()
            self._check_record()
        if self._job_ends:
            return "the job ends"
        return "the study was asked to stop" if self._requested else self._outage.exhausted()

    def seconds_left(self) -> float | None:
        """Seconds until the budget or the job ends the study; None where neither does."""
        budget, of_job = self._of_budget(), job.seconds_left()
        return min((left for left in (budget, of_job) if left is not None), default=None)

    @property
    def job_ends_first(self) -> bool:
        """Whether it is the job that will end the study, and the next one goes on."""
        budget, of_job = self._of_budget(), job.seconds_left()
        return of_job is not None and (budget is None or of_job < budget)

    def _of_budget(self) -> float | None:
        return None if self._end is None else self._end - time.monotonic()

    def _check_record(self) -> None:
        if not self._record.is_in_place:
            self.fail(
                StudyError(
                    f"{self._record.path}: the record was deleted, moved or replaced while its "
                    "study ran, which has stopped. What it knew is written there again, unless "
                    "another record is there now; study.resume=true goes on with it."
                )
            )

    def fail(self, error: StudyError) -> None:
        """End the study because of an error that every trial would meet."""
        self.fatal = self.fatal or error

    def ended(self, state: TrialState, reason: str) -> None:
        """Hear how a trial ended: if the first ones all failed alike, the next ones would too."""
        first = self._fail_fast.hear(state, reason)
        if first is not None:
            self.fail(
                TrialsFailedError(
                    f"the first {self._fail_fast.most} trials all failed, so the study ends here. "
                    f"The first one: {first}. Their logs: {self._directory / 'trials'}"
                )
            )


class FailFast:
    """Gives up when a study's first trials all fail in the same way.

    Args:
        most: So many failures are enough.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._failures: list[tuple[TrialState, str]] | None = []

    def hear(self, state: TrialState, reason: str) -> str | None:
        """Take an end; return the first one's reason once it is time to give up."""
        if state is TrialState.INTERRUPTED:
            return None
        if state not in FAILURES or self._failures is None:
            self._failures = None
            return None
        self._failures.append((state, reason))
        kinds = {(state, reason.split(":")[0]) for state, reason in self._failures}
        if len(kinds) > 1:
            self._failures = None
            return None
        return self._failures[0][1] if len(self._failures) >= self.most else None
