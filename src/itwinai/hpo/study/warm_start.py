"""Beginning a study with what another one has found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState as OptunaState

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.objectives import losses_of
from itwinai.hpo.record import StudyResult, attributes, load_study
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import TrialResult, TrialState


def load_source(
    configuration: StudyConfiguration, space: SearchSpace, epochs: int
) -> StudyResult | None:
    """Read the study that ``warm_start`` names, and check that it can be learnt from.

    Raises:
        StudyError: If there is no such study.
        ConfigurationError: If it has other metrics or directions, or none of its completed trials
            lies in the space.
    """
    if configuration.warm_start is None:
        return None
    source = load_study(configuration.warm_start)
    if source.objectives != configuration.objectives:
        found = ", ".join(f"{o.mode} {o.metric}" for o in source.objectives)
        raise ConfigurationError(
            f"study.warm_start={configuration.warm_start}: that study's objectives are {found}; "
            "only trials with the same metrics and modes can be learnt from"
        )
    usable = list(usable_trials(source, space))
    if not usable:
        raise ConfigurationError(
            f"study.warm_start={configuration.warm_start}: none of its "
            f"{len(source.trials)} trials was completed and lies in this search space"
        )
    if source.epochs != epochs:
        itwinai.logger.warning(
            "warning: the trials of study.warm_start=%s trained for %d epochs, those of this study "
            "train for %d; their values may not compare.",
            configuration.warm_start,
            source.epochs,
            epochs,
        )
    return source


def usable_trials(
    source: StudyResult, space: SearchSpace
) -> Iterator[tuple[dict[str, Any], TrialResult]]:
    """The completed trials of a study that lie in a space, with their values there.

    Names that the space does not have are left out; one that only the space has takes its stated
    default.
    """
    for trial in source.trials:
        if trial.state is not TrialState.COMPLETED:
            continue
        if losses_of(source.objectives, trial.metrics) is None:
            continue
        params = _within(space, trial.params)
        if params is not None and space.feasible(params):
            yield params, trial


def teach(study: optuna.Study, source: StudyResult, space: SearchSpace, epochs: int) -> None:
    """Tell a new Optuna study of another one's trials; without a number they are not its own.

    Their curves are told as far as trials of the new study go.
    """
    known = sum(1 for _ in lessons(study, space))  # more than none after a crash
    for params, trial in islice(usable_trials(source, space), known, None):
        study.enqueue_trial(space.encode(params), {attributes.TAUGHT: _lesson(source, trial)})
        asked = study.ask()
        space.suggest(asked, params)
        for at, value in source.curve(trial).items():
            if at <= epochs:
                asked.report(value, at)
        values = [objective.value(trial.metrics) for objective in source.objectives]
        study.tell(asked, [value for value in values if value is not None])


def lessons(
    study: optuna.Study, space: SearchSpace
) -> Iterator[tuple[dict[str, Any], dict[float, Any]]]:
    """Values of the trials that a study was told of, and their metrics by the epochs trained."""
    for trial in study.get_trials(deepcopy=False, states=(OptunaState.COMPLETE,)):
        lesson = trial.user_attrs.get(attributes.TAUGHT)
        if lesson is not None:
            reports = lesson.get("reports") or enumerate(lesson["history"], start=1)
            yield space.decode(trial.params), dict(reports)


def _within(space: SearchSpace, known: Mapping[str, Any]) -> dict[str, Any] | None:
    params: dict[str, Any] = {}
    for name, parameter in space.items():
        if not space.exists(name, params):
            continue
        stated = known if name in known else space.defaults
        if name not in stated or not parameter.contains(stated[name]):
            return None
        params[name] = stated[name]
    return params


def _lesson(source: StudyResult, trial: TrialResult) -> dict[str, Any]:
    about = {"study": str(Path(source.record).parent), "trial": trial.number}
    history = [dict(metrics) for metrics in trial.history]
    if trial.at == tuple(range(1, len(history) + 1)):
        return {**about, "history": history}
    return {**about, "reports": list(zip(trial.at, history, strict=True))}
