"""A study of a function, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.functions.program import Function
from itwinai.hpo.functions.step import FunctionTrainer
from itwinai.hpo.record import StudyResult


def tune(
    function: Function,
    space: Mapping[str, Any],
    *,
    config: Mapping[str, Any] | None = None,
    epochs: int = 1,
    data: Any = None,
    study: StudyConfiguration | Mapping[str, Any] | None = None,
    **settings: Any,
) -> StudyResult:
    """Run a study of a function.

    The function is called as ``function(config, trial)`` in every process of a trial: ``config``
    holds the default configuration with the trial's values, ``trial`` is a :class:`Trial`. Any
    code may be in it; PyTorch is loaded only where the function loads it.

    Args:
        function: Trains, and calls ``trial.report`` after each epoch, or once at its end.
        space: Tuned names and their domains.
        config: Default configuration, which the first trial runs; the gain is measured from it.
        epochs: Reports of a full training.
        data: ``trial.data``; it travels to each process once, and each trial has its own copy.
        study: A :class:`StudyConfiguration` or a mapping of its fields.
        settings: Fields of the study, instead: ``metric``, ``mode``, ``num_samples``, ``name``, ...

    Returns:
        The study's result.

    Raises:
        ConfigurationError: For whatever cannot work, before anything starts.
        StudyError: As of :func:`itwinai.hpo.launch.run_study`.

    Example:
        >>> def train(config, trial):
        ...     for epoch in trial.epochs():
        ...         trial.report({"loss": (config.x - 2) ** 2 + 1 / (epoch + 1)})
        >>> space = {"x": {"type": "uniform", "lower": 0, "upper": 4}}
        >>> result = tune(train, space, config={"x": 1.0}, epochs=3, metric="loss", mode="min",
        ...               num_samples=8)  # doctest: +SKIP
    """
    if isinstance(study, StudyConfiguration) and settings:
        raise ConfigurationError(
            f"study is complete already: give {', '.join(settings)} there, not as arguments"
        )
    twice = [name for name in settings if isinstance(study, Mapping) and name in study]
    if twice:
        raise ConfigurationError(f"{twice[0]} is given twice: as an argument, and in study")
    described = study if isinstance(study, StudyConfiguration) else {**(study or {}), **settings}
    return FunctionTrainer(function, space, config, epochs, described).run(data)
