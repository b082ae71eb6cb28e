"""Opening a study's record: a new one, or one that an earlier run has left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState

from itwinai.errors import ConfigurationError
from itwinai.hpo import attributes
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import FILE_NAME, StudyRecord
from itwinai.hpo.results import read_result
from itwinai.hpo.trial import TrialState, metric_value

#: How Optuna names our final states; all others are its FAIL.
_IN_OPTUNA = {TrialState.COMPLETED: OptunaState.COMPLETE, TrialState.STOPPED: OptunaState.PRUNED}


def check_existing(configuration: StudyConfiguration) -> None:
    """Refuse a study that exists already, unless it is to be resumed.

    Raises:
        StudyError: If there is a record and ``resume`` is false.
    """
    path = configuration.directory / FILE_NAME
    if path.exists() and path.stat().st_size and not configuration.resume:
        raise StudyError(
            f"study {configuration.name!r} exists already in {configuration.directory}. "
            "Set study.resume=true to go on with it, or give this one another study.name."
        )


def open_study(
    configuration: StudyConfiguration,
    facts: Mapping[str, Any],
    sampler: BaseSampler,
    pruner: BasePruner,
) -> tuple[StudyRecord, optuna.Study]:
    """Open a record for writing, with the Optuna study in it.

    Trials that an earlier driver left running are closed. With the seed it began with, a resumed
    study's sampler would propose its first points again, so it goes on with another.

    Args:
        configuration: The study's settings.
        facts: What must not change from run to run.
        sampler: Who proposes.
        pruner: Who stops trials early.

    Raises:
        StudyError: If another process runs the study, or it is not one of ours.
        ConfigurationError: If one of the facts has changed.
    """
    check_existing(configuration)
    record = StudyRecord(configuration.directory / FILE_NAME)
    maximise = configuration.mode == "max"
    try:
        study = optuna.create_study(
            storage=JournalStorage(record),
            study_name=configuration.name,
            direction=StudyDirection.MAXIMIZE if maximise else StudyDirection.MINIMIZE,
            sampler=sampler,
            pruner=pruner,
            load_if_exists=True,
        )
        _keep_or_refuse(study, record, {"format": attributes.FORMAT, **facts})
    except BaseException:
        record.close()
        raise
    _close_abandoned(study, record)
    if study.get_trials(deepcopy=False):
        sampler.reseed_rng()
    return record, study


def tell_optuna(
    study: optuna.Study, number: int, state: TrialState, metrics: Mapping[str, float]
) -> bool:
    """Close a trial of an Optuna study; a completed one's value is its metric at the last epoch.

    Returns:
        Whether the sampler has anything left to propose.
    """
    value = metric_value(metrics, study.user_attrs[attributes.FACTS]["metric"])
    complete = state is TrialState.COMPLETED
    try:
        study.tell(
            number,
            values=value if complete else None,
            state=_IN_OPTUNA.get(state, OptunaState.FAIL),
        )
    except RuntimeError:
        # A sampler that has run out (Optuna's grid, its brute force) calls study.stop(), which
        # Optuna allows in its own loop alone; by then the trial is closed.
        if not study.get_trials(deepcopy=False)[number].state.is_finished():
            raise
        return False
    return True


def _keep_or_refuse(study: optuna.Study, record: StudyRecord, facts: Mapping[str, Any]) -> None:
    facts = json.loads(json.dumps(facts))  # as the record gives them back
    known = study.user_attrs.get(attributes.FACTS)
    if known is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(f"{record.path}: this Optuna study was not written by itwinai")
        study.set_user_attr(attributes.FACTS, facts)
        return
    for key, value in facts.items():
        if known.get(key) != value:
            raise ConfigurationError(
                f"study {study.study_name!r} cannot be resumed: its {key} was "
                f"{known.get(key)!r} and is now {value!r}. Restore it, or give the study "
                "another name."
            )


def _close_abandoned(study: optuna.Study, record: StudyRecord) -> None:
    """Close what a dead driver left running: as it had decided already, or as interrupted."""
    results = {trial.number: trial for trial in read_result(study, record.path).trials}
    for trial in study.get_trials(deepcopy=False):
        if trial.state != OptunaState.RUNNING:
            continue
        number, state = attributes.number_of(trial), trial.user_attrs.get(attributes.STATE)
        if number is None or state is None:  # without a state of ours it reads as interrupted
            tell_optuna(study, trial.number, TrialState.INTERRUPTED, {})
        else:
            tell_optuna(study, trial.number, TrialState(state), results[number].metrics)
