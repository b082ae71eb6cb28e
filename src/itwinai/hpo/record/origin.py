"""How a study was started, as its folder keeps it: by which pipeline, command, batch jobs."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import socket
import sys
import time
import uuid
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from itwinai import job
from itwinai.confidential import hidden_command
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record.attributes import Start
from itwinai.io.files import shortest, write_text
from itwinai.io.ownership import why_not_own

PIPELINE_FILE = "pipeline.yaml"
#: Identifies the batch jobs that a study runs in.
JOB_FILE = "job"

#: Identifies this process.
_PROGRAM = uuid.uuid4().hex

#: Packages that decide what a training gives; the program may do without the last ones.
_PACKAGES = ("itwinai", "ray", "optuna", "numpy", "torch", "lightning")

#: First line of a kept pipeline, before the sum of all lines below; where the end of a file is cut
#: off, it stays.
_SUM = b"# SHA-256 of all lines below: "


def keep_pipeline(directory: Path, text: str) -> None:
    """Write a study's pipeline, or replace the one of an earlier run."""
    write_text(directory / PIPELINE_FILE, f"{_SUM.decode()}{_sum_of(text.encode())}\n{text}")


def resume_command(directory: Path) -> str:
    """The command that goes on with a study; empty where its folder holds no pipeline to run."""
    if not (directory / PIPELINE_FILE).is_file():
        return ""
    return f"'itwinai hpo resume {shlex.quote(shortest(directory))}'"


def keep_job(directory: Path) -> None:
    """Write what identifies the batch jobs that the study runs in, if it runs in one."""
    run = job.run_id()
    if run is not None:
        write_text(directory / JOB_FILE, f"{run}\n{_PROGRAM}\n")


def this_start() -> Start:
    """How this program was started; a package that it has not loaded is not in it."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        if name in sys.modules:
            with suppress(PackageNotFoundError):  # loaded from a folder of sources
                versions[name] = version(name)
    return Start(
        time=round(time.time(), 3),
        host=socket.gethostname(),
        folder=os.getcwd(),
        command=hidden_command(sys.orig_argv),
        job=os.environ.get("SLURM_JOB_ID", ""),
        versions=versions,
    )


def is_of_this_job(directory: Path) -> bool:
    """Whether the study was begun by this batch job, or by one that it continues.

    What this very program has run is another study of it, in the same place.
    """
    path = directory / JOB_FILE
    known = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return known[:1] == [job.run_id()] and _PROGRAM not in known


def pipeline_of(directory: Path) -> Path:
    """Return the file that holds a study's pipeline, which the caller is going to run.

    Raises:
        StudyError: If the study was not started from the command line, another user could have
            put the file there, or it is not as it was written.
    """
    path = directory / PIPELINE_FILE
    strange = why_not_own(directory, PIPELINE_FILE)
    if strange:
        raise StudyError(f"{strange}. A pipeline that others could have put there is not run.")
    if not path.is_file():
        raise StudyError(
            f"{path}: there is no such file, because this study was not started with 'itwinai hpo "
            "run' or 'itwinai exec-pipeline'. Do this from the program that started it: "
            "study.resume=true goes on, and itwinai.hpo has confirm and rerun."
        )
    _check_sum(path)
    return path


def _check_sum(path: Path) -> None:
    """Refuse a pipeline that has changed; those of earlier versions carry no sum."""
    first, _, below = path.read_bytes().partition(b"\n")
    if first.startswith(_SUM) and first.removeprefix(_SUM).decode("latin-1") != _sum_of(below):
        raise StudyError(
            f"{path}: altered after itwinai wrote it. Restore it from a copy; if you have changed "
            "it on purpose, delete its first line."
        )


def _sum_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
