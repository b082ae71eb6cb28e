"""How a study was started: the pipeline that the command line leaves in the study's folder."""

from __future__ import annotations

from pathlib import Path

from itwinai.hpo.errors import StudyError
from itwinai.io.files import write_text

PIPELINE_FILE = "pipeline.yaml"


def keep_pipeline(directory: Path, text: str) -> None:
    """Write a study's pipeline, or replace the one of an earlier run."""
    write_text(directory / PIPELINE_FILE, text)


def pipeline_of(directory: Path) -> Path:
    """Return the file that holds a study's pipeline.

    Raises:
        StudyError: If the study was not started from the command line.
    """
    path = directory / PIPELINE_FILE
    if not path.is_file():
        raise StudyError(
            f"{path}: there is no such file, because this study was not started with 'itwinai hpo "
            "run' or 'itwinai exec-pipeline'. Do this from the program that started it."
        )
    return path
