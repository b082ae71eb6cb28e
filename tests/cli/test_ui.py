"""The pages and servers of MLflow and TensorBoard, with the real ones."""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from itwinai.cli import app
from itwinai.loggers import Logger, MLFlowLogger, TensorBoardLogger

PATIENCE_S = 120

#: A page of TensorBoard and what it says.
TRIAL = ("data/runs", '"study/trial-0"')


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "itwinai", *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE_S)
        assert process.stdout is not None
        process.stdout.close()


def fetched(url: str, process: subprocess.Popen[str]) -> str:
    """Get a page as soon as there is one."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        with suppress(urllib.error.URLError, ConnectionError):
            answer: bytes = urllib.request.urlopen(url, timeout=10).read()
            return answer.decode()
        time.sleep(0.1)
    raise AssertionError(f"{url} never answered")


@pytest.mark.parametrize(
    ("command", "kind", "needs", "page", "says", "how"),
    [
        ("mlflow-ui", MLFlowLogger, "flask", "", "MLflow", signal.SIGINT),
        ("tensorboard-ui", TensorBoardLogger, "tensorboard", *TRIAL, signal.SIGINT),
        ("tensorboard-ui", TensorBoardLogger, "tensorboard", *TRIAL, signal.SIGTERM),
    ],
)
def test_the_page_is_there_until_it_is_interrupted(
    command: str, kind: type[Logger], needs: str, page: str, says: str, how: int, tmp_path: Path
) -> None:
    pytest.importorskip(needs)
    logger = kind(savedir=tmp_path)
    logger.create_logger_context(run_name="trial-0", group="study")
    logger.log(1.0, "loss", step=0)
    logger.destroy_logger_context()
    path, port = tmp_path / command.removesuffix("-ui"), free_port()
    url = f"http://127.0.0.1:{port}"
    with started(command, "--path", str(path), "--port", str(port)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{path}: {url} (Ctrl-C ends it)\n"
        assert says in fetched(f"{url}/{page}", process)
        process.send_signal(how)
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
        assert "Traceback" not in said
    # Nobody listens any more.
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.exhaustive
def test_a_server_takes_runs_in_and_another_command_ends_it(tmp_path: Path) -> None:
    pytest.importorskip("flask")
    path, port = tmp_path / "runs", free_port()
    url = f"http://127.0.0.1:{port}"
    other = refused("kill-mlflow-server", "--port", str(port))
    assert f"--port {port}: no server there that you have started" in other
    with started("mlflow-server", "--path", str(path), "--port", str(port)) as process:
        assert "MLflow" in fetched(url, process)
        logger = MLFlowLogger(savedir=tmp_path, tracking_uri=url, experiment_name="served")
        with logger.start_logging():
            logger.log(1.0, "loss", step=0)
        assert any("loss" in str(file) for file in path.rglob("metrics/*"))
        ended = CliRunner().invoke(app, ["kill-mlflow-server", "--port", str(port)])
        assert ended.exit_code == 0, ended.output
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
        assert said.endswith("ended from outside\n")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 1
    return result.output


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for command in ("mlflow-ui", "tensorboard-ui"):
        said = refused(command, "--path", str(tmp_path / "none"))
        assert f"error: --path {tmp_path / 'none'}: there is no such folder" in said


def test_a_missing_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "needs mlflow: pip install mlflow" in refused("mlflow-ui", "--path", str(tmp_path))
    said = refused("tensorboard-ui", "--path", str(tmp_path))
    assert "needs tensorboard: pip install 'itwinai[tensorboard]'" in said


def test_other_machines_see_the_page_only_with_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    port = free_port()
    arguments = ("--path", str(tmp_path), "--port", str(port), "--host", "0.0.0.0")
    with started("tensorboard-ui", *arguments) as process:
        assert process.stdout is not None
        assert f"http://0.0.0.0:{port}" in process.stdout.readline()
        assert "nobody is asked for a password" in process.stdout.readline()


@pytest.mark.parametrize(
    ("command", "needs"), [("mlflow-ui", "flask"), ("tensorboard-ui", "tensorboard")]
)
def test_a_port_that_is_taken_is_said(command: str, needs: str, tmp_path: Path) -> None:
    pytest.importorskip(needs)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = refused(command, "--path", str(tmp_path), "--port", port)
    assert f"error: --host 127.0.0.1 --port {port}: no server can listen there: Address" in said
    assert said.endswith("Give another --port, or --host.\n")
