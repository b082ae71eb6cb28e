"""A study's trials, as programs read them from the results of Ray Tune."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import pandas as pd
from ray.tune import Checkpoint

from itwinai.errors import ConfigurationError
from itwinai.hpo.record import StudyResult
from itwinai.hpo.trial import FAILURES, TrialResult, metric_value

#: What one number a trial's values of a metric come to; ``best`` is min or max.
_SCOPES: Mapping[str, Callable[[Sequence[float], Callable[..., float]], float]] = {
    "last": lambda values, best: values[-1],
    "all": lambda values, best: best(values),
    "avg": lambda values, best: fmean(values),
    "last-5-avg": lambda values, best: fmean(values[-5:]),
    "last-10-avg": lambda values, best: fmean(values[-10:]),
}

_BEST: Mapping[str, Callable[..., Any]] = {"min": min, "max": max}


@dataclass(frozen=True)
class Result:
    """One trial.

    Attributes:
        trial: As the study has it.
        path: Its folder.
    """

    trial: TrialResult
    path: str

    @property
    def config(self) -> dict[str, Any]:
        """What the trial was given: its hyper-parameters, below ``train_loop_config``."""
        return {"train_loop_config": dict(self.trial.params)}

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics of the last epoch, and what Ray Tune says with them."""
        return {**self._row(len(self.trial.history) - 1), "config": self.config}

    @property
    def metrics_dataframe(self) -> pd.DataFrame:
        """A row per report."""
        return pd.DataFrame([self._row(place) for place in range(len(self.trial.history))])

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last checkpoint that was kept."""
        kept = self.trial.checkpoint
        return None if kept is None else Checkpoint.from_directory(str(kept))

    @property
    def best_checkpoints(self) -> list[tuple[Checkpoint, dict[str, Any]]]:
        """The checkpoints that were kept, with the metrics of their epochs: one, or none."""
        kept, trial = self.checkpoint, self.trial
        place = bisect_right(trial.at, trial.checkpoint_epochs) - 1
        return [] if kept is None else [(kept, self._row(place))]

    @property
    def error(self) -> Exception | None:
        """Why it failed; None if it did not."""
        trial = self.trial
        if trial.state not in FAILURES:
            return None
        return RuntimeError(f"trial {trial.number}: {trial.state.value}: {trial.reason}")

    def values(self, metric: str, numbers_only: bool = True) -> list[tuple[int, float]]:
        """The reports that had a metric, from 0, and its values."""
        reported = ((n, metric_value(row, metric)) for n, row in enumerate(self.trial.history))
        known = [(place, value) for place, value in reported if value is not None]
        return [pair for pair in known if math.isfinite(pair[1]) or not numbers_only]

    def flat(self, place: int) -> dict[str, Any]:
        """A row of the table of all trials: a report's metrics, and what the trial was given."""
        given = {f"config/train_loop_config/{n}": v for n, v in self.trial.params.items()}
        return {**self._row(place), **given, "logdir": self.path}

    def _row(self, place: int) -> dict[str, Any]:
        trial, is_known = self.trial, 0 <= place < len(self.trial.history)
        metrics = trial.history[place] if is_known else {}
        loss = metric_value(metrics, "loss")
        return {
            **({} if loss is None else {"loss": loss}),
            **metrics,
            "training_iteration": math.floor(trial.at[place]) if is_known else place + 1,
            "trial_id": f"{trial.number:05d}",
            "time_total_s": trial.seconds[place] if 0 <= place < len(trial.seconds) else 0.0,
        }


class ResultGrid:
    """The results of all trials.

    Args:
        study: The study.
    """

    def __init__(self, study: StudyResult) -> None:
        self._study = study

    @cached_property
    def _results(self) -> list[Result]:
        trials = self._study.record.parent / "trials"
        return [Result(t, str(trials / f"{t.number:05d}")) for t in self._study.trials]

    def __len__(self) -> int:
        return len(self._results)

    def __getitem__(self, position: int) -> Result:
        return self._results[position]

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    @property
    def experiment_path(self) -> str:
        """Folder of the study."""
        return str(self._study.record.parent)

    @property
    def errors(self) -> list[Exception]:
        """Why trials failed."""
        return [result.error for result in self if result.error is not None]

    @property
    def num_errors(self) -> int:
        """How many trials failed."""
        return len(self.errors)

    @property
    def num_terminated(self) -> int:
        """How many did not."""
        return len(self) - self.num_errors

    def get_best_result(
        self,
        metric: str | None = None,
        mode: str | None = None,
        scope: str = "last",
        filter_nan_and_inf: bool = True,
    ) -> Result:
        """Return the best trial: by the study's own measure the study's best, whose model it gives.

        Args:
            metric: What counts; None: the study's metric.
            mode: ``min`` or ``max``; None: the study's, for its metric.
            scope: Which of a trial's values count: ``last``, ``all``, ``avg``, ``last-5-avg`` or
                ``last-10-avg``.
            filter_nan_and_inf: Whether values that are no numbers are left out.

        Raises:
            ConfigurationError: For an unknown mode or scope.
            RuntimeError: If no trial has reported the metric.
        """
        study = self._study
        if (metric or study.metric) == study.metric:
            metric, mode = study.metric, mode or study.mode
        best = _known("mode", mode, _BEST)
        summed = _known("scope", scope, _SCOPES)
        if (metric, mode, scope) == (study.metric, study.mode, "last"):
            if study.best is not None:
                return next(result for result in self if result.trial is study.best)
            raise RuntimeError(_nothing(metric))
        scored = []
        for result in self:
            values = [v for _, v in result.values(str(metric), filter_nan_and_inf)]
            scored += [(summed(values, best), result)] if values else []
        if not scored:
            raise RuntimeError(_nothing(metric))
        found: Result = best(scored, key=lambda pair: pair[0])[1]
        return found

    def get_dataframe(
        self, filter_metric: str | None = None, filter_mode: str | None = None
    ) -> pd.DataFrame:
        """Return a row per trial: its last epoch, or the one where a metric was best.

        Args:
            filter_metric: A metric.
            filter_mode: ``min`` or ``max``, of that metric.

        Raises:
            ConfigurationError: For an unknown mode.
        """
        rows = []
        for result in self:
            place = len(result.trial.history) - 1
            if filter_metric is not None:
                best = _known("filter_mode", filter_mode, _BEST)
                values = result.values(filter_metric)
                place = best(values, key=lambda pair: pair[1])[0] if values else place
            rows.append(result.flat(place))
        return pd.DataFrame(rows)


def _known(name: str, given: Any, table: Mapping[str, Any]) -> Any:
    if given not in table:
        raise ConfigurationError(f"{name}={given!r}: must be one of {', '.join(table)}")
    return table[given]


def _nothing(metric: str | None) -> str:
    return f"no trial has reported {metric!r} as a number: there is no best one."
