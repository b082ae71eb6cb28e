"""How a study was started, as its folder keeps it: by which pipeline, in which batch jobs."""

from __future__ import annotations

from pathlib import Path

from itwinai import job
from itwinai.hpo.errors import StudyError
from itwinai.io.files import write_text
from itwinai.io.ownership import why_not_own

PIPELINE_FILE = "pipeline.yaml"
#: Identifies the batch jobs that a study runs in.
JOB_FILE = "job"


def keep_pipeline(directory: Path, text: str) -> None:
    """Write a study's pipeline, or replace the one of an earlier run."""
    write_text(directory / PIPELINE_FILE, text)


def keep_job(directory: Path) -> None:
    """Write what identifies the batch jobs that the study runs in, if it runs in one."""
    run = job.run_id()
    if run is not None:
        write_text(directory / JOB_FILE, run + "\n")


def is_of_this_job(directory: Path) -> bool:
    """Whether the study was begun by this batch job, or by one that it continues."""
    path = directory / JOB_FILE
    return path.is_file() and path.read_text(encoding="utf-8").strip() == job.run_id()


def pipeline_of(directory: Path) -> Path:
    """Return the file that holds a study's pipeline, which the caller is going to run.

    Raises:
        StudyError: If the study was not started from the command line, or another user could have
            put the file there.
    """
    path = directory / PIPELINE_FILE
    strange = why_not_own(directory, PIPELINE_FILE)
    if strange:
        raise StudyError(f"{strange}. A pipeline that others could have put there is not run.")
    if not path.is_file():
        raise StudyError(
            f"{path}: there is no such file, because this study was not started with 'itwinai hpo "
            "run' or 'itwinai exec-pipeline'. Do this from the program that started it."
        )
    return path
