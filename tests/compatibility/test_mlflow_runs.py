"""What MLflow's runs say, read back from a folder that real runs were logged to."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from itwinai.cli import app
from itwinai.loggers import MLFlowLogger

pytest.importorskip("mlflow")


def invoked(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def log_run(folder: Path, name: str, workers: int, *epoch_times: float, strategy: str) -> str:
    """Log what a training logs; return the id of the experiment."""
    logger = MLFlowLogger(tracking_uri=str(folder), experiment_name="scaling")
    logger.create_logger_context(run_name=name)
    logger.log(strategy, "strategy", kind="param")
    logger.log(workers, "global_world_size", kind="param")
    for epoch, seconds in enumerate(epoch_times):
        logger.log(seconds, "epoch_time_s", step=epoch)
    logger.destroy_logger_context()
    assert logger.experiment_id is not None
    return logger.experiment_id


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("logs") / "mlflow"
    log_run(folder, "one", 1, 90.0, 12.0, 12.0, strategy="torch-ddp")
    log_run(folder, "two", 2, 50.0, 6.0, 6.0, strategy="torch-ddp")
    log_run(folder, "four", 4, 40.0, 4.0, 4.0, strategy="torch-ddp")
    log_run(folder, "four again", 4, 4.0, 4.0, 4.0, strategy="torch-ddp")
    return folder, log_run(folder, "other", 2, 8.0, strategy="deepspeed")


def test_all_values_of_all_runs_come_to_a_file(runs: tuple[Path, str], tmp_path: Path) -> None:
    folder, experiment = runs
    file = tmp_path / "values.csv"
    where = ("--tracking-uri", str(folder), "--experiment-id", experiment)
    said = invoked("download-mlflow-data", *where, "--output-file", str(file))
    assert said == f"{file}: 13 values of 5 runs\n"
    with open(file, newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["step"], float(row["value"])) for row in rows if row["run_name"] == "two"] == [
        *(("0", 50.0), ("1", 6.0), ("2", 6.0))
    ]
    assert {row["metric"] for row in rows} == {"epoch_time_s"}
    assert rows[-1]["params.strategy"] == "deepspeed"
    assert rows[-1]["params.global_world_size"] == "2"
    assert int(rows[-1]["timestamp_ms"]) >= int(rows[0]["timestamp_ms"]) > 1_700_000_000_000


def test_a_report_compares_epochs_by_strategy_and_workers(
    runs: tuple[Path, str], tmp_path: Path
) -> None:
    image = pytest.importorskip("matplotlib.image")
    folder, plots = runs[0], tmp_path / "plots"
    where = ("--tracking-uri", str(folder), "--experiment-name", "scaling")
    said = invoked("generate-scalability-report", *where, "--plot-dir", str(plots))
    rows = [line.split() for line in said.splitlines()]
    # Strategy, workers, runs, the median epoch, how many times faster, and how near the ideal.
    assert ["deepspeed", "2", "1", "8", "1.00", "100%"] in rows
    assert ["torch-ddp", "1", "1", "12", "1.00", "100%"] in rows
    assert ["torch-ddp", "2", "1", "6", "2.00", "100%"] in rows
    assert ["torch-ddp", "4", "2", "4", "3.00", "75%"] in rows
    for name in ("absolute_epoch_time.png", "relative_epoch_speedup.png"):
        assert f"{plots / name}" in said
        assert image.imread(plots / name).std() > 0


def test_a_report_of_some_runs(runs: tuple[Path, str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    where = ("--tracking-uri", str(runs[0]), "--experiment-name", "scaling")
    options = ("--run-names", "one, two", "--plot-dir", str(tmp_path), "--plot-file-suffix", ".svg")
    said = invoked("generate-scalability-report", *where, *options, "--include-communication")
    assert "warning: --include-communication" in said
    assert "deepspeed" not in said
    assert "deepspeed" not in (tmp_path / "absolute_epoch_time.svg").read_text()
    quiet = invoked(
        "generate-scalability-report", *where, *options, "--include-communication", "--no-warnings"
    )
    assert "warning" not in quiet


def test_what_is_not_there_is_named(runs: tuple[Path, str], tmp_path: Path) -> None:
    folder, experiment = runs
    report = ("generate-scalability-report", "--tracking-uri", str(folder), "--experiment-name")
    data = ("download-mlflow-data", "--experiment-id")
    plots = ("--plot-dir", str(tmp_path))
    assert "there is no experiment 'scalin'; did you mean 'scaling'?" in invoked(
        *report, "scalin", code=1
    )
    assert "there is no run 'zzz'. There are: one, two, four, four again, other." in invoked(
        *report, "scaling", "--run-names", "zzz", code=1
    )
    assert "there is no run 'tow'; did you mean 'two'?" in invoked(
        *report, "scaling", "--run-names", "tow", code=1
    )
    assert "no such form of a picture; did you mean '.png'?" in invoked(
        *report, "scaling", *plots, "--plot-file-suffix", ".pgn", code=1
    )
    assert list(tmp_path.iterdir()) == []
    assert f"There are: 0 (Default), {experiment} (scaling)" in invoked(
        *data, "77", "--tracking-uri", str(folder), code=1
    )
    assert "there is no such folder" in invoked(
        *data, "0", "--tracking-uri", str(tmp_path / "none"), code=1
    )
    assert not (tmp_path / "none").exists()


def test_an_experiment_without_trainings_has_no_report(tmp_path: Path) -> None:
    logger = MLFlowLogger(tracking_uri=str(tmp_path / "mlflow"), experiment_name="notes")
    with logger.start_logging():
        logger.log(1.0, "loss", step=0)
    where = ("--tracking-uri", str(tmp_path / "mlflow"), "--experiment-name", "notes")
    assert "no run logged 'epoch_time_s'" in invoked("generate-scalability-report", *where, code=1)
