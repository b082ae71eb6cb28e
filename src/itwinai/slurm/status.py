"""Where the jobs of a run stand, and the studies it works on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from itwinai.slurm.config import SlurmConfiguration
from itwinai.slurm.queue import JobState, states_of
from itwinai.slurm.submission import links_of, log_of

if TYPE_CHECKING:
    from itwinai.hpo.record import ListedStudy


@dataclass(frozen=True)
class RunStatus:
    """The jobs of a configuration.

    Attributes:
        name: The jobs' name.
        jobs: The jobs, the first one first.
        log: What the newest job that has begun writes to.
        continuations: How many more jobs may follow.
        studies: The studies below ``storage_path``; empty unless the jobs are for one.
    """

    name: str
    jobs: tuple[JobState, ...]
    log: Path
    continuations: int
    studies: tuple[ListedStudy, ...]


def status_of(configuration: SlurmConfiguration) -> RunStatus:
    """Look up the jobs of a configuration.

    Raises:
        SlurmError: If none was submitted, or Slurm does not answer.
    """
    links = links_of(configuration)
    jobs = _with_successors(states_of(list(links)))
    logs = [log_of(configuration, job.job) for job in jobs]
    log = next((log for log in reversed(logs) if log.exists()), logs[0])
    left = max(0, configuration.max_continuations - max(links.values()))
    return RunStatus(configuration.job_name, tuple(jobs), log, left, _studies(configuration))


def _with_successors(jobs: list[JobState]) -> list[JobState]:
    """Say of jobs that were cut off which one goes on; Slurm knows that they failed, no more."""
    followed = [
        replace(job, reason=f"time is up; job {after.job} goes on") if job.is_over else job
        for job, after in pairwise(jobs)
    ]
    return [*followed, *jobs[-1:]]


def _studies(configuration: SlurmConfiguration) -> tuple[ListedStudy, ...]:
    from itwinai.hpo.record import list_studies

    if configuration.kind == "training" or not configuration.storage_path.is_dir():
        return ()
    return tuple(list_studies(configuration.storage_path))
