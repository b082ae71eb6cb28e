"""Opening a study's record: a new one, or one that an earlier run has left."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import StudyError
from itwinai.hpo.objectives import losses_of
from itwinai.hpo.record import (
    FILE_NAME,
    MemoryRecord,
    StudyRecord,
    StudyStorage,
    attributes,
    is_of_this_job,
    legible,
    load_study,
    read_result,
    resume_command,
)
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study.facts import facts_of, keep_or_refuse
from itwinai.hpo.study.telling import tell_optuna
from itwinai.hpo.trial import TrialState
from itwinai.io.ownership import make_own, why_leads_out, why_not_own

#: What a study writes below its folder in other ways than by putting a file in another's place.
_WRITTEN = (".tune", "trials", "trials/*", "trials/*/*")

_DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}


def check_existing(configuration: StudyConfiguration) -> None:
    """Refuse a study that exists already, unless it is to be resumed, or this job continues it.

    One in which no trial came to anything gives way.

    Raises:
        StudyError: If there is a record and ``resume`` is false, another user could have put
            there what is there, or a link in it leads elsewhere.
    """
    path = configuration.directory / FILE_NAME
    strange = why_not_own(configuration.directory, FILE_NAME)
    strange = strange or why_leads_out(configuration.directory, *_WRITTEN)
    if strange:
        raise StudyError(
            f"study {configuration.name!r}: {strange}. What others could have put there is not "
            "used; give the study another study.name or study.storage_path."
        )
    if _has_content(path) and not _continued(configuration) and not _came_to_nothing(path):
        command = resume_command(configuration.directory)
        again = f"Run {command}" if command else "Set study.resume=true"
        raise StudyError(
            f"study {configuration.name!r} exists already in {configuration.directory}. "
            f"{again} to go on with it, or give this one another study.name."
        )


def open_study(
    configuration: StudyConfiguration,
    space: SearchSpace,
    epochs: int,
    sampler: BaseSampler,
    record: MemoryRecord | None = None,
) -> tuple[MemoryRecord, optuna.Study]:
    """Open a record for writing, with the Optuna study in it.

    Trials that an earlier driver left running are closed. With the seed it began with, a resumed
    study's sampler would propose its first points again, so it goes on with another.

    Args:
        configuration: The study's settings.
        space: What is tuned.
        epochs: Epochs of a full training.
        sampler: Who proposes.
        record: A record in memory; None: the one in the study's folder.

    Raises:
        StudyError: If another process runs the study, or it is not one of ours.
        ConfigurationError: If objectives, epochs, space or constraints have changed.
    """
    facts = facts_of(configuration, space, epochs)
    if record is not None:
        return record, _study_of(record, configuration, space, facts, sampler)
    record = _record_of(configuration)
    try:
        return record, _study_of(record, configuration, space, facts, sampler)
    except ConfigurationError:
        if not _came_to_nothing(record.path):
            raise
    record = _in_place_of(StudyRecord(record.path))
    return record, _study_of(record, configuration, space, facts, sampler)


def _study_of(
    record: MemoryRecord,
    configuration: StudyConfiguration,
    space: SearchSpace,
    facts: Mapping[str, Any],
    sampler: BaseSampler,
) -> optuna.Study:
    """The study in a record, ready to go on; the record is closed if it is another one."""
    try:
        study = _study_in(record, configuration, space, sampler)
        keep_or_refuse(study, facts, record.path)
    except BaseException:
        record.close()
        raise
    _close_abandoned(study, record)
    if study.get_trials(deepcopy=False):
        sampler.reseed_rng()
    return study


def _record_of(configuration: StudyConfiguration) -> StudyRecord:
    """The study's record; one that would not be continued, and came to nothing, is set aside."""
    make_own(configuration.directory)
    record = StudyRecord(configuration.directory / FILE_NAME)
    if not _has_content(record.path) or _continued(configuration):
        return record
    try:
        check_existing(configuration)  # now that nobody else writes it
    except StudyError:
        record.close()
        raise
    return _in_place_of(record)


def _in_place_of(record: StudyRecord) -> StudyRecord:
    """Give the folder of a study another name, and begin a record in its place."""
    path = record.path
    directory = path.parent
    names = (directory.with_name(f"{directory.name}.empty-{n}") for n in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    directory.rename(aside)
    record.path = aside / FILE_NAME
    record.close()
    itwinai.logger.info(
        "no trial of the existing study %r has reported its metric, so this one takes its place; "
        "the old record is now in %s",
        directory.name,
        aside,
    )
    make_own(directory)
    return StudyRecord(path)


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _continued(configuration: StudyConfiguration) -> bool:
    return configuration.resume or is_of_this_job(configuration.directory)


def _came_to_nothing(path: Path) -> bool:
    """Whether no trial of a study has reported what it optimises, or left a checkpoint."""
    try:
        result = load_study(path)
    except StudyError:  # a record that cannot be read may hold anything
        return False
    reports = [metrics for trial in result.trials for metrics in trial.history]
    reported = any(losses_of(result.objectives, metrics) for metrics in reports)
    return not reported and not any(path.parent.glob("trials/*/*/manifest.json"))  # a checkpoint's


def _study_in(
    record: MemoryRecord,
    configuration: StudyConfiguration,
    space: SearchSpace,
    sampler: BaseSampler,
) -> optuna.Study:
    """The study that a record holds, whatever its folder is called now, or a new one."""
    with legible(record.path):
        storage = StudyStorage(record, space)
        names = optuna.get_all_study_names(storage)
    if names:
        return optuna.load_study(study_name=names[0], storage=storage, sampler=sampler)
    return optuna.create_study(
        storage=storage,
        study_name=configuration.name,
        directions=[_DIRECTIONS[objective.mode] for objective in configuration.objectives],
        sampler=sampler,
    )


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
