"""What would be wasteful in a study that could start, each in one sentence with its figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.insight.forecast import NO_SCHEDULER, forecast
from itwinai.hpo.record import Setup
from itwinai.hpo.schedulers import Setting, build_scheduler
from itwinai.hpo.space import Float, Integer, SearchSpace
from itwinai.hpo.study import AUTO, choose

#: A range between such bounds is mostly searched near its upper end, unless on a logarithm.
_WIDE = 100

#: With fewer trials the default search has hardly begun to learn.
_FEW = 10

#: Algorithms that ``auto`` may become and that have as many trials as their points or places.
_UNTAUGHT = ("grid", "pbt")


def advice(
    configuration: StudyConfiguration,
    space: SearchSpace,
    setup: Setup,
    trials: int,
    epochs: int,
    cores: float,
) -> tuple[str, ...]:
    """List what a study would waste.

    Args:
        configuration: Its settings.
        space: What is tuned.
        setup: Who decides in it, and how many trials run at once.
        trials: Trials in all.
        epochs: Epochs of a full training.
        cores: Cores of all machines together.
    """
    sentences = [
        *_no_scheduler(configuration, space, setup, trials, epochs),
        *_crowded(setup, cores),
        *_first_epoch(setup, epochs),
        *_linear_ranges(space),
        *_few_trials(configuration, setup, trials),
    ]
    return tuple(sentences)


def _no_scheduler(
    configuration: StudyConfiguration, space: SearchSpace, setup: Setup, trials: int, epochs: int
) -> Iterator[str]:
    """Compare with the default scheduler; trainings that are too short for it have none either."""
    if setup.scheduler != NO_SCHEDULER:
        return
    usual = choose(configuration.model_copy(update={"scheduler": AUTO}), space, epochs).scheduler
    scheduler = build_scheduler(usual, Setting(epochs, configuration.judged))
    if scheduler.rule == NO_SCHEDULER:
        return
    stopping = replace(setup, scheduler=scheduler.rule, rungs=scheduler.judge.rungs)
    expected = forecast(stopping, trials, epochs).epochs
    if expected is not None and expected.expected < trials * epochs:
        yield (
            f"scheduler: none trains {trials * epochs / expected.expected:.1f} times the epochs "
            f"of scheduler: auto (about {expected.expected:.0f})."
        )


def _crowded(setup: Setup, cores: float) -> Iterator[str]:
    processes = (setup.slots or 1) * setup.workers
    if processes > cores:
        yield (
            f"{processes} processes at once share {cores:g} cores: study.max_concurrent_trials: "
            f"{max(1, int(cores // setup.workers))} leaves each its own."
        )


def _first_epoch(setup: Setup, epochs: int) -> Iterator[str]:
    if setup.rungs is None or epochs <= 3:
        return
    firsts = [bracket.levels[0] for bracket in setup.rungs.brackets if bracket.levels]
    if firsts and min(firsts) <= 1:
        yield (
            f"The first rung is after epoch {min(firsts):g}: over 35 tasks the first epoch misled "
            "in half of them, the third in a third; use grace_period: 3."
        )


def _linear_ranges(space: Mapping[str, object]) -> Iterator[str]:
    for name, domain in space.items():
        if not isinstance(domain, Float | Integer) or domain.log or domain.lower <= 0:
            continue
        if domain.upper / domain.lower >= _WIDE:
            tenth = (domain.upper / 10 - domain.lower) / (domain.upper - domain.lower)
            kind = "loguniform" if isinstance(domain, Float) else "lograndint"
            yield (
                f"search_space.{name} spans a factor of {domain.upper / domain.lower:.3g} without "
                f"a logarithm, so only {max(0.0, tenth):.0%} of its values lie below a tenth of "
                f"its upper end: use type: {kind}."
            )


def _few_trials(configuration: StudyConfiguration, setup: Setup, trials: int) -> Iterator[str]:
    """Speak of few trials where auto has become a search that more of them teach."""
    if configuration.algorithm == AUTO and setup.algorithm not in _UNTAUGHT and trials < _FEW:
        yield (
            f"With {trials} trials algorithm: auto has hardly begun to learn from the first ones: "
            f"give study.num_samples: {_FEW} or more."
        )
