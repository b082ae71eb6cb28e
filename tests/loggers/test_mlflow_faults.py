"""A tracking server that fails costs a training nothing, and no value is lost.

Each fault is a real one, on a socket; what the server has in the end is compared with what it has
of the same work without the fault.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset
from tracking_servers import PATIENCE_S, Gate, Server, until

from itwinai.errors import ConfigurationError
from itwinai.loggers import LoggersCollection, MLFlowLogger
from itwinai.loggers.syncing import Synced, sync
from itwinai.torch.trainer import TorchTrainer

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("flask")  # mlflow-skinny has no server

STEPS = 6

Between = Callable[[int], None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("server"))
    try:
        one.start()
        yield one
    finally:
        one.kill()


@pytest.fixture
def gate(server: Server) -> Iterator[Gate]:
    one = Gate(server.port)
    yield one
    one.close()


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    before = {name: value for name, value in os.environ.items() if "MLFLOW" in name}
    yield
    assert mlflow.active_run() is None
    # A request that nobody waits for any more may still be on its way.
    until(lambda: before == {k: v for k, v in os.environ.items() if "MLFLOW" in k})


def work(logger: MLFlowLogger, folder: Path, between: Between = lambda step: None) -> None:
    """Log some of everything; ``between`` is called before each step."""
    folder.mkdir()
    with LoggersCollection([logger]).start_logging():
        logger.save_hyperparameters({"lr": 0.1, "layers": [1, 2]})
        logger.log("mine", "owner", kind="tag")
        for step in range(STEPS):
            between(step)
            logger.log(torch.tensor(1 / (step + 1)), "loss", step=2 * step)
            logger.log(float("nan") if step == 2 else step, "odd", step=step)
            logger.log(f"step {step}", f"notes/{step}.txt", kind="text")
        (folder / "weights.bin").write_bytes(b"w" * 300_000)
        logger.log(folder / "weights.bin", "weights", kind="artifact")
        logger.log(folder, "all", kind="artifact")
        logger.log({"a": 1}, "table.json", kind="dict")
        (folder / "weights.bin").unlink()
    folder.rmdir()


def contents(server: Server, experiment: str, target: Path) -> dict[str, Any]:
    """All that the server has of the runs of an experiment, without what differs each time."""
    client = mlflow.MlflowClient(tracking_uri=server.url)
    found = client.get_experiment_by_name(experiment)
    return {
        run.info.run_name: _content(client, run, target / run.info.run_name)
        for run in client.search_runs([found.experiment_id] if found else [])
    }


def _content(client: Any, run: Any, target: Path) -> dict[str, Any]:
    target.mkdir(parents=True)
    client.download_artifacts(run.info.run_id, "", str(target))
    metrics = {
        name: [(point.step, repr(point.value)) for point in history_of(client, run, name)]
        for name in run.data.metrics
    }
    ours = ("mlflow.runName", "mlflow.user", "mlflow.source", "itwinai.run")
    return {
        "status": run.info.status,
        "metrics": metrics,
        "params": run.data.params,
        "tags": {n: v for n, v in run.data.tags.items() if not n.startswith(ours)},
        "files": {str(f.relative_to(target)): f.read_bytes() for f in target.rglob("*.*")},
    }


def history_of(client: Any, run: Any, name: str) -> list[Any]:
    return sorted(client.get_metric_history(run.info.run_id, name), key=lambda point: point.step)


@pytest.fixture(scope="module")
def expected(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the server has of the work without a fault."""
    folder = tmp_path_factory.mktemp("expected")
    work(logger_at(server.url, folder, "no fault"), folder / "work")
    assert not (folder / "unsent").exists()
    found = contents(server, "no fault", folder / "found")
    assert len(found["one"]["metrics"]["loss"]) == STEPS
    assert len(found["one"]["files"]) == STEPS + 3
    return found


def logger_at(url: str, folder: Path, experiment: str, **options: Any) -> MLFlowLogger:
    return MLFlowLogger(folder, experiment, tracking_uri=url, run_name="one", **options)


def unsent(folder: Path) -> list[Path]:
    return list((folder / "unsent").iterdir())


def synced(folder: Path) -> list[Synced]:
    """Send all, and make sure that it is all."""
    found: list[Synced] = []

    def nobody_else_sends() -> bool:
        found[:] = sync(folder)
        return not any("still runs" in one.why for one in found)

    # A request that the training has given up waiting for may still be on its way.
    until(nobody_else_sends)
    assert [one.why for one in found] == [""] * len(found)
    assert not (folder / "unsent").exists()
    return found


