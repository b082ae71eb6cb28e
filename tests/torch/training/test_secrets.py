"""Secrets of the environment stand in no checkpoint, no tracking service and no message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_trainings import MLP, MemoryLogger, make_data, options

from itwinai.errors import text_of
from itwinai.loggers import MLFlowLogger
from itwinai.torch.inference import TorchModelLoader
from itwinai.torch.trainer import TorchTrainer

TOKEN = "canary-0123456789"
SETTINGS: dict[str, Any] = {
    "data_url": f"https://data.example/{TOKEN}/set",
    "services": {"access": TOKEN, "database": "postgres://bob:hunter2@db.example/runs"},
    "db_password": "hunter2",
    "pad_token": "<pad>",
    "n_tokens": 5,
}


class Network(MLP):
    """A model that is told secrets."""

    def __init__(
        self, data_url: str, db_password: str, services: Any, pad_token: str, n_tokens: int
    ) -> None:
        super().__init__()
        self.told = (data_url, db_password)


@pytest.fixture
def logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryLogger:
    """Of a training whose configuration came from an environment with secrets."""
    monkeypatch.setenv("MY_DATA_TOKEN", TOKEN)
    logger = MemoryLogger()
    settings = options(tmp_path, epochs=1, checkpoint_every=1, config=SETTINGS, logger=logger)
    TorchTrainer(**{**settings, "model": Network}).execute(make_data(20))
    return logger


def test_a_logger_is_told_no_secret(logger: MemoryLogger) -> None:
    params = logger.hyper_parameters
    assert params["data_url"] == "https://data.example/${oc.env:MY_DATA_TOKEN}/set"
    assert params["services"] == {
        "access": "${oc.env:MY_DATA_TOKEN}",
        "database": "postgres://***@db.example/runs",
    }
    assert params["db_password"] == "***"
    assert (params["pad_token"], params["n_tokens"]) == ("<pad>", 5)


@pytest.mark.usefixtures("logger")
def test_a_checkpoint_holds_no_secret_of_the_environment_and_finds_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (tmp_path / "checkpoints").rglob("*"):
        assert file.is_dir() or TOKEN.encode() not in file.read_bytes()
    monkeypatch.setenv("MY_DATA_TOKEN", "another-one")
    model: Any = TorchModelLoader(tmp_path / "checkpoints/epoch_0", Network)()
    assert model.told == ("https://data.example/another-one/set", "hunter2")


def test_a_message_names_no_password() -> None:
    error = OSError("http://bob:hunter2@host:5000/api refused; see https://host/a@b and a:b@c")
    told = "http://***@host:5000/api refused; see https://host/a@b and a:b@c"
    assert text_of(error) == told


def test_what_is_told_of_a_server_names_no_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow")
    nowhere = "http://bob:hunter2@127.0.0.1:9"
    logger = MLFlowLogger(savedir=tmp_path, tracking_uri=nowhere, close_timeout_s=1.0)
    TorchTrainer(**options(tmp_path, epochs=1, logger=logger)).execute(make_data(20))
    assert "itwinai loggers sync" in caplog.text
    assert "hunter2" not in caplog.text
