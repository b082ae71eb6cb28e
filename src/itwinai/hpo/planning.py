"""What a study will cost: from its plan, before anything starts, to a few lines for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.text import Text

from itwinai.errors import ConfigurationError, visible
from itwinai.hpo.display.notebook import table_of_lines
from itwinai.hpo.display.summary import duration
from itwinai.hpo.display.words import plural
from itwinai.hpo.engine import plan_resources
from itwinai.hpo.insight.advice import advice
from itwinai.hpo.insight.forecast import Forecast, Spread, forecast
from itwinai.hpo.launch import StudyPlan, setup_with
from itwinai.hpo.record import Setup, load_study
from itwinai.hpo.rungs import Rungs, Unit

#: Seconds of an epoch in a study, those of the default configuration being 1: other configurations
#: are larger or smaller. Measured by ``benchmarks/plan_tables.py``.
_PACE = Spread(1.1, 0.7, 1.8)

#: What tells how much of a unit an epoch is.
_TO_KNOW = {
    "seconds": "give the seconds of an epoch, an earlier study, or allow a probe",
    "steps": "allow a probe, or give an earlier study that counted steps",
}

#: Width of the label in front of each line.
_LABEL = 12


@dataclass(frozen=True)
class EpochTime:
    """How long an epoch takes.

    Attributes:
        seconds: Seconds of one epoch of one trial.
        source: Where that is known from, in words.
        of_default: Whether it is the default configuration's, from which others differ.
        steps: Optimizer steps of it; None where nobody knows.
    """

    seconds: float
    source: str
    of_default: bool = True
    steps: float | None = None

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise ConfigurationError(
                f"epoch_seconds={self.seconds:g}: give the seconds of one epoch, above 0"
            )


@dataclass(frozen=True)
class PlannedCost:
    """What a study will cost.

    Attributes:
        name: The study's name.
        trials: Trials in all.
        epochs: Epochs of a full training.
        setup: Who decides in it, and what its trials get.
        choice: What ``auto`` has become and why; maybe empty.
        unit: What its rungs count.
        forecast: The epochs that are expected.
        epoch_time: How long an epoch takes; None where nobody knows.
        limit: Seconds that a job may take; None: as long as it needs.
        budget: Seconds after which the study ends by itself; None: it has no budget.
        checkpoint_bytes: Size of a checkpoint; None where it is not known.
        checkpoints: Checkpoints on disk at the same time, at the most.
        advice: What would be wasteful, a sentence each.
    """

    name: str
    trials: int
    epochs: int
    setup: Setup
    choice: str
    unit: Unit
    forecast: Forecast
    epoch_time: EpochTime | None
    limit: float | None
    budget: float | None
    checkpoint_bytes: float | None
    checkpoints: int
    advice: tuple[str, ...]

    @property
    def slots(self) -> int:
        """Trials at the same time."""
        return self.setup.slots or 1

    @property
    def waves(self) -> int:
        """How often that many trials start, if all are equally long."""
        return math.ceil(self.trials / self.slots)

    @property
    def wall(self) -> Spread | None:
        """Seconds from the first trial's begin to the last one's end; None where not known.

        Of a scheduler without measurements it is the most that there can be.
        """
        if self.epoch_time is None:
            return None
        epochs = self.forecast.epochs or Spread(*[float(self.forecast.full)] * 3)
        return wall_time(epochs, self.epochs, self.slots, self.epoch_time)

    def hours(self, resource: str) -> Spread | None:
        """Hours of a resource, ``CPU`` or ``GPU``, that all slots hold; None where not known."""
        held = self.slots * self.setup.held.get(resource, 0)
        return None if self.wall is None else self.wall.times(held / 3600)

    @property
    def jobs(self) -> Spread | None:
        """Jobs of ``limit`` seconds that it takes; None without a limit, or where not known.

        Each job but the first trains the epoch again in which the one before it ended. No job
        comes after the study's own time.

        Raises:
            ConfigurationError: If a job is too short for one epoch.
        """
        if self.wall is None or self.limit is None or self.epoch_time is None:
            return None
        usable = self.limit - self.epoch_time.seconds
        if usable <= 0:
            raise ConfigurationError(
                f"limit={duration(self.limit)}: an epoch takes {duration(self.epoch_time.seconds)}"
                ", so no job would come to the end of one. Give more time."
            )
        most = math.inf if self.budget is None else self.budget
        values = (min(value, most) for value in (self.wall.expected, self.wall.low, self.wall.high))
        return Spread(
            *(1 if value <= self.limit else math.ceil(value / usable) for value in values)
        )

    @property
    def disk(self) -> float | None:
        """Bytes of the checkpoints at the most; None where their size is not known."""
        return None if self.checkpoint_bytes is None else self.checkpoint_bytes * self.checkpoints

    def plain(self) -> dict[str, Any]:
        """All of it, as JSON can write it."""
        return {
            "study": self.name,
            "trials": self.trials,
            "epochs_per_trial": self.epochs,
            "algorithm": self.setup.algorithm,
            "scheduler": self.setup.scheduler,
            "slots": self.slots,
            "waves": self.waves,
            "workers": self.setup.workers,
            "resources_per_worker": dict(self.setup.per_worker),
            "rungs": [vars(rung) for rung in self.forecast.rungs],
            "epochs": _plain(self.forecast.epochs),
            "epochs_without_scheduler": self.forecast.full,
            "epoch_seconds": self.epoch_time and self.epoch_time.seconds,
            "seconds": _plain(self.wall),
            "core_hours": _plain(self.hours("CPU")),
            "gpu_hours": _plain(self.hours("GPU")),
            "limit_seconds": self.limit,
            "jobs": _plain(self.jobs),
            "budget_seconds": self.budget,
            "checkpoint_bytes": self.checkpoint_bytes,
            "disk_bytes": self.disk,
            "advice": list(self.advice),
        }

    def __str__(self) -> str:
        """The same as plain text, a line for each question."""
        return self.__rich__().plain

    def _repr_html_(self) -> str:
        return table_of_lines(_lines(self))

    def __rich__(self) -> Text:
        """A line for each question, with its label in bold."""
        text = Text()
        for label, line in _lines(self):
            text.append(label.ljust(_LABEL), "bold")
            text.append(f"{visible(line)}\n", "yellow" if label == "advice" else "")
        text.right_crop()
        return text


def wall_time(epochs: Spread, full: int, slots: int, epoch_time: EpochTime) -> Spread:
    """Seconds from the first trial's begin to the last one's end.

    Args:
        epochs: Epochs over all trials.
        full: Epochs of a full training.
        slots: Trials at the same time.
        epoch_time: How long an epoch takes.
    """
    work = _product(epochs, _PACE) if epoch_time.of_default else epochs
    # While the last trials train, the other slots have nothing to do: half a training each.
    idle = (slots - 1) * full / 2
    values = (work.expected, work.low, work.high)
    return Spread(*(max((w + idle) / slots, full) * epoch_time.seconds for w in values))


def plan_cost(
    plan: StudyPlan,
    nodes: Sequence[Mapping[str, float]],
    epoch_time: EpochTime | None = None,
    limit: float | None = None,
    checkpoint_bytes: float | None = None,
) -> PlannedCost:
    """Say what a checked study will cost.

    Args:
        plan: The study.
        nodes: Resources of each machine.
        epoch_time: How long an epoch takes; None: nobody knows.
        limit: Seconds that a job may take; None: as long as it needs.
        checkpoint_bytes: Size of a checkpoint; None: nobody knows.

    Raises:
        ConfigurationError: If no machine can ever hold a trial, or a job no epoch.
    """
    configuration = plan.configuration
    resources = plan_resources(configuration, nodes, plan.total)
    rungs, unit = _in_epochs(plan, epoch_time), _unit_of(plan.scheduler.judge.rungs)
    setup = replace(setup_with(plan.setup, resources, nodes), rungs=rungs)
    cores = sum(node.get("CPU", 0) for node in nodes)
    about = (plan.total, plan.epochs)
    cost = PlannedCost(
        name=configuration.name,
        trials=plan.total,
        epochs=plan.epochs,
        setup=setup,
        choice=plan.choice,
        unit=unit,
        forecast=_forecast(setup, unit, *about),
        epoch_time=epoch_time,
        limit=limit,
        budget=configuration.time_budget_s,
        checkpoint_bytes=checkpoint_bytes,
        checkpoints=_checkpoints(plan, setup.slots or 1),
        advice=advice(configuration, plan.space, setup, *about, cores),
    )
    _ = cost.jobs  # a limit below one epoch is refused here
    return cost


def _in_epochs(plan: StudyPlan, epoch_time: EpochTime | None) -> Rungs | None:
    """The rungs by epochs; None where nobody knows how much of their unit an epoch is."""
    rungs = plan.scheduler.judge.rungs
    if rungs is None or rungs.unit == "epochs":
        return rungs
    amount = epoch_time and (epoch_time.seconds if rungs.unit == "seconds" else epoch_time.steps)
    return rungs.in_epochs(amount, plan.epochs) if amount else None


def _unit_of(rungs: Rungs | None) -> Unit:
    return "epochs" if rungs is None else rungs.unit


def _forecast(setup: Setup, unit: Unit, trials: int, epochs: int) -> Forecast:
    """What to expect; of rungs at unknown epochs nothing but that there are no more than all."""
    known = unit == "epochs" or setup.rungs is not None
    return forecast(setup, trials, epochs) if known else Forecast(trials * epochs, None)


def epoch_time_of(study: str | Path) -> EpochTime:
    """Take the seconds of an epoch from an earlier study's record, over all its trials.

    That their processes had to start is no part of it.

    Raises:
        StudyError: If there is no such study.
        ConfigurationError: If it has trained no epoch.
    """
    result = load_study(study)
    reported = [trial for trial in result.trials if trial.history]
    seconds = sum(trial.seconds[-1] for trial in reported)
    if not seconds:
        raise ConfigurationError(
            f"{result.record}: no trial of this study has trained an epoch, so it does not tell "
            "how long one takes. Name another study, or give the seconds."
        )
    pace = seconds / sum(trial.epochs for trial in reported)
    steps = [t.steps[-1] / t.epochs for t in reported if t.steps and t.steps[-1]]
    source = f"the mean of study {result.name!r}"
    return EpochTime(pace, source, False, fmean(steps) if steps else None)


def _checkpoints(plan: StudyPlan, slots: int) -> int:
    """Checkpoints that lie on disk together: those that are kept, and two of each running trial.

    All trials may be on a Pareto front, and all that pause keep theirs.
    """
    configuration = plan.configuration
    few = len(configuration.objectives) == 1 and not plan.scheduler.judge.pauses
    kept = plan.candidates if few and configuration.keep_checkpoints == "best" else plan.total
    return min(plan.total, kept) + 2 * slots


def _product(one: Spread, other: Spread) -> Spread:
    """Multiply two independent numbers: their spreads are squares that add up, on a logarithm."""
    expected = one.expected * other.expected
    low = _together(one.low / one.expected, other.low / other.expected)
    high = _together(one.high / one.expected, other.high / other.expected)
    return Spread(expected, expected / low, expected * high)


def _together(one: float, other: float) -> float:
    return math.exp(math.hypot(math.log(one), math.log(other)))


def _plain(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else vars(spread)


def _lines(cost: PlannedCost) -> Iterator[tuple[str, str]]:
    study = f"{cost.name}, {plural(cost.trials, 'trial')} of {plural(cost.epochs, 'epoch')}"
    yield "study", study
    if cost.choice:
        yield "", cost.choice
    waves = plural(cost.waves, "wave")
    yield "at once", f"{plural(cost.slots, 'trial')}, so {waves}; each {_share(cost.setup)}"
    yield from _rungs(cost)
    yield "epochs", _epochs(cost.forecast)
    yield from _time(cost)
    yield "disk", _disk(cost)
    for sentence in cost.advice:
        yield "advice", sentence


def _share(setup: Setup) -> str:
    given = ", ".join(f"{amount:g} {name}" for name, amount in setup.per_worker.items())
    return f"{plural(setup.workers, 'worker')} with {given or 'no resources of its own'}"


def _rungs(cost: PlannedCost) -> Iterator[tuple[str, str]]:
    if cost.unit != "epochs" and cost.forecast.epochs is None:
        yield "rungs", f"by {cost.unit}; after which epochs is not known: {_TO_KNOW[cost.unit]}"
    for index, rung in enumerate(cost.forecast.rungs):
        line = f"after epoch {rung.level:g} about {rung.go_on:.0f} of {rung.reach:.0f} go on"
        yield ("" if index else "rungs"), line


def _epochs(forecast: Forecast) -> str:
    if forecast.epochs is None:
        return f"at most {forecast.full}; what this scheduler saves was not measured"
    if forecast.epochs.low == forecast.full:
        return f"{forecast.full}: every trial trains to its end"
    numbers = f"about {_range(forecast.epochs, '{:.0f}'.format)}"
    return f"{numbers}; {forecast.full} without a scheduler"


def _time(cost: PlannedCost) -> Iterator[tuple[str, str]]:
    wall, known = cost.wall, cost.epoch_time
    if wall is None or known is None:
        yield "time", "not known: give the seconds of an epoch, an earlier study, or allow a probe"
        return
    pace = f"at {known.seconds:.3g} s an epoch ({known.source})"
    yield "time", f"{_amount(cost, wall, duration)}, {pace}"
    for resource, label in (("CPU", "core-hours"), ("GPU", "GPU-hours")):
        hours = cost.hours(resource)
        if hours is not None and hours.expected:
            yield label, _amount(cost, hours, _few_digits)
    if cost.budget is not None and cost.budget < wall.expected:
        part = f"about {cost.budget / wall.expected:.0%} of that"
        yield "budget", f"study.time_budget_s ends it after {duration(cost.budget)}, {part}"
    if cost.jobs is not None and cost.limit is not None:
        known_saving = cost.forecast.epochs is not None
        yield "limit", _jobs(cost.jobs, duration(cost.limit), known_saving)


def _jobs(jobs: Spread, limit: str, known_saving: bool) -> str:
    if jobs.high == 1:
        return f"{limit} are enough"
    if not known_saving:
        return f"{limit} may not be enough: it takes at most {jobs.high:.0f} jobs, each going on"
    if jobs.expected == 1:
        return (
            f"{limit} are enough for half of such studies; {jobs.high:.0f} jobs are, nearly always"
        )
    most = "" if jobs.high == jobs.expected else f", {jobs.high:.0f} nearly always"
    return f"{limit} are not enough: it takes {jobs.expected:.0f} jobs{most}, each going on"


def _disk(cost: PlannedCost) -> str:
    most = f"at most {plural(cost.checkpoints, 'checkpoint')} at a time"
    if cost.disk is None or cost.checkpoint_bytes is None:
        return f"{most}; how large one is shows when the model is built"
    return f"{_size(cost.disk)}: {most}, of about {_size(cost.checkpoint_bytes)} each"


def _amount(cost: PlannedCost, spread: Spread, write: Callable[[float], str]) -> str:
    """Write what grows with the epochs: of those that were not measured only the most is known."""
    if cost.forecast.epochs is None:
        return f"at most {write(spread.high)}"
    return f"about {_range(spread, write)}"


def _few_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _range(spread: Spread, write: Callable[[float], str]) -> str:
    low, high = write(spread.low), write(spread.high)
    expected = write(spread.expected)
    return expected if low == high else f"{expected} ({low} to {high})"


def _size(count: float) -> str:
    """Write bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
