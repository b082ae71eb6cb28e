"""What the logger writes, read back with mlflow's own client from a local folder."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from itwinai.errors import MissingPackageError
from itwinai.loggers import BASE_EXP_NAME, LoggersCollection, MLFlowLogger

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # Set and deleted, so that what the logger sets is undone after the test.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "x")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    yield
    assert mlflow.active_run() is None
    assert "MLFLOW_TRACKING_URI" not in os.environ


def client_of(folder: Path) -> Any:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    return mlflow.MlflowClient(tracking_uri=folder.as_uri())


def runs_of(folder: Path, experiment: str = BASE_EXP_NAME) -> list[Any]:
    client = client_of(folder)
    experiments = client.search_experiments(filter_string=f"name = '{experiment}'")
    assert len(experiments) == 1
    return list(client.search_runs([experiments[0].experiment_id]))


def artifacts_of(logger: MLFlowLogger, target: Path) -> Path:
    mlflow.MlflowClient(tracking_uri=logger.tracking_uri).download_artifacts(
        logger.run_id, "", str(target)
    )
    return target


def test_metrics_params_and_status_are_in_the_local_folder(tmp_path: Path) -> None:
    logger = MLFlowLogger(
        savedir=tmp_path, experiment_name="mnist", run_name="first", run_description="a test"
    )
    with logger.start_logging():
        logger.save_hyperparameters({"lr": 0.1, "layers": [1, 2]})
        logger.log("ddp", "strategy", kind="param")
        for step, loss in enumerate((0.5, torch.tensor(0.25))):
            logger.log(loss, "train_loss", step=step)
    (run,) = runs_of(tmp_path / "mlflow", "mnist")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.data.tags["mlflow.note.content"] == "a test"
    assert run.data.params == {"lr": "0.1", "layers": "[1, 2]", "strategy": "ddp"}
    history = client_of(tmp_path / "mlflow").get_metric_history(run.info.run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.5), (1, 0.25)]


def test_more_parameters_than_one_request_holds(tmp_path: Path) -> None:
    logger = MLFlowLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.save_hyperparameters({f"p{number}": number for number in range(250)})
    (run,) = runs_of(tmp_path / "mlflow")
    assert run.data.params == {f"p{number}": str(number) for number in range(250)}


def test_an_odd_name_costs_nothing_but_its_odd_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = MLFlowLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.save_hyperparameters({"lr": 0.1, "odd [1]": 1, "none": None, "deep": {"a": [1]}})
        for step in range(2):
            logger.log(0.5, "mAP@50 (val) %", step=step)
            logger.log(0.25, "mAP_50 _val_ _", step=step)
        logger.log(1.0, "top")
        logger.log(2.0, "top/5")
        logger.log("x", "tag [1]", kind="tag")
    (run,) = runs_of(tmp_path / "mlflow")
    assert run.data.params == {"lr": "0.1", "odd _1_": "1", "none": "None", "deep": "{'a': [1]}"}
    metrics = {"mAP_50 _val_ _": 0.5, "mAP_50 _val_ __2": 0.25, "top": 1.0, "top_5": 2.0}
    assert run.data.metrics == metrics
    assert run.data.tags["tag _1_"] == "x"
    history = client_of(tmp_path / "mlflow").get_metric_history(run.info.run_id, "mAP_50 _val_ _")
    assert [metric.step for metric in history] == [0, 1]
    assert capsys.readouterr().out.count("mAP@50") == 1


def test_no_name_is_lost(tmp_path: Path) -> None:
    paths = ("/a", "a//b", "../a", "..a", "a/", ".", "..", "", ".a", "line\nbreak")
    names = (*paths, "=SUM(A1)", "日本語", "é" * 200, "x" * 250, "x" * 251, "x" * 300, "%s", "{0}")
    logger = MLFlowLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.save_hyperparameters({name: name for name in names})
        for value, name in enumerate(names):
            logger.log(value, name)
    (run,) = runs_of(tmp_path / "mlflow")
    assert sorted(run.data.params.values()) == sorted(name.strip() for name in names)
    assert sorted(run.data.metrics.values()) == list(range(len(names)))


def test_all_of_a_long_parameter_is_kept(tmp_path: Path) -> None:
    logger, whole = MLFlowLogger(savedir=tmp_path), "v" * 9000
    with logger.start_logging():
        logger.save_hyperparameters({"long": whole, "short": 1})
        logger.log(whole, "another/one", kind="param")
    (run,) = runs_of(tmp_path / "mlflow")
    assert run.data.params["short"] == "1"
    assert run.data.params["long"] == run.data.params["another/one"] == "v" * 5997 + "..."
    kept = artifacts_of(logger, tmp_path / "kept") / "params"
    assert (kept / "long.txt").read_text() == (kept / "another/one.txt").read_text() == whole


def test_a_parameter_that_has_changed_is_a_tag(tmp_path: Path) -> None:
    first, again = MLFlowLogger(savedir=tmp_path), MLFlowLogger(savedir=tmp_path)
    with first.start_logging():
        first.save_hyperparameters({"lr": 0.1, "layers": 2, "note": "n" * 9000})
    again.create_logger_context(run_id=first.run_id)
    again.save_hyperparameters({"lr": 0.2, "layers": 2, "note": "n" * 9000, "new": 1})
    again.log("ddp", "new", kind="param")
    again.destroy_logger_context()
    (run,) = runs_of(tmp_path / "mlflow")
    known = {"lr": "0.1", "layers": "2", "new": "1"}
    assert {name: run.data.params[name] for name in known} == known
    changed = {name: v for name, v in run.data.tags.items() if name.startswith("now.")}
    assert changed == {"now.lr": "0.2", "now.new": "ddp"}


def test_a_parameter_that_is_refused_takes_no_other_with_it(tmp_path: Path) -> None:
    logger = LoggersCollection([MLFlowLogger(savedir=tmp_path)])
    with logger.start_logging():
        (one,) = logger.loggers
        # Another process was faster.
        client_of(tmp_path / "mlflow").log_param(one.run_id, "lr", 0.5)
        logger.save_hyperparameters({"layers": 2, "lr": 0.1, "width": 8})
        assert logger.failures == {"MLFlowLogger": 1}
    (run,) = runs_of(tmp_path / "mlflow")
    assert run.data.params == {"layers": "2", "lr": "0.5", "width": "8"}


def test_files_and_objects_become_artifacts(tmp_path: Path) -> None:
    source = tmp_path / "checkpoint"
    source.mkdir()
    (source / "state.pt").write_text("state")
    logger = MLFlowLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.log(str(source / "state.pt"), "best_state", kind="artifact")
        logger.log(source, "folder", kind="artifact")
        logger.log([1, 2], "objects/list.pkl", kind="artifact")
        logger.log({"w": torch.arange(3)}, "weights.pt", kind="torch")
        logger.log({"a": 1}, "table.json", kind="dict")
        logger.log("hello", "notes/note.txt", kind="text")
    kept = artifacts_of(logger, tmp_path / "kept")
    assert (kept / "best_state/state.pt").read_text() == "state"
    assert (kept / "folder/state.pt").read_text() == "state"
    assert pickle.loads((kept / "objects/list.pkl").read_bytes()) == [1, 2]
    assert torch.load(kept / "weights.pt", weights_only=True)["w"].tolist() == [0, 1, 2]
    assert '"a": 1' in (kept / "table.json").read_text()
    assert (kept / "notes/note.txt").read_text() == "hello"


def test_a_checkpoint_is_kept_if_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "epoch_3"
    folder.mkdir()
    for name in ("model.pt", "state.pt", "config.yaml", "manifest.json"):
        (folder / name).write_text(name)
    for asks in (False, True):
        logger = MLFlowLogger(savedir=tmp_path, log_checkpoints=asks)
        with logger.start_logging():
            logger.log_checkpoint(folder)
        kept = {
            f.relative_to(tmp_path).parts[-2:] for f in tmp_path.glob("mlflow/*/*/artifacts/*/*")
        }
        parts = (("model", "model.pt"), ("state", "state.pt"), ("config", "config.yaml"))
        assert kept == ({(f"epoch_3_{part}", file) for part, file in parts} if asks else set())


def test_a_figure_is_an_image_file(tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    logger = MLFlowLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.log(pyplot.figure(), "plots/curve.png", kind="figure")
    assert (artifacts_of(logger, tmp_path / "kept") / "plots/curve.png").stat().st_size > 0


def test_an_image_is_an_image_file(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 4))
    logger = MLFlowLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.log(image, "plots/sample.png", kind="image")
    assert (artifacts_of(logger, tmp_path / "kept") / "plots/sample.png").stat().st_size > 0


def test_a_dataset_is_an_input_of_the_run(tmp_path: Path) -> None:
    from mlflow.data.http_dataset_source import HTTPDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    logger = MLFlowLogger(savedir=tmp_path)
    dataset = MetaDataset(HTTPDatasetSource("https://example.org/digits.csv"), name="digits")
    with logger.start_logging():
        logger.log(dataset, "training", kind="dataset")
    (run,) = runs_of(tmp_path / "mlflow")
    (found,) = client_of(tmp_path / "mlflow").get_run(run.info.run_id).inputs.dataset_inputs
    assert found.dataset.name == "digits"
    assert {tag.key: tag.value for tag in found.tags} == {"mlflow.data.context": "training"}


def test_a_model_can_be_loaded_again(tmp_path: Path) -> None:
    pytest.importorskip("mlflow.pytorch")
    logger = MLFlowLogger(savedir=tmp_path)
    model = torch.nn.Linear(2, 1)
    with logger.start_logging():
        logger.log(model, "model", kind="model", pip_requirements=["torch"])
    kept = artifacts_of(logger, tmp_path / "kept")
    loaded = mlflow.pytorch.load_model(str(kept / "model"))
    assert torch.equal(loaded.weight, model.weight)


def test_a_run_left_by_an_exception_has_failed(tmp_path: Path) -> None:
    logger = MLFlowLogger(savedir=tmp_path)
    with pytest.raises(ZeroDivisionError), LoggersCollection([logger]).start_logging():
        1 / 0  # noqa: B018
    (run,) = runs_of(tmp_path / "mlflow")
    assert run.info.status == "FAILED"
    assert logger.active_run is None


def test_the_status_can_be_said(tmp_path: Path) -> None:
    logger = MLFlowLogger(savedir=tmp_path)
    logger.create_logger_context()
    logger.destroy_logger_context(status="KILLED")
    (run,) = runs_of(tmp_path / "mlflow")
    assert run.info.status == "KILLED"


def test_trials_one_after_another_share_nothing(tmp_path: Path) -> None:
    loggers = [MLFlowLogger(savedir=tmp_path / "one"), MLFlowLogger(savedir=tmp_path / "two")]
    for number, logger in enumerate([*loggers, loggers[0]]):
        with logger.start_logging():
            logger.save_hyperparameters({"number": number})
    later = MLFlowLogger(savedir=tmp_path / "three")
    assert later.tracking_uri == (tmp_path / "three/mlflow").as_uri()
    first, second = runs_of(tmp_path / "one/mlflow"), runs_of(tmp_path / "two/mlflow")
    assert sorted(run.data.params["number"] for run in first) == ["0", "2"]
    assert [run.data.params["number"] for run in second] == ["1"]
    assert {run.info.status for run in first + second} == {"FINISHED"}
    assert all("mlflow.parentRunId" not in run.data.tags for run in first + second)


def test_a_child_run_names_its_parent_and_a_run_can_go_on(tmp_path: Path) -> None:
    parent, child = MLFlowLogger(savedir=tmp_path), MLFlowLogger(savedir=tmp_path)
    parent.create_logger_context(run_name="study")
    child.create_logger_context(run_name="trial", parent_run_id=parent.run_id)
    child.log(1.0, "loss", step=0)
    parent.log(7.0, "trials")
    child.destroy_logger_context()
    parent.destroy_logger_context()

    again = MLFlowLogger(savedir=tmp_path)
    again.create_logger_context(run_id=child.run_id)
    assert client_of(tmp_path / "mlflow").get_run(child.run_id).info.status == "RUNNING"
    again.log(0.5, "loss", step=1)
    again.destroy_logger_context()

    runs = {run.info.run_name: run for run in runs_of(tmp_path / "mlflow")}
    assert set(runs) == {"study", "trial"}
    assert runs["trial"].data.tags["mlflow.parentRunId"] == runs["study"].info.run_id
    assert runs["trial"].data.metrics == {"loss": 0.5}
    assert runs["study"].data.metrics == {"trials": 7.0}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_mlflows_own_functions_reach_the_run(tmp_path: Path) -> None:
    logger = MLFlowLogger(savedir=tmp_path)
    with logger.start_logging():
        assert logger.active_run.info.run_id == logger.run_id
        logger.mlflow.log_metric("own", 3.0)
    (run,) = runs_of(tmp_path / "mlflow")
    assert run.data.metrics == {"own": 3.0}


def test_a_run_that_the_user_opened_stays_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = (tmp_path / "own").as_uri()
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_TRACKING_URI", own)
        with mlflow.start_run() as outer:
            logger = MLFlowLogger(tracking_uri=str(tmp_path / "other"))
            with logger.start_logging():
                logger.log(1.0, "loss")
            assert mlflow.active_run().info.run_id == outer.info.run_id
            mlflow.log_metric("outer", 2.0)
    assert client_of(tmp_path / "own").get_run(outer.info.run_id).data.metrics == {"outer": 2.0}
    (run,) = runs_of(tmp_path / "other")
    assert run.data.metrics == {"loss": 1.0}


def test_other_workers_open_no_run(tmp_path: Path) -> None:
    logger = MLFlowLogger(savedir=tmp_path)
    with logger.start_logging(rank=1):
        logger.log(1.0, "loss")
        assert logger.active_run is None
    assert not (tmp_path / "mlflow").exists()


def test_where_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert MLFlowLogger().tracking_uri == (tmp_path / "mllogs/mlflow").as_uri()
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")
        assert MLFlowLogger().tracking_uri == "http://example.org:5000"
        assert (
            MLFlowLogger(tracking_uri="other dir").tracking_uri == (tmp_path / "other dir").as_uri()
        )
    logger = MLFlowLogger(tracking_uri="other dir")
    with logger.start_logging():
        logger.log(1.0, "loss")
    assert len(runs_of(tmp_path / "other dir")) == 1


def add_experiments(folder: Path, count: int) -> None:
    """Make looking an experiment up slow, so that trials look while none has made it yet."""
    client_of(folder).search_experiments()
    meta = (folder / "0" / "meta.yaml").read_text()
    for number in range(1, count):
        copy = meta.replace("experiment_id: '0'", f"experiment_id: '{number}'")
        (folder / str(number)).mkdir()
        (folder / str(number) / "meta.yaml").write_text(
            copy.replace("name: Default", f"name: old-{number}")
        )


def test_trials_that_start_together_share_one_experiment(tmp_path: Path) -> None:
    add_experiments(tmp_path / "mlflow", 300)
    code = f"""
