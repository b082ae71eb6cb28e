"""The studies of a folder, each in one line; and whether a study runs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from itwinai.errors import one_line
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record.journal import FILE_NAME
from itwinai.hpo.record.reading import load_study
from itwinai.hpo.record.results import StudyResult
from itwinai.hpo.trial import AGAIN, TrialState
from itwinai.io.files import write_text

#: A file of this name in a study's folder asks the driver to stop.
STOP_FILE = "stop"

StudyState = Literal["running", "interrupted", "finished", "damaged"]

_OPEN = (TrialState.RUNNING, *AGAIN)


@dataclass(frozen=True)
class ListedStudy:
    """A study in a list.

    Attributes:
        directory: Its folder.
        state: ``running`` while a process holds its record, ``interrupted`` if trials of it are
            still to be run or continued, ``damaged`` if its record cannot be read.
        trials: Trials that have started.
        metric: Its primary metric; empty if damaged.
        best: That metric's value of the best trial, or None.
        problem: Why the record cannot be read; empty if it can.
    """

    directory: Path
    state: StudyState
    trials: int = 0
    metric: str = ""
    best: float | None = None
    problem: str = ""


def list_studies(folder: str | Path = "studies") -> list[ListedStudy]:
    """Look for studies in a folder and those below it, in the order of their paths.

    Raises:
        StudyError: If there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise StudyError(f"{root}: there is no such folder. Give the one that holds the studies.")
    return [_listed(directory) for directory in _study_folders(root)]


def state_of(result: StudyResult) -> StudyState:
    """Tell whether a study runs, waits to be resumed, or is over."""
    if is_running(result.record.parent):
        return "running"
    is_short = len(result.trials) - result.copies < result.total
    is_open = is_short or any(trial.state in _OPEN for trial in result.trials)
    return "interrupted" if is_open else "finished"


def is_running(directory: Path) -> bool:
    """Tell whether a process holds a study's record."""
    with open(directory / FILE_NAME, "rb") as record:
        try:
            fcntl.flock(record, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stop_study(directory: str | Path) -> None:
    """Ask a running study to stop: its trials are interrupted at their next report.

    Raises:
        StudyError: If there is no such study, or it is not running.
    """
    directory = Path(directory)
    if not (directory / FILE_NAME).is_file():
        raise StudyError(f"{directory}: there is no study here, as there is no {FILE_NAME}.")
    if not is_running(directory):
        raise StudyError(f"{directory}: this study is not running, so there is nothing to stop.")
    write_text(directory / STOP_FILE, "")


def _study_folders(root: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(root):
        folders.sort()
        if FILE_NAME in files:
            folders.clear()  # trials and checkpoints, and there may be many
            yield Path(path)


def _listed(directory: Path) -> ListedStudy:
    try:
        result = load_study(directory)
    except Exception as error:  # noqa: BLE001 - a damaged record may raise anything
        problem = one_line(str(error) or type(error).__name__)
        return ListedStudy(directory, "damaged", problem=problem)
    best = None if result.best is None else result.best.metric(result.metric)
    return ListedStudy(directory, state_of(result), len(result.trials), result.metric, best)
