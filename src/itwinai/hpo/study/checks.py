"""What is refused before a study starts."""

from __future__ import annotations

import re

import numpy as np

import itwinai
from itwinai.confidential import is_secret
from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.ray_private import goal_of
from itwinai.hpo.record import FILE_NAME
from itwinai.hpo.schedulers import Scheduler
from itwinai.hpo.space import Choice, SearchSpace
from itwinai.hpo.trial import full_name
from itwinai.io.files import probe

#: Words in a metric's name that tell in which direction it is better.
_LOWER_IS_BETTER = {"loss", "error", "err", "mae", "mse", "rmse", "perplexity", "nll", "wer"}
_HIGHER_IS_BETTER = {
    "accuracy",
    "acc",
    "f1",
    "auc",
    "auroc",
    "precision",
    "recall",
    "r2",
    "iou",
    "dice",
}


def check_direction(configuration: StudyConfiguration) -> None:
    """Refuse a missing mode; warn of one that contradicts the metric's name.

    Raises:
        ConfigurationError: If the mode is missing.
    """
    if configuration.mode is None and len(configuration.objectives) > 1:
        metrics = [objective.metric for objective in configuration.objectives]
        modes = ", ".join(_natural_mode(metric) or "max" for metric in metrics)
        raise ConfigurationError(
            "study.mode is missing: give a list of 'min' or 'max', one for each of "
            f"{', '.join(metrics)}, such as [{modes}]"
        )
    if configuration.mode is None:
        metric = configuration.objectives[0].metric
        natural = _natural_mode(metric)
        suggestion = f"; for {metric!r} that is most likely {natural!r}" if natural else ""
        raise ConfigurationError(
            f"study.mode is missing: say 'min' or 'max', whichever makes {metric!r} better"
            f"{suggestion}"
        )
    for objective in configuration.objectives:
        if _natural_mode(objective.metric) not in (None, objective.mode):
            itwinai.logger.warning(
                "warning: study.mode=%r looks for the %s %r; is %r meant?",
                objective.mode,
                "highest" if objective.mode == "max" else "lowest",
                objective.metric,
                _natural_mode(objective.metric),
            )


def _natural_mode(metric: str) -> str | None:
    """The direction that a metric's name tells."""
    words = set(re.split(r"[^a-z0-9]+", metric.lower()))
    return "min" if words & _LOWER_IS_BETTER else "max" if words & _HIGHER_IS_BETTER else None


def check_storage(configuration: StudyConfiguration) -> None:
    """Refuse a place that cannot hold a study's files; warn of a slow one.

    Raises:
        ConfigurationError: With what the system says.
    """
    found = probe(configuration.storage_path.absolute())
    if found.problem:
        raise ConfigurationError(
            f"study.storage_path={str(configuration.storage_path)!r} cannot hold a study's files: "
            f"{found.problem}. Give another folder."
        )
    if found.is_slow:
        itwinai.logger.warning(
            "warning: study.storage_path=%r is slow: a file of five bytes took %.1f s. The study "
            "waits as long at each end of a trial; give a faster folder if there is one",
            str(configuration.storage_path),
            found.seconds,
        )


def check_secrets(configuration: StudyConfiguration, space: SearchSpace) -> None:
    """Refuse secrets in a search space, which a record would keep as they are.

    A study that goes on has them in its record already.

    Raises:
        ConfigurationError: Naming the hyper-parameter, and not the secret.
    """
    if configuration.resume and (configuration.directory / FILE_NAME).exists():
        return
    for name, parameter in space.items():
        values = parameter.categories if isinstance(parameter, Choice) else ()
        default = [space.defaults[name]] if name in space.defaults else []
        if any(is_secret(name, value) for value in (*values, *default)):
            raise ConfigurationError(
                f"search_space.{name}: looks like a secret, by its name or because a variable of "
                "the environment holds it, and the study's record would keep it for whoever reads "
                "it. Put it into the configuration of the training, as ${oc.env:NAME}."
            )


def check_foreign(configuration: StudyConfiguration) -> None:
    """Refuse objects of Ray Tune that learn from another metric than the study's.

    Raises:
        ConfigurationError: Naming the metric or mode of the object.
    """
    objective = configuration.objectives[0]
    for key in ("algorithm", "scheduler"):
        value = getattr(configuration, key)
        for name, own in zip(("metric", "mode"), goal_of(value), strict=True):
            study = getattr(objective, name)
            if own is not None and full_name(own) != full_name(study):
                raise ConfigurationError(
                    f"study.{key}({type(value).__name__}).{name}={own!r} contradicts "
                    f"study.{name}={study!r}. Leave it out: the study gives its own."
                )


def check_audit(configuration: StudyConfiguration, scheduler: Scheduler) -> None:
    """Refuse to run trials to their end against a scheduler that does more than stop them.

    Raises:
        ConfigurationError: Naming the scheduler.
    """
    if configuration.audit and (scheduler.judge.pauses or scheduler.ray is not None):
        raise ConfigurationError(
            f"study.audit={configuration.audit} with study.scheduler={scheduler.name!r}: this one "
            "pauses trials, or ends them by itself, so none can be run through against it. Use "
            "another scheduler, such as asha, or set study.audit to 0."
        )


def check_points(configuration: StudyConfiguration, space: SearchSpace) -> None:
    """Refuse points to try first that the space does not hold, and constraints that nothing meets.

    Raises:
        ConfigurationError: Naming the point and the value, or the constraints.
    """
    for index, point in enumerate(configuration.points):
        where = f"study.points[{index}]"
        complaint = space.complaint(point)
        if complaint is not None:
            raise ConfigurationError(f"{where}.{complaint}")
        if not space.feasible(point):
            raise ConfigurationError(f"{where}: breaks one of study.constraints")
        if space.constraints and space.sample(np.random.default_rng(0), point) is None:
            raise ConfigurationError(
                f"{where}: nothing that it leaves out was found to meet study.constraints"
            )
    if space.constraints and space.sample(np.random.default_rng(0)) is None:
        texts = ", ".join(repr(constraint.text) for constraint in space.constraints)
        raise ConfigurationError(
            f"study.constraints: no point of the search space was found that meets {texts}"
        )
