"""Runs of MLflow, read back: their parameters, and every value that each metric ever had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.loggers.mlflow import absolute_uri, connect, import_mlflow, local_folder, pages


@dataclass(frozen=True)
class Measurement:
    """One value of a metric.

    Attributes:
        metric: Its name.
        value: Its value.
        step: The step that it was logged with.
        timestamp: When it was logged, in milliseconds since 1970.
    """

    metric: str
    value: float
    step: int
    timestamp: int


@dataclass(frozen=True)
class LoggedRun:
    """What a run has logged."""

    run_id: str
    name: str
    params: Mapping[str, str]
    measurements: Sequence[Measurement]


class Experiments:
    """The experiments of a server or folder.

    Args:
        tracking_uri: A URI, or the path of a folder that ``MLFlowLogger`` wrote.

    Raises:
        ConfigurationError: If there is no such folder.
        MissingPackageError: If mlflow is not installed.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._uri = absolute_uri(tracking_uri)
        folder = local_folder(self._uri)
        if folder is not None and not folder.is_dir():
            raise ConfigurationError(
                f"tracking URI {tracking_uri}: there is no such folder. Give the one that "
                "MLFlowLogger wrote, or the address of a server."
            )
        self._client = connect(self._uri)

    def id_of(self, name: str) -> str:
        """Return an experiment's id.

        Raises:
            ConfigurationError: If there is no experiment of this name.
        """
        known = {name: number for number, name in self._names().items()}
        if name not in known:
            raise ConfigurationError(
                f"{self._uri}: there is no experiment {name!r}{did_you_mean(name, known) or '.'} "
                f"There are: {', '.join(sorted(known)) or 'none'}."
            )
        return known[name]

    def runs(self, experiment_id: str, metric: str | None = None) -> Iterator[LoggedRun]:
        """Read the runs of an experiment, the oldest first.

        Args:
            experiment_id: Whose runs.
            metric: The only metric whose values are read, a request each; None: all.

        Raises:
            ConfigurationError: If there is no experiment of this id.
        """
        known = self._names()
        if experiment_id not in known:
            there = ", ".join(f"{key} ({name})" for key, name in sorted(known.items()))
            raise ConfigurationError(
                f"{self._uri}: there is no experiment with the id {experiment_id!r}. "
                f"There are: {there or 'none'}."
            )
        order = ["attributes.start_time ASC"]
        for run in pages(self._client.search_runs, [experiment_id], order_by=order):
            names = set(run.data.metrics)
            yield self._read(run, names if metric is None else names & {metric})

    def _names(self) -> dict[str, str]:
        """Return each experiment's name by its id."""
        try:
            found = list(pages(self._client.search_experiments))
        except import_mlflow().MlflowException as error:
            raise ConfigurationError(f"{self._uri}: cannot be read: {error}") from error
        return {str(experiment.experiment_id): experiment.name for experiment in found}

    def _read(self, run: Any, metrics: Iterable[str]) -> LoggedRun:
        history = [
            Measurement(name, point.value, point.step, point.timestamp)
            for name in sorted(metrics)
            for point in self._client.get_metric_history(run.info.run_id, name)
        ]
        name = run.info.run_name or run.info.run_id
        return LoggedRun(run.info.run_id, name, dict(run.data.params), history)
