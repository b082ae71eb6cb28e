"""The times in which a study starts no trial, because the machines lack something that it needs."""

from __future__ import annotations

import shutil
import time
from collections import Counter

import itwinai
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.record import MemoryRecord
from itwinai.hpo.study.disk import largest_checkpoint
from itwinai.io.files import why_unusable

#: Seconds between two tries.
_TRY_EVERY = 1.0


class Outage:
    """Hears what is lacking (space, a file system, ...), tries again, and gives up in the end.

    Args:
        configuration: The study's settings: its folder, and how patient it is.
        record: Where the study is written; what its disk does not take is one of the things.
    """

    def __init__(self, configuration: StudyConfiguration, record: MemoryRecord) -> None:
        self._directory = configuration.directory
        self._patience = configuration.outage_timeout_s
        self._most = configuration.max_failures
        self._record = record
        #: What is lacking; nothing if trials may start.
        self._lack = ""
        #: When it began; kept until a trial ends well, because a little room comes and goes.
        self._began: float | None = None
        self._tried = time.monotonic()
        #: How often each trial met it.
        self._met: Counter[int] = Counter()

    def met_by(self, number: int, lack: str) -> bool:
        """Hear that a trial has ended for a lack; return whether it may try again in this run."""
        self._met[number] += 1
        self._begin(lack)
        return self._met[number] <= self._most

    def passed(self) -> None:
        """Hear that a trial has ended for another reason."""
        if not self._lack:
            self._began = None

    @property
    def lasts(self) -> bool:
        """Whether something is still lacking; it is tried once a second."""
        now = time.monotonic()
        if now - self._tried >= _TRY_EVERY:
            self._tried = now
            self._try()
        return bool(self._lack)

    def exhausted(self) -> str | None:
        """Say why the study ends for what is lacking, or None if it does not."""
        if not self._lack or self._began is None:
            return None
        if time.monotonic() - self._began < self._patience:
            return None
        return f"{self._lack}, for {self._patience:g} s (study.outage_timeout_s)"

    def _try(self) -> None:
        if self._record.problem:
            self._record.sync()
        lack = self._record.problem or (self._lacking() if self._lack else "")
        if lack:
            self._begin(lack)
        elif self._lack:
            self._lack = ""
            itwinai.logger.warning("what was lacking is there again: the study goes on")

    def _begin(self, lack: str) -> None:
        if not self._lack:
            self._tried = time.monotonic()
            self._began = self._began or self._tried
            itwinai.logger.warning(
                "warning: %s: %s. No trial starts until this has passed, for at most %g s "
                "(study.outage_timeout_s); then the study ends, to be resumed",
                self._directory,
                lack,
                self._patience,
            )
        self._lack = lack

    def _lacking(self) -> str:
        """What is lacking now: a file cannot be written, or there is no room for a checkpoint."""
        problem = why_unusable(self._directory)
        if problem:
            return problem
        room, needed = shutil.disk_usage(self._directory).free, largest_checkpoint(self._directory)
        return "" if room >= needed else f"no space for a checkpoint of {needed / 2**20:.0f} MiB"
