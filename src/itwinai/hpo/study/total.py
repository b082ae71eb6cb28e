"""How many trials a study runs."""

from __future__ import annotations

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import USUAL_TRIALS, StudyConfiguration
from itwinai.hpo.search import Algorithm


def total_trials(configuration: StudyConfiguration, algorithm: Algorithm, default: bool) -> int:
    """Trials that a study runs in all: the user's number, all points, or 20 if those are fewer."""
    if configuration.num_samples is not None:
        return configuration.num_samples
    given = len(configuration.points) + int(default)
    if algorithm.points is not None:
        return len(algorithm.points) + given
    return max(USUAL_TRIALS, given)


def check_total(configuration: StudyConfiguration, algorithm: Algorithm, default: bool) -> None:
    """Refuse a number of trials that leaves points out, or asks for more than a grid has.

    Raises:
        ConfigurationError: If ``num_samples`` is not the grid's size, or below the number of
            ``points``.
    """
    trials, points = configuration.num_samples, len(configuration.points)
    if trials is None:
        return
    given = points + int(default)
    extra = " and the default configuration" if default else ""
    if algorithm.points is not None:
        _check_grid(trials, len(algorithm.points), given, extra)
    elif points and trials < given:
        raise ConfigurationError(
            f"study.num_samples={trials}: study.points has {points} points{extra}, so the study "
            f"has at least {given} trials. Leave num_samples out, or give fewer points."
        )


def _check_grid(trials: int, points: int, given: int, extra: str) -> None:
    total = points + given
    if trials != total:
        raise ConfigurationError(
            f"study.num_samples={trials}: the grid has {points} points{extra}, so the study has "
            f"{total} trials. Leave num_samples out, or make the grid "
            f"{'smaller' if total > trials else 'larger'}."
        )
