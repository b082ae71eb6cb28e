"""Confirming a study: its best trials and its default, trained again from fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.display import plural
from itwinai.hpo.display.summary import duration
from itwinai.hpo.engine import Place, Program
from itwinai.hpo.errors import StudyError
from itwinai.hpo.insight.confirmation import (
    NAME,
    RERUN,
    TRIAL,
    Confirmation,
    confirmation_of,
    read_confirmation,
)
from itwinai.hpo.launch import plan_study, run_study
from itwinai.hpo.objectives import losses_of
from itwinai.hpo.record import FILE_NAME, StudyResult, load_study, stop_study
from itwinai.hpo.retraining.subject import Studied
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study import RunningTrial
from itwinai.hpo.trial import Assignment, TrialResult, TrialState
from itwinai.reporting import Reporter

#: What a confirmation's trials get as the study's trials did.
_AS_THE_STUDY = (
    *("workers_per_trial", "resources_per_worker", "max_concurrent_trials", "fresh_processes"),
    *("max_failures", "report_timeout_s", "outage_timeout_s", "readable_by"),
)

#: Reruns below which no test is worth its name.
_FEWEST = 3


def confirm(
    trainer: Studied,
    data: Sequence[Any],
    study: StudyResult | str | Path,
    top: int = 1,
    seeds: int = 8,
) -> Confirmation:
    """Train a study's best trials and its default again from fresh seeds, and compare them.

    They train as the study's trials did, side by side in slots, and are kept in the study's folder
    ``confirmation``; called again, it goes on where it was interrupted. It ends as soon as
    :func:`itwinai.hpo.insight.sequential_gain` has decided. With a test set the reruns are
    evaluated on it at their last epoch.

    Args:
        trainer: The trainer that ran the study, or the function as a step of a pipeline.
        data: What its ``execute`` gets: of a trainer training, validation and test set.
        study: The study, or its folder.
        top: So many of its best trials.
        seeds: Reruns of each of them, and of the default, at most; 3 or more.

    Raises:
        ConfigurationError: For ``top`` below 1 or ``seeds`` below 3.
        StudyError: If the study has no default trial, or none that is better; if its confirmation
            compares other trials, is running, or has not decided with fewer ``seeds``.
        StudyInterrupted: If it was interrupted.
    """
    _check(top, seeds)
    result = study if isinstance(study, StudyResult) else load_study(study)
    arms = _arms(result, top)
    known = read_confirmation(result)
    if known is not None:
        _check_same(known, list(arms)[:-1], seeds)
        if known.is_decided:
            return known
    subject = trainer.subject(*data)
    plan = plan_study(*_described(subject.study, result, list(arms), seeds), default=None)
    program = _Reruns(subject.program(None, subject.epochs, tests=True), arms)
    own = run_study(plan, program, listener=_EndsOnceDecided(result), told=_reruns)
    confirmation = confirmation_of(result, own)
    assert confirmation is not None
    return confirmation


def _reruns(own: StudyResult) -> str:
    """What is shown of a confirmation as a study: what it tells is shown by whoever asked."""
    ended = sum(trial.state is TrialState.COMPLETED for trial in own.trials)
    return f"{plural(ended, 'rerun')} in {duration(own.cost.elapsed)}: {own.record.parent}"


@dataclass(frozen=True)
class _Reruns:
    """Runs a study's trials again: a program whose hyper-parameters say which.

    Attributes:
        program: Trains with a trial's values.
        arms: These values, by the trial's number.
    """

    program: Program
    arms: Mapping[int, Mapping[str, Any]]

    def __call__(self, assignment: Assignment, place: Place, reporter: Reporter) -> None:
        """Train."""
        params = dict(self.arms[int(assignment.params[TRIAL])])
        self.program(replace(assignment, params=params), place, reporter)


@dataclass(frozen=True)
class _EndsOnceDecided:
    """Asks a confirmation to stop when its test has decided.

    Attributes:
        study: The study that is confirmed.
    """

    study: StudyResult

    def __call__(self, trial: RunningTrial, state: TrialState) -> None:
        """Hear of a rerun."""
        if state is TrialState.RUNNING:
            return
        own = self.study.record.parent / NAME
        confirmation = confirmation_of(self.study, load_study(own / FILE_NAME))
        if confirmation is not None and confirmation.is_decided:
            stop_study(own)


def _check(top: int, seeds: int) -> None:
    if top < 1:
        raise ConfigurationError(f"top={top}: at least 1")
    if seeds < _FEWEST:
        raise ConfigurationError(f"seeds={seeds}: at least {_FEWEST}, for a test of the means")


def _check_same(known: Confirmation, candidates: Sequence[int], seeds: int) -> None:
    """Refuse other trials, and other numbers of reruns, than a confirmation has begun with.

    One with a verdict has enough of them.
    """
    folder = known.study.record.parent / NAME
    if {*known.candidates} != {*candidates}:
        raise StudyError(
            f"{folder}: these reruns compare {_names(known.candidates)} with the default, and not "
            f"{_names(candidates)}. Give this folder another name to begin again."
        )
    if known.has_verdicts or seeds == known.most or (known.is_decided and seeds < known.most):
        return
    if known.is_decided:
        raise StudyError(
            f"{folder}: {known.most} reruns of each have not decided, and no more can be added. "
            f"Give this folder another name; then all {seeds} of each are trained."
        )
    raise StudyError(
        f"{folder}: begun with seeds={known.most}, and not at its end. Go on with as many, or give "
        f"this folder another name; then {seeds} of each are trained."
    )


def _names(trials: Sequence[int]) -> str:
    return f"trial{'s' if len(trials) > 1 else ''} {', '.join(map(str, trials))}"


def _arms(result: StudyResult, top: int) -> dict[int, Mapping[str, Any]]:
    """The values of the best trials and, last, of the default."""
    best, default = result.best, result.default
    if default is None:
        raise StudyError(
            f"study {result.name!r} has no default trial to compare with; begin studies with "
            "study.default_first=true"
        )
    if best is None or best.number == default.number:
        raise StudyError(f"study {result.name!r}: no trial was better than the default")
    completed = [trial for trial in result.trials if trial.state is TrialState.COMPLETED]
    known = [(losses_of(result.objectives, trial.metrics), trial) for trial in completed]
    scored = [(losses, trial.number, trial) for losses, trial in known if losses is not None]
    ranked = [trial for *_, trial in sorted(scored, key=lambda entry: entry[:2])]
    others = [trial for trial in ranked if trial.number not in (best.number, default.number)]
    chosen: list[TrialResult] = [best, *others][:top]
    return {trial.number: trial.params for trial in (*chosen, default)}


def _described(
    study: StudyConfiguration, result: StudyResult, numbers: list[int], seeds: int
) -> tuple[StudyConfiguration, SearchSpace, int]:
    """The confirmation as a study: its settings, its space and its epochs."""
    points = [{TRIAL: number, RERUN: rerun} for rerun in range(seeds) for number in numbers]
    space = SearchSpace.parse(
        {
            TRIAL: {"type": "choice", "categories": numbers},
            RERUN: {"type": "choice", "categories": list(range(seeds))},
        }
    )
    configuration = StudyConfiguration(
        name=NAME,
        storage_path=result.record.parent,
        metric=result.metric,
        mode=result.objectives[0].mode,
        num_samples=len(points),
        points=points,
        algorithm="random",
        scheduler="none",
        default_first=False,
        keep_checkpoints="completed",
        resume=True,
        **{name: getattr(study, name) for name in _AS_THE_STUDY},
    )
    return configuration, space, result.epochs
