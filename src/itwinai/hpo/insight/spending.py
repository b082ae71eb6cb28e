"""What studies have spent: epochs, hours of cores and GPUs, energy, from their records alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from itwinai.hpo.insight.confirmation import NAME as CONFIRMATION
from itwinai.hpo.record import Attempt, StudyResult, list_studies, load_study
from itwinai.hpo.trial import NVML, RAPL

_HOUR = 3600
_KWH = 3.6e6

#: Watts that are charged where nothing was measured: a server takes around ten for each core under
#: load, its memory included, and a data centre's GPU 300 to 700.
CORE_WATTS, GPU_WATTS = 10.0, 400.0


@dataclass(frozen=True)
class Spent:
    """What a study, or several, have spent.

    The hours of cores and GPUs are those that trials held, whatever they used of them: seconds in
    slots times a trial's workers times what each gets. Trials that share a node are each
    charged their own share of it, so that nothing counts twice.

    Attributes:
        studies: Studies.
        trials: Trials that have started.
        epochs: Epochs run, those included that were run again.
        hours: Hours in which at least one trial of a study ran; of several studies, added up.
        trial_hours: Hours that trials held their slots, added up over trials.
        core_hours: Hours of cores that the trials held.
        gpu_hours: Hours of GPUs that the trials held.
        unknown: Studies whose record, of an earlier version, does not tell what their trials got:
            they have no part in the hours of cores and GPUs, nor in the estimate.
        rapl_kwh: Energy of processors and memory, as measured by RAPL.
        nvml_kwh: Energy of GPUs, as measured by NVML.
        estimated_kwh: What trials have used that were not measured, by the hours of cores and GPUs
            that they held.
        jobs: Slurm's numbers of the jobs that they ran in.
    """

    studies: int = 0
    trials: int = 0
    epochs: float = 0
    hours: float = 0.0
    trial_hours: float = 0.0
    core_hours: float = 0.0
    gpu_hours: float = 0.0
    unknown: int = 0
    rapl_kwh: float = 0.0
    nvml_kwh: float = 0.0
    estimated_kwh: float = 0.0
    jobs: tuple[str, ...] = ()

    def __add__(self, other: Spent) -> Spent:
        """Both together."""
        names = [field.name for field in fields(self)]
        both = Spent(*(getattr(self, name) + getattr(other, name) for name in names))
        return replace(both, jobs=tuple(dict.fromkeys(both.jobs)))


def spent_by(result: StudyResult) -> Spent:
    """What a study has spent; each trial held what those of its run got."""
    cost, attempts = result.cost, result.attempts
    estimated = [
        _hours(result, "CPU", _unmeasured(result, RAPL)) * CORE_WATTS,
        _hours(result, "GPU", _unmeasured(result, NVML)) * GPU_WATTS,
    ]
    return Spent(
        studies=1,
        trials=len(result.trials),
        epochs=cost.epochs,
        hours=cost.elapsed / _HOUR,
        trial_hours=cost.seconds / _HOUR,
        core_hours=_hours(result, "CPU", attempts),
        gpu_hours=_hours(result, "GPU", attempts),
        unknown=int(result.setup is None),
        rapl_kwh=_measured(result, RAPL),
        nvml_kwh=_measured(result, NVML),
        estimated_kwh=sum(estimated) / 1000,
        jobs=tuple(dict.fromkeys(start.job for start in result.starts if start.job)),
    )


def _hours(result: StudyResult, resource: str, attempts: Iterable[Attempt]) -> float:
    """Hours of a resource that trials held in some of their attempts."""
    return sum(a.seconds * _held(result, a).get(resource, 0.0) for a in attempts) / _HOUR


def _held(result: StudyResult, attempt: Attempt) -> Mapping[str, float]:
    """The resources that a trial of that time held."""
    latest = {} if result.setup is None else result.setup.held
    return next((held for until, held in result.held_before if attempt.began < until), latest)


def _measured(result: StudyResult, source: str) -> float:
    """Kilowatt-hours that a source has measured."""
    return sum(trial.energy.get(source, 0.0) for trial in result.trials) / _KWH


def _unmeasured(result: StudyResult, source: str) -> list[Attempt]:
    """The attempts at trials that a source has not measured."""
    without = {trial.number for trial in result.trials if source not in trial.energy}
    return [attempt for attempt in result.attempts if attempt.trial in without]


def ledger(folder: str | Path) -> dict[Path, Spent]:
    """What each study in a folder, or below, has spent, by the study's folder.

    Records that cannot be read are left out;
    :func:`itwinai.hpo.list_studies` names them.

    Raises:
        StudyError: If there is no such folder.
    """
    found = {}
    for study in list_studies(folder):
        confirmation = study.directory / CONFIRMATION  # a study of its own
        for one in (study, *(list_studies(confirmation) if confirmation.is_dir() else ())):
            if one.state != "damaged":
                found[one.directory] = spent_by(load_study(one.directory))
    return found


def total(parts: Iterable[Spent]) -> Spent:
    """All of them together."""
    return sum(parts, Spent())
