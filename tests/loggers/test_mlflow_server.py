"""Logging to a real tracking server on this machine, read back from it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tracking_servers import Server

from itwinai.loggers import LoggersCollection, MLFlowLogger

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("flask")  # mlflow-skinny has no server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    one = Server(tmp_path_factory.mktemp("server"))
    try:
        one.start()
        yield one.url
    finally:
        one.kill()


def runs_of(server: str, experiment: str) -> dict[str, Any]:
    client = mlflow.MlflowClient(tracking_uri=server)
    found = client.get_experiment_by_name(experiment)
    return {run.info.run_name: run for run in client.search_runs([found.experiment_id])}


def test_a_run_on_a_server(server: str, tmp_path: Path) -> None:
    logger = MLFlowLogger(tmp_path, "digits", tracking_uri=server, run_name="one")
    with logger.start_logging():
        logger.save_hyperparameters({"lr": 0.1, "layers": [1, 2]})
        for step, loss in enumerate((0.5, 0.25)):
            logger.log(loss, "loss", step=step)
        logger.log("hello", "notes/note.txt", kind="text")
        logger.log("mine", "owner", kind="tag")
    run = runs_of(server, "digits")["one"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.1", "layers": "[1, 2]"}
    assert run.data.tags["owner"] == "mine"
    client = mlflow.MlflowClient(tracking_uri=server)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.5), (1, 0.25)]
    mine = client.download_artifacts(run.info.run_id, "notes/note.txt", str(tmp_path))
    assert Path(mine).read_text() == "hello"
    assert not (tmp_path / "mlflow").exists()


def test_runs_below_a_run_and_those_that_were_left_open(server: str, tmp_path: Path) -> None:
    def new() -> MLFlowLogger:
        return MLFlowLogger(tmp_path, "nested", tracking_uri=server)

    study, lost, other = new(), new(), new()
    study.create_logger_context(run_name="study")
    root = {"itwinai.root": str(study.run_id)}
    for name, end in (("ended", "KILLED"), ("ended-too", "FINISHED")):
        trial = new()
        trial.create_logger_context(run_name=name, parent_run_id=study.run_id, tags=root)
        trial.destroy_logger_context(end)
    lost.create_logger_context(
        run_name="lost", parent_run_id=study.run_id, tags={**root, "itwinai.trial": "2"}
    )
    other.create_logger_context(run_name="of another program")
    ends = {"2": "FAILED"}
    study.end_runs_below(lambda tags: ends.get(tags.get("itwinai.trial", "")))
    runs = runs_of(server, "nested")
    assert {name: run.info.status for name, run in runs.items()} == {
        "study": "RUNNING",
        "ended": "KILLED",
        "ended-too": "FINISHED",
        "lost": "FAILED",
        "of another program": "RUNNING",
    }
    parents = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
    assert parents == {
        **dict.fromkeys(("ended", "ended-too", "lost"), study.run_id),
        **dict.fromkeys(("study", "of another program")),
    }
    for logger in (other, lost, study):
        logger.destroy_logger_context()


def test_a_run_goes_on_with_the_parameters_it_has(server: str, tmp_path: Path) -> None:
    first = MLFlowLogger(tmp_path, "continued", tracking_uri=server)
    first.create_logger_context(run_name="one")
    first.save_hyperparameters({"lr": 0.1})
    first.destroy_logger_context("KILLED")
    again = LoggersCollection([MLFlowLogger(tmp_path, "continued", tracking_uri=server)])
    again.create_logger_context(per_logger={"MLFlowLogger": {"run_id": first.run_id}})
    again.save_hyperparameters({"lr": 0.2, "new": 1})  # MLflow lets no parameter be changed
    again.destroy_logger_context()
    assert again.failures == {"MLFlowLogger": 0}
    (run,) = runs_of(server, "continued").values()
    assert (run.info.status, run.data.params) == ("FINISHED", {"lr": "0.1", "new": "1"})
    assert run.data.tags["now.lr"] == "0.2"


def test_odd_names_on_a_server(server: str, tmp_path: Path) -> None:
    logger = MLFlowLogger(tmp_path, "odd", tracking_uri=server)
    collection = LoggersCollection([logger])
    with collection.start_logging():
        # Another process was faster: one is refused, and no other with it.
        mlflow.MlflowClient(server).log_param(logger.run_id, "lr", 0.1)
        collection.save_hyperparameters({"lr": 0.2, "a [b]": 1, "long": "x" * 9000})
        for name in ("mAP@50", "top", "top/5", "präzision", "y" * 300):
            collection.log(0.5, name)
    assert collection.failures == {"MLFlowLogger": 1}
    (run,) = runs_of(server, "odd").values()
    assert run.data.params == {"lr": "0.1", "a _b_": "1", "long": "x" * 5997 + "..."}
    assert set(run.data.metrics) == {"mAP_50", "top", "top/5", "präzision", "y" * 250}


def test_trials_that_start_together_share_one_experiment(server: str, tmp_path: Path) -> None:
    def resolve(number: int) -> str:
        return MLFlowLogger(tmp_path, "together", tracking_uri=server).resolve_experiment_id()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(resolve, range(8)))) == 1