@pytest.mark.parametrize("fault", ["silent", "refuse", "500"])
def test_a_server_that_never_works(
    fault: str, server: Server, gate: Gate, expected: dict[str, Any], tmp_path: Path
) -> None:
    gate.set(fault)
    logger = logger_at(gate.url, tmp_path, fault)
    work(logger, tmp_path / "work")
    assert gate.answers == 0  # the work has ended without it
    assert contents(server, fault, tmp_path / "before") == {}
    (spool,) = unsent(tmp_path)
    assert (spool.parent.stat().st_mode & 0o777, spool.stat().st_mode & 0o777) == (0o700, 0o700)
    gate.set("pass")
    (one,) = synced(tmp_path)
    assert "12 metric" in one.sent
    assert contents(server, fault, tmp_path / "after") == expected


@pytest.mark.parametrize("fault", ["silent", "refuse", "500"])
def test_a_server_that_fails_in_the_middle(
    fault: str, server: Server, gate: Gate, expected: dict[str, Any], tmp_path: Path
) -> None:
    def between(step: int) -> None:
        if step == 3:
            gate.set(fault)

    experiment = f"{fault} from step 3"
    logger = logger_at(gate.url, tmp_path, experiment, close_timeout_s=1)
    work(logger, tmp_path / "work", between)
    early = contents(server, experiment, tmp_path / "before")["one"]
    assert early["status"] == "RUNNING"
    assert [step for step, _ in early["metrics"].get("loss", []) if step >= 6] == []
    gate.set("pass")
    synced(tmp_path)
    assert contents(server, experiment, tmp_path / "after") == expected


@pytest.mark.parametrize("fault", ["silent", "refuse", "500"])
def test_a_server_that_comes_back(
    fault: str, server: Server, gate: Gate, expected: dict[str, Any], tmp_path: Path
) -> None:
    client, experiment = mlflow.MlflowClient(tracking_uri=server.url), f"{fault} for a while"

    def has_all() -> bool:
        found = client.get_experiment_by_name(experiment)
        runs = client.search_runs([found.experiment_id]) if found else []
        return [len(history_of(client, run, "loss")) for run in runs] == [STEPS - 1]

    def between(step: int) -> None:
        if step == STEPS - 1:
            gate.set("pass")
            until(has_all)  # and the work is not at its end

    gate.set(fault)
    work(logger_at(gate.url, tmp_path, experiment), tmp_path / "work", between)
    assert not (tmp_path / "unsent").exists()
    assert contents(server, experiment, tmp_path / "after") == expected


@pytest.mark.exhaustive
def test_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    one = Server(tmp_path / "server")

    def between(step: int) -> None:
        if step == 2:
            one.kill()
        elif step == 4:
            one.start()

    try:
        one.start()
        work(logger_at(one.url, tmp_path, "no fault"), tmp_path / "reference")
        work(logger_at(one.url, tmp_path, "killed", close_timeout_s=60), tmp_path / "w", between)
        if (tmp_path / "unsent").exists():
            synced(tmp_path)
        found = [contents(one, name, tmp_path / name) for name in ("no fault", "killed")]
        assert found[0] == found[1]
    finally:
        one.kill()


def test_answers_that_are_lost_make_nothing_twice(
    server: Server, gate: Gate, expected: dict[str, Any], tmp_path: Path
) -> None:
    def between(step: int) -> None:
        if step in (0, 3):
            lost = gate.lost
            until(lambda: gate.lost >= lost + 2)
            gate.set("pass")
        if step == 2:
            gate.set("lose")

    gate.set("lose")
    work(logger_at(gate.url, tmp_path, "lost"), tmp_path / "work", between)
    assert not (tmp_path / "unsent").exists()
    assert contents(server, "lost", tmp_path / "after") == expected


def test_values_keep_the_time_at_which_they_were_logged(
    server: Server, gate: Gate, tmp_path: Path
) -> None:
    gate.set("refuse")
    logger = logger_at(gate.url, tmp_path, "times")
    with logger.start_logging():
        logger.log(1.0, "loss", step=1)
    (calls,) = (tmp_path / "unsent").glob("*/calls.jsonl")
    kept = {call["call"]: call for call in map(json.loads, calls.read_text().splitlines())}
    until(lambda: mlflow.utils.time.get_current_time_millis() > kept["end"]["end_time"])
    gate.set("pass")
    synced(tmp_path)
    client = mlflow.MlflowClient(tracking_uri=server.url)
    (run,) = client.search_runs([client.get_experiment_by_name("times").experiment_id])
    times = (run.info.start_time, run.info.end_time)
    assert times == (kept["run"]["start_time"], kept["end"]["end_time"])
    (point,) = client.get_metric_history(run.info.run_id, "loss")
    assert (point.step, point.value, point.timestamp) == (1, 1.0, kept["metric"]["timestamp"])


