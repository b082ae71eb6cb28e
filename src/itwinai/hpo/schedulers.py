"""Schedulers by name: each an Optuna pruner behind one small builder.

A new scheduler is a model of its options and an entry of :data:`SCHEDULERS`. Steps are epochs,
counted from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from pydantic import Field

from itwinai.config.model import StrictModel, validate
from itwinai.errors import ConfigurationError
from itwinai.hpo.options import check_object, name_and_options


class NoneOptions(StrictModel):
    """Every trial trains to the end."""

    def pruner(self, epochs: int) -> BasePruner:
        """Build the pruner."""
        return NopPruner()


class AshaOptions(StrictModel):
    """Asynchronous successive halving (Li et al. 2020, algorithm 2, in its stopping variant)."""

    #: Epochs that every trial trains; None: 2, or 1 where there are fewer than 3 epochs.
    grace_period: int | None = Field(default=None, ge=1)
    #: Of each rung the best 1 in ``reduction_factor`` go on.
    reduction_factor: int = Field(default=3, ge=2)
    #: Epochs of a full training; only ever the trainer's own number of epochs.
    max_t: int | None = None

    def pruner(self, epochs: int) -> BasePruner:
        """Build the pruner."""
        return SuccessiveHalvingPruner(
            min_resource=_grace(self.grace_period, epochs),
            reduction_factor=self.reduction_factor,
        )


class MedianOptions(StrictModel):
    """Median stopping rule (Golovin et al. 2017, section 3.2.1)."""

    #: Epochs that every trial trains; None: 2, or 1 where there are fewer than 3 epochs.
    grace_period: int | None = Field(default=None, ge=1)
    #: Trials that must have ended before any is stopped.
    min_samples_required: int = Field(default=3, ge=1)
    #: Epochs of a full training; only ever the trainer's own number of epochs.
    max_t: int | None = None

    def pruner(self, epochs: int) -> BasePruner:
        """Build the pruner."""
        return MedianPruner(
            n_startup_trials=self.min_samples_required,
            n_warmup_steps=_grace(self.grace_period, epochs),
        )


#: Schedulers by name.
SCHEDULERS: dict[str, type[NoneOptions | AshaOptions | MedianOptions]] = {
    "none": NoneOptions,
    "asha": AshaOptions,
    "median": MedianOptions,
}


@dataclass(frozen=True)
class Scheduler:
    """A scheduler, ready to judge.

    Attributes:
        name: Name for the user.
        pruner: The Optuna pruner that stops trials.
        ray: A Ray Tune ``TrialScheduler`` that judges in the pruner's place, or None.
    """

    name: str
    pruner: BasePruner
    ray: Any = None


def build_scheduler(value: Any, epochs: int) -> Scheduler:
    """Build a scheduler from a name, a mapping or an object; None means ``none``.

    Raises:
        ConfigurationError: For an unknown name or option, a grace period that reaches the end of
            the training, or a ``max_t`` that contradicts the trainer's epochs.
    """
    value = "none" if value is None else value
    if isinstance(value, BasePruner):
        return Scheduler(type(value).__name__, value)
    if not isinstance(value, str | Mapping):
        from itwinai.hpo.engine.private import limits_of

        check_object("study.scheduler", value, "on_trial_result", SCHEDULERS)
        grace, max_t = limits_of(value)
        # A larger max_t of Ray's only spaces its rungs wider; a smaller one cuts trials short.
        check_limits(
            type(value).__name__, epochs, grace, max_t if (max_t or epochs) < epochs else None
        )
        return Scheduler(type(value).__name__, NopPruner(), ray=value)
    name, options = name_and_options("study.scheduler", value, SCHEDULERS)
    model = validate(SCHEDULERS[name], options, f"study.scheduler({name})")
    check_limits(name, epochs, getattr(model, "grace_period", None), getattr(model, "max_t", None))
    return Scheduler(name, model.pruner(epochs))


def check_limits(name: str, epochs: int, grace: float | None, max_t: float | None) -> None:
    """Refuse a scheduler that cannot stop anything, or that counts to another end.

    Raises:
        ConfigurationError: If the grace period or ``max_t`` contradicts ``epochs``.
    """
    if grace is not None and grace >= epochs:
        raise ConfigurationError(
            f"study.scheduler({name}).grace_period={grace:g} with epochs={epochs}: no trial could "
            f"ever be stopped early. Use a grace period below {epochs}, more epochs, "
            "or scheduler: none."
        )
    if max_t is not None and max_t != epochs:
        raise ConfigurationError(
            f"study.scheduler({name}).max_t={max_t:g} contradicts epochs={epochs}. "
            "Leave max_t out: a study's trials end at the trainer's epochs."
        )


def _grace(grace: int | None, epochs: int) -> int:
    # The first epoch's ranking says little about the last one's, hence 2 where there is room.
    return grace if grace is not None else (2 if epochs > 2 else 1)
