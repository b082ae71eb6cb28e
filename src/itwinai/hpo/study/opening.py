"""Opening a study's record: a new one, or one that an earlier run has left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import StudyError
from itwinai.hpo.objectives import Objective
from itwinai.hpo.record import (
    FILE_NAME,
    MemoryRecord,
    StudyRecord,
    StudyStorage,
    attributes,
    is_of_this_job,
    read_result,
)
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import TrialState

#: How Optuna names our final states; all others are its FAIL.
_IN_OPTUNA = {
    TrialState.COMPLETED: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
    TrialState.PAUSED: OptunaState.PRUNED,
}


_DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}


def check_existing(configuration: StudyConfiguration) -> None:
    """Refuse a study that exists already, unless it is to be resumed, or this job continues it.

    Raises:
        StudyError: If there is a record and ``resume`` is false.
    """
    path = configuration.directory / FILE_NAME
    continued = configuration.resume or is_of_this_job(configuration.directory)
    if path.exists() and path.stat().st_size and not continued:
        raise StudyError(
            f"study {configuration.name!r} exists already in {configuration.directory}. "
            "Set study.resume=true to go on with it, or give this one another study.name."
        )


def open_study(
    configuration: StudyConfiguration,
    facts: Mapping[str, Any],
    sampler: BaseSampler,
    record: MemoryRecord | None = None,
) -> tuple[MemoryRecord, optuna.Study]:
    """Open a record for writing, with the Optuna study in it.

    Trials that an earlier driver left running are closed. With the seed it began with, a resumed
    study's sampler would propose its first points again, so it goes on with another.

    Args:
        configuration: The study's settings.
        facts: What must not change from run to run.
        sampler: Who proposes.
        record: A record in memory; None: the one in the study's folder.

    Raises:
        StudyError: If another process runs the study, or it is not one of ours.
        ConfigurationError: If one of the facts has changed.
    """
    if record is None:
        check_existing(configuration)
        record = StudyRecord(configuration.directory / FILE_NAME)
    try:
        study = _study_in(record, configuration, sampler)
        _keep_or_refuse(study, record, {"format": attributes.FORMAT, **facts})
    except BaseException:
        record.close()
        raise
    _close_abandoned(study, record)
    if study.get_trials(deepcopy=False):
        sampler.reseed_rng()
    return record, study


def _study_in(
    record: MemoryRecord, configuration: StudyConfiguration, sampler: BaseSampler
) -> optuna.Study:
    """The study that a record holds, whatever its folder is called now, or a new one."""
    storage = StudyStorage(record)
    names = optuna.get_all_study_names(storage)
    if names:
        return optuna.load_study(study_name=names[0], storage=storage, sampler=sampler)
    return optuna.create_study(
        storage=storage,
        study_name=configuration.name,
        directions=[_DIRECTIONS[objective.mode] for objective in configuration.objectives],
        sampler=sampler,
    )


def keep_fact(study: optuna.Study, key: str, value: Any) -> None:
    """Set an attribute of a study, unless it has that value already."""
    if study.user_attrs.get(key) != value:
        study.set_user_attr(key, value)


def seeds_of(study: optuna.Study, seed: int | None) -> attributes.Seeds:
    """The seeds of a study, which it keeps whatever a later run is given."""
    if attributes.SEEDS not in study.user_attrs:
        drawn = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        study.set_user_attr(attributes.SEEDS, [drawn, seed is not None])
    return attributes.Seeds(*study.user_attrs[attributes.SEEDS])


def tell_optuna(
    study: optuna.Study, number: int, state: TrialState, metrics: Mapping[str, float]
) -> bool:
    """Close a trial of an Optuna study; a completed one's values are those of the last epoch.

    Returns:
        Whether the sampler has anything left to propose.
    """
    facts = study.user_attrs[attributes.FACTS]["objectives"]
    values = [Objective(**objective).value(metrics) for objective in facts]
    try:
        study.tell(
            number,
            values=[v for v in values if v is not None] if state is TrialState.COMPLETED else None,
            state=_IN_OPTUNA.get(state, OptunaState.FAIL),
        )
    except RuntimeError:
        # A sampler that has run out (Optuna's grid, its brute force) calls study.stop(), which
        # Optuna allows in its own loop alone; by then the trial is closed.
        if not study.get_trials(deepcopy=False)[number].state.is_finished():
            raise
        return False
    return True


def _keep_or_refuse(study: optuna.Study, record: MemoryRecord, facts: Mapping[str, Any]) -> None:
    facts = json.loads(json.dumps(facts))  # as the record gives them back
    known = study.user_attrs.get(attributes.FACTS)
    if known is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(f"{record.path}: this Optuna study was not written by itwinai")
        study.set_user_attr(attributes.FACTS, facts)
        return
    if _widened(known, facts):
        known = {**known, "space": facts["space"]}
        study.set_user_attr(attributes.FACTS, known)
    for key, value in facts.items():
        if known.get(key) != value:
            raise ConfigurationError(
                f"study {study.study_name!r} cannot be resumed: its "
                f"{_changed(key, known.get(key), value)}. Restore it, or give the study another "
                "name; study.warm_start then learns from this one's trials."
            )


def _widened(known: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Tell whether the ranges of numbers have become wider, which finished trials do not mind."""
    before, now = known.get("space"), facts["space"]
    return before != now and SearchSpace.parse(now).widens(SearchSpace.parse(before or now))


def _changed(key: str, before: Any, now: Any) -> str:
    if key == "space":
        return f"space was {before!r} and is now {now!r}"
    if key == "objectives":
        before, now = (", ".join(f"{o['mode']} {o['metric']}" for o in v) for v in (before, now))
    return f"{key} were {before} and are now {now}"


def _close_abandoned(study: optuna.Study, record: MemoryRecord) -> None:
    """Close what a dead driver left running: as it had decided already, or as interrupted."""
    abandoned = [t for t in study.get_trials(deepcopy=False) if t.state == OptunaState.RUNNING]
    if not abandoned:
        return
    results = {trial.number: trial for trial in read_result(study, record.path).trials}
    for trial in abandoned:
        number = attributes.number_of(trial)
        metrics = results[number].metrics if number in results else {}
        state = TrialState(attributes.End.read(trial.user_attrs).state)
        tell_optuna(study, trial.number, state, metrics)