KILLED = """
import os, signal, sys
from itwinai.loggers import MLFlowLogger

logger = MLFlowLogger(sys.argv[1], "killed -9", tracking_uri=sys.argv[2], run_name="one")
logger.create_logger_context()
for step in range(50):
    logger.log(step / 7, "loss", step=step)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("fault", ["silent", "pass"])
def test_a_training_that_is_killed_loses_nothing(
    fault: str, server: Server, gate: Gate, tmp_path: Path
) -> None:
    gate.set(fault)
    experiment = f"killed -9, {fault}"
    code = KILLED.replace("killed -9", experiment)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), gate.url], timeout=PATIENCE_S, check=False
    )
    assert done.returncode == -signal.SIGKILL
    gate.set("pass")
    synced(tmp_path)
    (run,) = contents(server, experiment, tmp_path / "after").values()
    assert run["metrics"] == {"loss": [(step, repr(step / 7)) for step in range(50)]}
    assert run["status"] == "FAILED"


def test_runs_below_a_run_that_is_not_there_yet(server: Server, gate: Gate, tmp_path: Path) -> None:
    gate.set("refuse")
    study = logger_at(gate.url, tmp_path, "study")
    study.create_logger_context(run_name="study")
    name = study.run_id
    trial = logger_at(gate.url, tmp_path, "study")
    trial.create_logger_context(run_name="trial", parent_run_id=name, tags={"itwinai.root": name})
    trial.log(0.5, "loss", step=3)
    trial.destroy_logger_context("KILLED")
    again = logger_at(gate.url, tmp_path, "study")
    again.create_logger_context(run_name="trial", parent_run_id=name, run_id=trial.run_id)
    again.log(0.25, "loss", step=4)
    again.destroy_logger_context("FINISHED")
    with pytest.raises(ConnectionError, match="does not answer"):
        study.end_runs_below(lambda tags: None)
    study.destroy_logger_context()
    gate.set("pass")
    assert len(synced(tmp_path)) == 3
    client = mlflow.MlflowClient(tracking_uri=server.url)
    found = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    runs = {run.info.run_name: run for run in found}
    assert set(runs) == {"study", "trial"}
    tags, above = runs["trial"].data.tags, runs["study"].info.run_id
    assert (tags["mlflow.parentRunId"], tags["itwinai.root"]) == (above, above)
    assert {name: run.info.status for name, run in runs.items()} == {
        "study": "FINISHED",
        "trial": "FINISHED",
    }
    points = [(point.step, point.value) for point in history_of(client, runs["trial"], "loss")]
    assert points == [(3, 0.5), (4, 0.25)]


def test_what_is_sent_late_does_not_end_a_run_that_has_gone_on(
    server: Server, gate: Gate, tmp_path: Path
) -> None:
    first = logger_at(gate.url, tmp_path / "a", "gone on")
    first.create_logger_context()
    gate.set("refuse")
    first.log(0.5, "loss", step=1)
    first.destroy_logger_context("KILLED")
    gate.set("pass")
    again = logger_at(gate.url, tmp_path / "b", "gone on")
    again.create_logger_context(run_id=first.run_id)
    again.log(0.25, "loss", step=2)
    again.destroy_logger_context("FINISHED")
    synced(tmp_path / "a")
    (run,) = contents(server, "gone on", tmp_path / "after").values()
    assert run["status"] == "FINISHED"
    assert run["metrics"] == {"loss": [(1, "0.5"), (2, "0.25")]}


class Recording(LoggersCollection):
    """Remembers what a training logs, and hands it on."""

    def __init__(self, logger: MLFlowLogger) -> None:
        super().__init__([logger])
        self.seen: list[tuple[Any, ...]] = []

    def log(self, item: Any, identifier: str, *args: Any, **kwargs: Any) -> None:
        if not identifier.endswith("_s"):  # seconds are never the same
            self.seen.append((identifier, kwargs.get("step"), str(item)))
        super().log(item, identifier, *args, **kwargs)


def test_a_training_does_not_notice(
    server: Server, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(url: str, name: str) -> tuple[Any, ...]:
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        torch.manual_seed(0)
        inputs = torch.randn(32, 4)
        data = TensorDataset(inputs, inputs.sum(1, keepdim=True))
        logger = Recording(MLFlowLogger(folder, name, tracking_uri=url, run_name="one"))
        trainer = TorchTrainer(
            {"optim_lr": 0.01, "batch_size": 8, "loss": "mse", "num_workers_dataloader": 0},
            epochs=2,
            model=torch.nn.Linear(4, 1),
            random_seed=7,
            logger=logger,
        )
        _, _, _, model = trainer.execute(data, data, data)
        weights = {key: value.tolist() for key, value in model.state_dict().items()}
        assert logger.failures == {"MLFlowLogger": 0}
        return weights, logger.seen

    expected = train(server.url, "healthy")
    gate.set("silent")
    assert train(gate.url, "faulty") == expected
    assert gate.answers == 0
    gate.set("pass")
    synced(tmp_path / "faulty")
    found = [
        contents(server, name, tmp_path / "found" / name)["one"] for name in ("healthy", "faulty")
    ]
    for one in found:
        one["metrics"] = {n: points for n, points in one["metrics"].items() if n[-2:] != "_s"}
    assert found[0]["metrics"]
    assert [one["metrics"] for one in found] == [found[0]["metrics"]] * 2


def test_what_the_user_has_set_stays(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
        with logger_at(gate.url, tmp_path, "set").start_logging():
            assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    with pytest.raises(ConfigurationError, match="close_timeout_s is -1"):
        MLFlowLogger(tmp_path, close_timeout_s=-1)


def sync_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "itwinai", "loggers", "sync", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_the_command(server: Server, gate: Gate, expected: dict[str, Any], tmp_path: Path) -> None:
    gate.set("refuse")
    work(logger_at(gate.url, tmp_path, "command"), tmp_path / "work")
    (spool,) = unsent(tmp_path)
    for folder in (tmp_path, spool.parent, spool):
        done = sync_command(str(folder))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"error: {spool}: 1 run, 2 param, 1 tag, 12 metric, ")
    assert unsent(tmp_path) == [spool]
    gate.set("pass")
    done = sync_command(str(spool.parent))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{spool}: sent 1 run, 2 param, 1 tag, 12 metric, " in done.stdout
    assert contents(server, "command", tmp_path / "after") == expected
    done = sync_command(str(spool.parent))
    assert (done.returncode, done.stdout) == (0, f"{spool.parent}: nothing is unsent\n")
    done = sync_command(str(tmp_path / "elsewhere"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no such folder" in done.stderr


def test_the_servers_password_is_not_kept(server: Server, gate: Gate, tmp_path: Path) -> None:
    gate.set("refuse")
    address = gate.url.replace("//", "//me:open@sesame@")
    for name, logged in (("by address", address), ("by user", address)):
        with logger_at(logged, tmp_path / name, name).start_logging():
            pass
    files = [path for path in tmp_path.rglob("unsent/*/*") if path.is_file()]
    assert files
    assert not [path for path in files if "sesame" in path.read_text()]
    gate.set("pass")
    (one,) = sync(tmp_path / "by user")
    assert "user and password of http://***@127.0.0.1" in one.why


@pytest.mark.parametrize("by", ["user", "address"])
def test_the_environments_password_reaches_the_server_and_stays_as_it_is(
    gate: Gate,
    server: Server,
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    address = gate.url.replace("//", "//me:open@sesame@")
    user = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "open@sesame"}
    gate.set("refuse")
    work(logger_at(address, tmp_path, f"by {by}"), tmp_path / "work")
    gate.set("pass")
    with monkeypatch.context() as patch:
        for name, value in (user if by == "user" else {"MLFLOW_TRACKING_URI": address}).items():
            patch.setenv(name, value)
        before = dict(os.environ)
        synced(tmp_path)
        assert dict(os.environ) == before
    assert gate.logins == {"me:open@sesame"}
    assert contents(server, f"by {by}", tmp_path / "after") == expected


def test_a_spool_is_data_and_not_trusted(server: Server, gate: Gate, tmp_path: Path) -> None:
    gate.set("refuse")
    with logger_at(gate.url, tmp_path, "hostile").start_logging():
        pass
    (spool,) = unsent(tmp_path)
    (tmp_path / "secret").write_text("secret")
    calls = [
        {"call": "artifact", "file": f"files/../../../{tmp_path.name}/../secret", "to": None},
        {"call": "artifact", "file": str(tmp_path / "secret"), "to": None},
        {"call": "artifact", "file": "calls.jsonl", "to": None},
        {"call": "delete_experiment", "key": "hostile"},
        {"call": "metric", "key": "good", "value": 1.0, "timestamp": 1, "step": 1},
    ]
    with open(spool / "calls.jsonl", "a") as file:
        file.writelines(json.dumps(call) + "\n" for call in calls)
        file.write('{"call": "metric", "key": "to')  # torn by a crash
    gate.set("pass")
    (one,) = sync(tmp_path)
    assert len(one.refused) == 4
    (run,) = contents(server, "hostile", tmp_path / "after").values()
    assert (run["files"], set(run["metrics"])) == ({}, {"good"})


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ("no JSON\n", "is damaged"),
        ('["run"]\n', "is damaged"),
        ('{"call": "run", "service": "os"}\n', "does not know"),
        ("", "is damaged"),
    ],
)
def test_a_spool_that_is_none(first: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "unsent/one").mkdir(parents=True)
    (tmp_path / "unsent/one/calls.jsonl").write_text(first)
    (one,) = sync(tmp_path)
    assert why in one.why
    assert (tmp_path / "unsent/one/calls.jsonl").read_text() == first
