"""Submitting and cancelling the jobs of a run, and the files by which they are found again.

``storage_path/.jobs`` holds, for a configuration named NAME whose run began with job 1234::

    NAME.json        the run, written by submit
    NAME.sh          what was submitted
    1234.sh          the same as Slurm ran it; continuations are submitted from it
    1234.links       the run's jobs: number, and how many came before, one after the other
    1234.cancelled   no more continuations
    1234-0/          what job 1234 needs while it runs; 1234-1 after it was put back into the queue
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, ValidationError

from itwinai.config.model import StrictModel
from itwinai.io.files import write_text
from itwinai.slurm.config import SlurmConfiguration
from itwinai.slurm.queue import JobState, states_of
from itwinai.slurm.script import render
from itwinai.slurm.tools import RefusedError, SlurmError, run_tool

_JOB = re.compile(r"[0-9]{1,18}", re.ASCII)
_LINK = re.compile(r"(?P<job>[0-9]{1,18}) (?P<link>[0-9]{1,4})", re.ASCII)
_PATTERN = re.compile(r"%\d*([jAx%])")


class Submitted(StrictModel):
    """What ``submit`` writes down.

    Attributes:
        run: The number of the first job.
    """

    run: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")]


def submit(
    configuration: SlurmConfiguration, resume: bool = False, allow: Iterable[str] = ()
) -> str:
    """Submit a job; return its number.

    Args:
        configuration: What is asked of Slurm, and what runs.
        resume: Whether the study or training goes on from what is there.
        allow: What pipelines of the job may name, as of ``--allow``.

    Raises:
        SlurmError: If a job of this configuration is not over yet, or Slurm refuses this one.
    """
    unfinished = [job for job in _known_jobs(configuration) if not job.is_over]
    if unfinished:
        raise SlurmError(
            f"job {unfinished[0].job} of this configuration is {unfinished[0].state.lower()}: "
            "wait for it, or end it with 'itwinai slurm cancel'. For another study beside it "
            "choose another job_name."
        )
    run = run_of(configuration) if resume else None
    _prepare(configuration)
    write_text(script_of(configuration), render(configuration, allow))
    job = _sbatch(script_of(configuration), run)
    with open(_links(configuration, run or job), "a", opener=_private) as links:
        links.write(f"{job} 0\n")
    write_text(_submitted(configuration), Submitted(run=run or job).model_dump_json() + "\n")
    return job


def cancel(configuration: SlurmConfiguration) -> list[str]:
    """Cancel the jobs of a configuration, the continuation that waits included.

    Returns:
        The numbers of the jobs that were not over.

    Raises:
        SlurmError: If none was submitted.
    """
    mark = configuration.jobs_folder / f"{run_of(configuration)}.cancelled"
    # Before the jobs are looked up: one that is about to submit its continuation sees it.
    mark.touch(mode=0o600)
    jobs = [job.job for job in states_of(list(links_of(configuration))) if not job.is_over]
    if jobs:
        run_tool("scancel", *jobs)
    return jobs


def run_of(configuration: SlurmConfiguration) -> str:
    """Return the run that was submitted last for a configuration: the number of its first job.

    Raises:
        SlurmError: If there is none.
    """
    path = _submitted(configuration)
    try:
        return Submitted.model_validate_json(path.read_bytes()).run
    except FileNotFoundError:
        raise SlurmError(
            f"{path}: no job named {configuration.job_name!r} was submitted with this "
            "storage_path. 'itwinai slurm submit' submits one."
        ) from None
    except ValidationError as error:
        raise SlurmError(
            f"{path}: not what 'itwinai slurm submit' wrote. Delete it, and look for the job with "
            f"squeue --name={configuration.job_name}"
        ) from error


def links_of(configuration: SlurmConfiguration) -> dict[str, int]:
    """Return the numbers of a run's jobs, and how many came before each, one after the other."""
    run = run_of(configuration)
    path = _links(configuration, run)
    lines = path.read_text().splitlines() if path.exists() else []
    matches = (_LINK.fullmatch(line) for line in lines)
    # A job that was put back into the queue stands there twice.
    return {match["job"]: int(match["link"]) for match in matches if match} or {run: 0}


def script_of(configuration: SlurmConfiguration) -> Path:
    """Return where the submitted script is kept."""
    return configuration.jobs_folder / f"{configuration.job_name}.sh"


def log_of(configuration: SlurmConfiguration, job: str) -> Path:
    """Return the file that a job writes to."""
    values = {"j": job, "A": job, "x": configuration.job_name, "%": "%"}
    return Path(_PATTERN.sub(lambda match: values[match[1]], str(configuration.log)))


def _sbatch(script: Path, run: str | None) -> str:
    export = [f"--export=ALL,ITWINAI_RUN={run}"] if run else []
    try:
        answer = run_tool("sbatch", "--parsable", *export, str(script))
    except RefusedError as error:
        raise SlurmError(
            f"sbatch refused the job: {error.reason}\nWhat it was asked for stands at the top of "
            f"{script}. 'sinfo' lists partitions and their limits, 'sacctmgr show associations "
            "user=$USER' your accounts."
        ) from None
    job = answer.strip().partition(";")[0]
    if _JOB.fullmatch(job) is None:
        raise SlurmError(f"sbatch answered {answer!r}, which is no job's number; look with squeue.")
    return job


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _links(configuration: SlurmConfiguration, run: str) -> Path:
    return configuration.jobs_folder / f"{run}.links"


def _submitted(configuration: SlurmConfiguration) -> Path:
    return configuration.jobs_folder / f"{configuration.job_name}.json"


def _known_jobs(configuration: SlurmConfiguration) -> list[JobState]:
    if not _submitted(configuration).exists():
        return []
    return states_of(list(links_of(configuration)))


def _prepare(configuration: SlurmConfiguration) -> None:
    """Make the folders that the job needs; Slurm would not, and lose its output."""
    jobs = configuration.jobs_folder
    try:
        jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
        if jobs.is_symlink():
            raise SlurmError(f"{jobs}: this is a link. Remove it; jobs keep their files there.")
        jobs.chmod(0o700)
        for log in (configuration.log, configuration.err_out):
            if log is not None:
                log.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SlurmError(
            f"{error.filename}: {error.strerror}. Choose a storage_path and std_out of your own."
        ) from error
