"""Schedulers by name: the options of each, and how it is built.

A new scheduler is a model of its options and an entry of :data:`SCHEDULERS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.pruners import BasePruner
from pydantic import Field, model_validator

from itwinai.config.model import StrictModel, validate
from itwinai.errors import ConfigurationError
from itwinai.hpo.objectives import Objective
from itwinai.hpo.options import check_object, name_and_options
from itwinai.hpo.rungs import Unit
from itwinai.hpo.schedulers.judge import Judge
from itwinai.hpo.schedulers.population import Population
from itwinai.hpo.schedulers.pruner import OptunaPruner
from itwinai.hpo.schedulers.rules import Median, Patience, Threshold
from itwinai.hpo.schedulers.rungs import Hyperband, Pasha, SuccessiveHalving

#: Rungs in steps or seconds have no natural end; so many are enough for any training.
_MOST_RUNGS = 20


#: What a grace period in another unit than epochs is.
_EVERY_TRIAL = {
    "steps": "the optimizer steps that every trial makes",
    "seconds": "the seconds that every trial trains",
}


@dataclass(frozen=True)
class Setting:
    """What a scheduler is built for.

    Attributes:
        epochs: Epochs of a full training.
        judged: The objectives whose losses it hears.
        seed: Seed of the study.
    """

    epochs: int
    judged: Sequence[Objective]
    seed: int | None = None


class SchedulerOptions(StrictModel):
    """What all schedulers have in common."""

    def judge(self, setting: Setting) -> Judge:
        """Build the rule."""
        raise NotImplementedError


class NoneOptions(SchedulerOptions):
    """Every trial trains to the end."""

    def judge(self, setting: Setting) -> Judge:
        """Build the rule."""
        return Judge()


class GraceOptions(SchedulerOptions):
    """A grace period, which no trial ends before."""

    #: Progress that every trial makes; None: 2 epochs, or 1 where there are fewer than 3; of steps
    #: and seconds it must be given.
    grace_period: float | None = Field(default=None, gt=0)
    #: Progress of a full training; in epochs only ever the trainer's own number.
    max_t: float | None = Field(default=None, gt=0)
    #: What grace period and rungs count: ``epochs``, optimizer ``steps`` or ``seconds``.
    unit: Unit = "epochs"

    @model_validator(mode="after")
    def _other_units_have_a_begin(self) -> GraceOptions:
        if self.unit != "epochs" and self.grace_period is None:
            raise ValueError(f"unit: {self.unit} needs a grace_period, {_EVERY_TRIAL[self.unit]}")
        return self

    def grace(self, epochs: int) -> float:
        """The grace period."""
        if self.grace_period is not None:
            return self.grace_period
        # The first epoch's ranking says little about the last one's, hence 2 where there is room.
        return 2 if epochs > 2 else 1


class RungOptions(GraceOptions):
    """Rungs at the grace period and at its multiples by the powers of the reduction factor."""

    #: Distance between rungs; of each rung's trials, the best 1 in so many go on.
    reduction_factor: int = Field(default=3, ge=2)

    def levels(self, epochs: int) -> list[float]:
        """Progress at each rung, the end excluded."""
        end = self.max_t or (epochs if self.unit == "epochs" else float("inf"))
        grace, factor = self.grace(epochs), self.reduction_factor
        levels = [round(grace * factor**rung, 6) for rung in range(_MOST_RUNGS)]
        return [level for level in levels if level < end]


class AshaOptions(RungOptions):
    """Asynchronous successive halving (Li et al. 2020, algorithm 2, in its stopping variant)."""

    #: Of each rung's trials the share that goes on; None: 1 / ``reduction_factor``.
    keep: float | None = Field(default=None, gt=0, lt=1)

    def judge(self, setting: Setting) -> Judge:
        """Build the rule."""
        keep = self.keep or 1 / self.reduction_factor
        return SuccessiveHalving(self.levels(setting.epochs), keep, self.unit)


class HyperbandOptions(RungOptions):
    """Brackets of successive halving with different grace periods (Li et al. 2018)."""

    @model_validator(mode="after")
    def _other_units_have_an_end(self) -> HyperbandOptions:
        if self.unit != "epochs" and self.max_t is None:
            raise ValueError(
                f"unit: {self.unit} needs a max_t, the {self.unit} of a full training, which tell "
                "how many brackets there are"
            )
        return self

    def judge(self, setting: Setting) -> Judge:
        """Build the rule."""
        return Hyperband(self.levels(setting.epochs), self.reduction_factor, self.unit)


class BohbOptions(HyperbandOptions):
    """Hyperband whose proposals come from the highest useful rung (Falkner et al. 2018)."""


class PashaOptions(RungOptions):
    """ASHA whose highest rung rises only while the ranking changes (Bohdal et al. 2023)."""

    def judge(self, setting: Setting) -> Judge:
        """Build the rule."""
        return Pasha(self.levels(setting.epochs), 1 / self.reduction_factor, self.unit)


class MedianOptions(GraceOptions):
    """Median stopping rule (Golovin et al. 2017, section 3.2.1)."""

    #: Other trials that must have come as far.
    min_samples_required: int = Field(default=3, ge=1)

    def judge(self, setting: Setting) -> Judge:
        """Build the rule."""
        return Median(self.grace(setting.epochs), self.min_samples_required, self.unit)


class PatienceOptions(GraceOptions):
    """A trial stops that has not improved for so many epochs."""

    #: Epochs without improvement.
    patience: int = Field(default=5, ge=1)
    #: What counts as an improvement, in the metric's own units.
    min_delta: float = Field(default=0.0, ge=0)

    def judge(self, setting: Setting) -> Judge:
        """Build the rule."""
        return Patience(self.patience, self.min_delta, self.grace(setting.epochs), self.unit)


class ThresholdOptions(GraceOptions):
    """A trial stops whose metric is worse than a bound."""

    #: The bound, in the metric's own units.
    worst: float

    def judge(self, setting: Setting) -> Judge:
        """Build the rule."""
        worst = self.worst if setting.judged[0].mode == "min" else -self.worst
        return Threshold(worst, self.grace(setting.epochs), self.unit)


class PbtOptions(SchedulerOptions):
    """Population based training (Jaderberg et al. 2017); ``num_samples`` is the population."""

    #: Epochs between two comparisons; None: a tenth of the training.
    interval: int | None = Field(default=None, ge=1)
    #: Share of the population that is replaced, and that is copied.
    share: float = Field(default=0.25, gt=0, le=0.5)

    def judge(self, setting: Setting) -> Judge:
        """Build the rule."""
        interval = self.interval or max(1, setting.epochs // 10)
        return Population(interval, self.share, setting.epochs, setting.seed)


#: Schedulers by name.
SCHEDULERS: dict[str, type[SchedulerOptions]] = {
    "none": NoneOptions,
    "asha": AshaOptions,
    "median": MedianOptions,
    "hyperband": HyperbandOptions,
    "bohb": BohbOptions,
    "pasha": PashaOptions,
    "patience": PatienceOptions,
    "threshold": ThresholdOptions,
    "pbt": PbtOptions,
}


@dataclass(frozen=True)
class Scheduler:
    """A scheduler, ready to judge.

    Attributes:
        name: Name for the user.
        judge: Its rule.
        rule: Its row in the table of combinations.
        unit: What its grace period and rungs count.
        ray: A Ray Tune ``TrialScheduler`` that judges in the rule's place, or None.
    """

    name: str
    judge: Judge
    rule: str
    unit: Unit = "epochs"
    ray: Any = None


def build_scheduler(value: Any, setting: Setting) -> Scheduler:
    """Build a scheduler from a name, a mapping or an object; None means ``none``.

    Raises:
        ConfigurationError: For an unknown name or option, a grace period that reaches the end of
            the training, or a ``max_t`` that contradicts the trainer's epochs.
    """
    value = "none" if value is None else value
    if isinstance(value, BasePruner):
        judge = OptunaPruner(value, setting.judged[0].mode)
        return Scheduler(type(value).__name__, judge, "Optuna pruner")
    if not isinstance(value, str | Mapping):
        return _from_ray(value, setting.epochs)
    name, options = name_and_options("study.scheduler", value, SCHEDULERS)
    model = validate(SCHEDULERS[name], options, f"study.scheduler({name})")
    unit = model.unit if isinstance(model, GraceOptions) else "epochs"
    if isinstance(model, GraceOptions) and unit == "epochs":
        check_limits(name, setting.epochs, model.grace_period, model.max_t)
    return Scheduler(name, model.judge(setting), name, unit)


#: What to use in place of those of Ray's schedulers that cannot work here.
_INSTEAD = {
    "PopulationBasedTraining": "scheduler: pbt",
    "PopulationBasedTrainingReplay": "scheduler: pbt",
    "HyperBandForBOHB": "scheduler: bohb",
    "ResourceChangingScheduler": "study.resources_per_worker",
}


def _from_ray(value: Any, epochs: int) -> Scheduler:
    from itwinai.hpo.ray_private import limits_of

    check_object("study.scheduler", value, "on_trial_result", SCHEDULERS)
    for kind in type(value).__mro__:
        if kind.__name__ in _INSTEAD:
            raise ConfigurationError(
                f"study.scheduler({type(value).__name__}) changes trials by ways of Ray's own, "
                f"which a study does not have. Use {_INSTEAD[kind.__name__]}."
            )
    grace, max_t = limits_of(value)
    # A larger max_t of Ray's only spaces its rungs wider; a smaller one cuts trials short.
    check_limits(type(value).__name__, epochs, grace, max_t if (max_t or epochs) < epochs else None)
    return Scheduler(type(value).__name__, Judge(), "Ray TrialScheduler", ray=value)


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
