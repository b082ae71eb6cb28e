"""The rules of every logger, proved for ours and a user's own; a broken logger is found."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from offline_runs import runs_in

from itwinai.loggers import ConsoleLogger, Logger, MLFlowLogger, TensorBoardLogger, WandBLogger
from itwinai.testing.loggers import RULES, BrokenLoggerError, check_logger

Metrics = list[tuple[str, float]]


class FileLogger(Logger):
    """A logger as a user writes one: a line of JSON per metric."""

    def _metric(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        with open(Path(self.savedir) / "metrics.jsonl", "a") as file:
            file.write(json.dumps([identifier, float(item)]) + "\n")

    _writers: ClassVar = {"metric": _metric}


def lines(folder: Path) -> Metrics:
    path = folder / "metrics.jsonl"
    return [tuple(json.loads(line)) for line in path.open()] if path.exists() else []


def mlflow_metrics(folder: Path) -> Metrics:
    from mlflow import MlflowClient

    if not (folder / "mlflow").exists():
        return []
    client = MlflowClient(tracking_uri=(folder / "mlflow").as_uri())
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [pair for run in client.search_runs(experiments) for pair in run.data.metrics.items()]


def tensorboard_metrics(folder: Path) -> Metrics:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics: Metrics = []
    for run in {path.parent for path in folder.rglob("*tfevents*")}:
        events = EventAccumulator(str(run)).Reload()
        for tag in events.Tags()["scalars"]:
            metrics += [(tag, event.value) for event in events.Scalars(tag)]
    return metrics


def wandb_metrics(folder: Path) -> Metrics:
    rows = [row for run in runs_in(folder) for row in run.history]
    return [pair for row in rows for pair in row.items() if pair[0] != "step"]


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize(
    ("package", "kind", "read"),
    [
        ("json", FileLogger, lines),
        ("json", ConsoleLogger, None),
        ("mlflow", MLFlowLogger, mlflow_metrics),
        ("tensorboard", TensorBoardLogger, tensorboard_metrics),
        ("wandb", WandBLogger, wandb_metrics),
    ],
)
def test_a_logger_keeps_all_rules(package: str, kind: Any, read: Any) -> None:
    pytest.importorskip(package)
    assert len(check_logger(kind, read)) == len(RULES)


class LogsAlways(FileLogger):
    def log(self, item: Any, identifier: str, kind: str = "metric", *_: Any, **__: Any) -> None:
        if kind == "metric":
            self._metric(item, identifier, None)


class LogsOnAllWorkers(FileLogger):
    def should_log(self, batch_idx: int | None = None) -> bool:
        return True


class DropsEpochs(FileLogger):
    def should_log(self, batch_idx: int | None = None) -> bool:
        return super().should_log(0 if batch_idx is None else batch_idx)


class KnowsNoOtherKind(FileLogger):
    def log(self, item: Any, identifier: str, kind: str = "metric", *a: Any, **k: Any) -> None:
        if kind not in self._writers:
            raise KeyError(kind)
        super().log(item, identifier, kind, *a, **k)


class StopsTwice(FileLogger):
    def destroy_logger_context(self, status: str = "FINISHED") -> None:
        if getattr(self, "has_run", False):
            return
        super().destroy_logger_context(status)
        self.has_run = True


class HoldsALock(FileLogger):
    def __init__(self, **rules: Any) -> None:
        super().__init__(**rules)
        self.lock = threading.Lock()


class TakesNumbersAlone(FileLogger):
    def _write_hyperparameters(self, params: Any) -> None:
        for value in params.values():
            float(value)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (LogsAlways, "nothing is logged before the start"),
        (LogsOnAllWorkers, "only the chosen workers log"),
        (DropsEpochs, "a second start warns and changes nothing"),
        (KnowsNoOtherKind, "unknown kinds are left out"),
        (StopsTwice, "it can be stopped and started again"),
        (HoldsALock, "it travels to other processes"),
        (TakesNumbersAlone, "hyper parameters are of any type"),
    ],
)
def test_a_broken_rule_is_named(kind: Any, rule: str) -> None:
    with pytest.raises(BrokenLoggerError) as raised:
        check_logger(kind, lines)
    assert raised.value.rule == rule
    assert f"breaks the rule '{rule}'" in str(raised.value)
