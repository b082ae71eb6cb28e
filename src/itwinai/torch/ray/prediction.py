"""From a study to the checkpoint that predictions are made with."""

from __future__ import annotations

from pathlib import Path

from itwinai.errors import CheckpointError
from itwinai.hpo.record import load_study


def best_checkpoint(study: Path) -> Path:
    """Return the folder of the best trial's checkpoint.

    Args:
        study: The study's folder.

    Raises:
        StudyError: If there is no study.
        CheckpointError: If its best trial has no checkpoint.
    """
    result = load_study(study)
    best = result.best
    if best is None:
        raise CheckpointError(f"{study}: no trial of the study has reported {result.metric} yet")
    if best.checkpoint is None:
        raise CheckpointError(f"{study}: the best trial, number {best.number}, has no checkpoint")
    return best.checkpoint
