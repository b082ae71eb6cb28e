"""What studies have spent: epochs, hours of cores and GPUs, from their records alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from itwinai.hpo.insight.confirmation import NAME as CONFIRMATION
from itwinai.hpo.record import StudyResult, list_studies, load_study

_HOUR = 3600


@dataclass(frozen=True)
class Spent:
    """What a study, or several, have spent.

    The hours of cores and GPUs are those that trials held, whatever they used of them: seconds of
    training times a trial's workers times what each gets. Trials that share a node are each
    charged their own share of it, so that nothing counts twice.

    Attributes:
        studies: Studies.
        trials: Trials that have started.
        epochs: Epochs run, those included that were run again.
        hours: Hours in which at least one trial of a study ran; of several studies, added up.
        trial_hours: Hours of training, added up over trials.
        core_hours: Hours of cores that the trials held.
        gpu_hours: Hours of GPUs that the trials held.
        unknown: Studies whose record, of an earlier version, does not tell what their trials got:
            they have no part in the hours of cores and GPUs.
    """

    studies: int = 0
    trials: int = 0
    epochs: int = 0
    hours: float = 0.0
    trial_hours: float = 0.0
    core_hours: float = 0.0
    gpu_hours: float = 0.0
    unknown: int = 0

    def __add__(self, other: Spent) -> Spent:
        """Both together."""
        names = [field.name for field in fields(self)]
        return Spent(*(getattr(self, name) + getattr(other, name) for name in names))


def spent_by(result: StudyResult) -> Spent:
    """What a study has spent; what its trials got in its last run counts for all its runs."""
    cost, setup = result.cost, result.setup
    hours = cost.seconds / _HOUR
    held = {} if setup is None else {k: v * setup.workers for k, v in setup.per_worker.items()}
    return Spent(
        studies=1,
        trials=len(result.trials),
        epochs=cost.epochs,
        hours=cost.elapsed / _HOUR,
        trial_hours=hours,
        core_hours=hours * held.get("CPU", 0.0),
        gpu_hours=hours * held.get("GPU", 0.0),
        unknown=int(setup is None),
    )


def ledger(folder: str | Path) -> dict[Path, Spent]:
    """What each study in a folder, or below, has spent, by the study's folder.

    Records that cannot be read are left out;
    :func:`itwinai.hpo.list_studies` names them.

    Raises:
        StudyError: If there is no such folder.
    """
    found = {}
    for study in list_studies(folder):
        if study.state != "damaged":
            found[study.directory] = spent_by(load_study(study.directory))
            own = study.directory / CONFIRMATION
            if own.is_dir():  # a study of its own
                found[own] = spent_by(load_study(own))
    return found


def total(parts: Iterable[Spent]) -> Spent:
    """All of them together."""
    return sum(parts, Spent())
