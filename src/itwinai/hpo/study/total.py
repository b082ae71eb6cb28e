"""How many trials a study runs."""

from __future__ import annotations

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import USUAL_TRIALS, StudyConfiguration
from itwinai.hpo.search import Algorithm


def total_trials(configuration: StudyConfiguration, algorithm: Algorithm, default: bool) -> int:
    """Trials that a study runs in all: the user's number, a grid's points, or 20."""
    if configuration.num_samples is not None:
        return configuration.num_samples
    if algorithm.points is not None:
        return len(algorithm.points) + len(configuration.points) + int(default)
    return USUAL_TRIALS


def check_total(configuration: StudyConfiguration, algorithm: Algorithm, default: bool) -> None:
    """Refuse a number of trials that leaves a grid unfinished or asks for more than it has.

    Raises:
        ConfigurationError: If ``num_samples`` is not the grid's size.
    """
    if algorithm.points is None or configuration.num_samples is None:
        return
    points = len(algorithm.points)
    total = points + len(configuration.points) + int(default)
    if configuration.num_samples != total:
        extra = " and the default configuration" if default else ""
        raise ConfigurationError(
            f"study.num_samples={configuration.num_samples}: the grid has {points} points{extra}, "
            f"so the study has {total} trials. Leave num_samples out, or make the grid "
            f"{'smaller' if total > configuration.num_samples else 'larger'}."
        )
