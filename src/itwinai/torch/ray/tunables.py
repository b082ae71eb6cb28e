"""What of a study its training reads and reports, so that nothing is tuned in vain."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from itwinai.config.nesting import nested, value_at
from itwinai.config.values import shown
from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.hpo.schedulers import Scheduler
from itwinai.hpo.space import Choice, Integer
from itwinai.hpo.trial import full_name
from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.optimization.factories import CHOOSERS, factory_parameters
from itwinai.torch.training.names import (
    READING_HOOKS,
    known_names,
    of_built_model,
    own_arguments,
    suggestion,
)
from itwinai.torch.training.trainer import LocalTrainer

#: Hooks in which a subclass may report metrics of any name.
_REPORTING_HOOKS = (
    "train",
    "train_epoch",
    "train_step",
    "validation_epoch",
    "validation_step",
    "compute_metrics",
)


def check_names(trainer: LocalTrainer, names: Iterable[str], space: Mapping[str, Any]) -> None:
    """Refuse tuned names that nothing can read, as far as that is known before the start.

    Raises:
        ConfigurationError: For the first such name, with what was probably meant.
    """
    known = known_names(trainer)
    for name in names:
        _check_choosers(trainer, name, space)
        if _innermost(name) in known or name in known:
            continue
        built = of_built_model(trainer, name)
        if built:
            raise ConfigurationError(f"search_space.{name}: {built}")
        if not trainer.overrides(*READING_HOOKS):
            _refuse(trainer, name)


def check_values(trainer: LocalTrainer, space: Mapping[str, Any]) -> None:
    """Refuse domains with values that a field of the configuration cannot have.

    Of a range its ends are looked at; of one of real numbers not its lower end, which may be left
    out (``optim_lr`` between 0 and 1).

    Raises:
        ConfigurationError: For the first such name, with the value.
    """
    for name in type(trainer.config).model_fields:
        for value in _extremes(space[name]) if name in space else ():
            problem = _problem_of(trainer.config, name, value)
            if problem is not None:
                raise ConfigurationError(
                    f"search_space.{name}: a trial could get {shown(value)}. {problem}"
                )


def _problem_of(config: TrainingConfiguration, name: str, value: Any) -> str | None:
    """Why a field of a configuration cannot have a value; None if it can."""
    try:
        type(config).model_validate({**config.snapshot(), name: value})
    except ValidationError as error:
        problems = (e["msg"] for e in error.errors() if e["loc"][:1] == (name,))
        return next(problems, None)
    return None


def _extremes(parameter: Any) -> list[Any]:
    if isinstance(parameter, Choice):
        return list(parameter.categories)
    lowest = [parameter.lower] if isinstance(parameter, Integer) else []
    return [*lowest, parameter.upper]


def check_metrics(trainer: LocalTrainer, metrics: Iterable[str], validates: bool) -> None:
    """Refuse metrics to optimise that a training never reports.

    Args:
        trainer: Whose training.
        metrics: Their names.
        validates: Whether it has a validation set.

    Raises:
        ConfigurationError: For the first such name, with what was probably meant.
    """
    if trainer.overrides(*_REPORTING_HOOKS):
        return
    validates = validates or trainer.overrides("create_dataloaders")
    stages = ("train", "validation") if validates else ("train",)
    reported = [f"{stage}_{name}" for name in ("loss", *trainer.metrics) for stage in stages]
    for metric in metrics:
        full = full_name(metric)
        if trainer.validate_every_steps is not None and full.startswith("train_"):
            raise ConfigurationError(
                f"study.metric={metric!r}: an evaluation in the middle of an epoch does not tell "
                "it. Leave validate_every_steps out, or optimise a metric of the validation."
            )
        # A metric of several numbers adds a word to its name.
        if any(f"{full}_".startswith(f"{name}_") for name in reported):
            continue
        reason = did_you_mean(metric, reported) or "."
        if full.startswith("validation_") and not validates:
            reason = ": there is no validation set."
        raise ConfigurationError(
            f"study.metric={metric!r}: the training never reports it{reason} It reports "
            f"{', '.join(sorted(reported))}"
        )


def check_checkpoints(trainer: LocalTrainer, scheduler: Scheduler) -> None:
    """Refuse checkpoints that come later than the first pause of a scheduler that pauses trials.

    Raises:
        ConfigurationError: Naming both.
    """
    every, first = trainer.checkpoint_every or 1, scheduler.judge.first_pause
    within = trainer.checkpoint_every_steps or trainer.checkpoint_every_seconds
    if first is None or scheduler.unit != "epochs" or within or trainer.overrides("train"):
        return
    first = first if trainer.validate_every_steps else math.ceil(first)
    if every > first:
        raise ConfigurationError(
            f"checkpoint_every={every} with study.scheduler={scheduler.name!r}: this one pauses "
            f"trials after epoch {first:g}, when they would have no checkpoint to go on from. Set "
            "checkpoint_every to 1, or use a scheduler that pauses no trial, such as asha."
        )


def default_values(trainer: LocalTrainer, names: Iterable[str]) -> dict[str, Any] | None:
    """Values of the tuned names in the configuration as it stands; None if one has no value."""
    defaults: dict[str, Any] = {
        **own_arguments(trainer),
        **{
            name: default
            for name, default in factory_parameters(trainer.model).items()
            if default is not inspect.Parameter.empty
        },
        **trainer.config.snapshot(),
    }
    found = {}
    for name in names:
        value, *_ = [*value_at(defaults, name), _MISSING]
        if value is _MISSING:
            return None
        found[name] = value
    return found


_MISSING = object()


def _innermost(name: str) -> str:
    """``width`` of ``model.width``, which a model's factory may take."""
    return name.removeprefix("model.")


def apply_values(trainer: LocalTrainer, values: Mapping[str, Any]) -> list[str]:
    """Give a trainer a trial's values; return the names that went into its configuration.

    A dotted name goes into a mapping of the configuration: ``model.width`` is
    ``config.model["width"]``.
    """
    arguments = own_arguments(trainer)
    in_config = {name: value for name, value in values.items() if name not in arguments}
    for name in set(values) & set(arguments):
        setattr(trainer, name, values[name])
    changed = nested(in_config, trainer.config.snapshot())
    trainer.config = trainer.config.with_values(changed)
    return list(changed)


def _check_choosers(trainer: LocalTrainer, name: str, space: Mapping[str, Any]) -> None:
    """Refuse an option of an optimizer (or schedule) that none of the possible ones takes."""
    if trainer.overrides("create_model_loss_optimizer"):
        return
    for field, table in CHOOSERS.items():
        if not any(name in recipe.fields.values() for recipe in table.values()):
            continue
        chosen = _categories(space[field]) if field in space else [trainer.config.snapshot()[field]]
        if not any(name in table[c].fields.values() for c in chosen or () if c in table):
            takers = [key for key, recipe in table.items() if name in recipe.fields.values()]
            raise ConfigurationError(
                f"search_space.{name}: nothing reads it with {field}={chosen[0]!r}; "
                f"it is for {', '.join(takers)}. Remove it, or choose one of those."
            )


def _categories(parameter: Any) -> list[Any]:
    return list(parameter.categories) if isinstance(parameter, Choice) else []


def _refuse(trainer: LocalTrainer, name: str) -> None:
    known = sorted(known_names(trainer))
    hint = suggestion(name, known) or f". Names that are read: {', '.join(known)}"
    raise ConfigurationError(f"search_space.{name}: nothing would read it{hint}")
