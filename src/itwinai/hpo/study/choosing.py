"""What ``auto`` means: an algorithm and a scheduler for a study, with the reason in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.schedulers import AshaOptions
from itwinai.hpo.space import Choice, SearchSpace

AUTO = "auto"

#: Beyond so many trials a model's proposal costs more than it gains over random ones.
_MODEL_UNTIL = 2000

#: Epochs of the first rung; there is nothing to stop early in a shorter training.
FIRST_RUNG = 3

#: The share that goes on at a rung of the default scheduler, chosen by the efficacy benchmark:
#: trials that the model has proposed are worth more patience than others.
_KEEP_MODELLED, _KEEP = 2 / 3, 1 / 2

#: Schedulers that bring their own algorithm, and the other way round.
PAIRS = ("bohb", "pbt")


@dataclass(frozen=True)
class Chosen:
    """What a study runs with.

    Attributes:
        algorithm: As in the configuration, but never ``auto``.
        scheduler: Likewise.
        reason: Why, in one line; empty where the user has chosen both.
    """

    algorithm: Any
    scheduler: Any
    reason: str = ""


def choose(configuration: StudyConfiguration, space: SearchSpace, epochs: int) -> Chosen:
    """Replace ``auto`` by what suits the space, the number of trials and of slots.

    Raises:
        ConfigurationError: If ``auto`` is given options.
    """
    algorithm, scheduler = configuration.algorithm, configuration.scheduler
    _check_auto("algorithm", algorithm)
    _check_auto("scheduler", scheduler)
    reasons = []
    if _name(algorithm) == AUTO:
        algorithm, reason = _algorithm(configuration, space, _name(scheduler))
        reasons.append(f"algorithm {algorithm} ({reason})")
    if _name(scheduler) == AUTO:
        scheduler, reason = _scheduler(_name(algorithm), epochs)
        reasons.append(f"scheduler {_name(scheduler)} ({reason})")
    return Chosen(algorithm, scheduler, "auto: " + ", ".join(reasons) if reasons else "")


def _algorithm(
    configuration: StudyConfiguration, space: SearchSpace, scheduler: Any
) -> tuple[str, str]:
    total, slots = configuration.num_samples, configuration.max_concurrent_trials
    if scheduler in PAIRS:
        return scheduler, "as the scheduler"
    if any(isinstance(p, Choice) and p.exhaustive for p in space.values()):
        return "grid", "the space asks for a grid search"
    if len(configuration.objectives) > 1:
        return "tpe", f"{len(configuration.objectives)} objectives"
    if total is not None and slots is not None and total <= slots:
        return "qmc", f"all {total} trials start at once, so there is nothing to learn from"
    if total is not None and total > _MODEL_UNTIL:
        return "random", f"{total} trials, too many for a model to pay"
    return "mfgp", f"one objective, {len(space)} hyper-parameter{'s' * (len(space) > 1)}"


def _scheduler(algorithm: Any, epochs: int) -> tuple[Any, str]:
    if algorithm in PAIRS:
        return algorithm, "as the algorithm"
    if epochs <= FIRST_RUNG:
        return "none", f"{epochs} epochs are too few to stop early"
    modelled = algorithm == "mfgp"
    keep = _KEEP_MODELLED if modelled else _KEEP
    asha = AshaOptions(grace_period=FIRST_RUNG, reduction_factor=3, keep=keep)
    who = "two thirds go" if modelled else "half goes"
    after = ", ".join(f"{level:g}" for level in asha.levels(epochs))
    options = asha.model_dump(exclude_unset=True)
    return {"name": "asha", **options}, f"the better {who} on after epoch {after}"


def _name(value: Any) -> Any:
    return value.get("name") if isinstance(value, Mapping) else value


def _check_auto(where: str, value: Any) -> None:
    if isinstance(value, Mapping) and value.get("name") == AUTO and len(value) > 1:
        raise ConfigurationError(
            f"study.{where}: auto takes no options. Name the {where} whose options these are."
        )