import sys
from itwinai.loggers import MLFlowLogger
logger = MLFlowLogger(savedir={str(tmp_path)!r}, experiment_name="together")
logger.mlflow
print("ready", flush=True)
sys.stdin.read()
print(logger.resolve_experiment_id())
"""
    start = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    trials = [subprocess.Popen(start, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    for trial in trials:
        assert trial.stdout is not None
        assert trial.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(len(trials)) as pool:
        answers = list(pool.map(lambda trial: trial.communicate()[0], trials))
    assert len(set(answers)) == 1
    assert [trial.returncode for trial in trials] == [0, 0, 0]


def test_a_server_that_is_away_does_not_stop_the_work(tmp_path: Path) -> None:
    collection = LoggersCollection([MLFlowLogger(tmp_path, tracking_uri="http://127.0.0.1:9")])
    with collection.start_logging():
        collection.log(1.0, "loss")
        assert mlflow.active_run() is None
    assert collection.failures == {"MLFlowLogger": 0}  # it is kept, and can be sent
    (calls,) = tmp_path.glob("unsent/*/calls.jsonl")
    assert '"key": "loss", "value": 1.0' in calls.read_text()


def test_a_missing_mlflow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    logger = MLFlowLogger(savedir=tmp_path)
    with pytest.raises(MissingPackageError, match=r"pip install 'itwinai\[mlflow\]'"):
        logger.create_logger_context()
