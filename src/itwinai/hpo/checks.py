"""What is refused before a study starts."""

from __future__ import annotations

import re

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.hpo.algorithms import Algorithm
from itwinai.hpo.config import StudyConfiguration

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
    metric, mode = configuration.metric, configuration.mode
    words = set(re.split(r"[^a-z0-9]+", metric.lower()))
    natural = "min" if words & _LOWER_IS_BETTER else "max" if words & _HIGHER_IS_BETTER else None
    if mode is None:
        suggestion = f"; for {metric!r} that is most likely {natural!r}" if natural else ""
        raise ConfigurationError(
            f"study.mode is missing: say 'min' or 'max', whichever makes {metric!r} better"
            f"{suggestion}"
        )
    if natural not in (None, mode):
        itwinai.logger.warning(
            "warning: study.mode=%r looks for the highest %r; is %r meant?"
            if mode == "max"
            else "warning: study.mode=%r looks for the lowest %r; is %r meant?",
            mode,
            metric,
            natural,
        )


def check_total(configuration: StudyConfiguration, algorithm: Algorithm, default: bool) -> None:
    """Refuse a number of trials that leaves a grid unfinished or asks for more than it has.

    Raises:
        ConfigurationError: If ``num_samples`` is not the grid's size.
    """
    if algorithm.points is None or configuration.num_samples is None:
        return
    points = len(algorithm.points)
    total = points + int(default)
    if configuration.num_samples != total:
        extra = " and the default configuration" if default else ""
        raise ConfigurationError(
            f"study.num_samples={configuration.num_samples}: the grid has {points} points{extra}, "
            f"so the study has {total} trials. Leave num_samples out, or make the grid "
            f"{'smaller' if total > configuration.num_samples else 'larger'}."
        )
