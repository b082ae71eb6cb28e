"""One logger made of several; a failing one costs only its own records."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import itwinai
from itwinai.errors import MissingPackageError
from itwinai.loggers import (
    ConsoleLogger,
    EmptyLogger,
    Logger,
    LoggersCollection,
    MLFlowLogger,
    get_mlflow_logger,
)


class BrokenLogger(Logger):
    """Fails in the methods it is told to."""

    def __init__(self, *broken: str, error: type[Exception] = ConnectionError) -> None:
        super().__init__(log_on_workers=-1)
        self.broken, self.error = broken, error

    def _maybe(self, method: str) -> None:
        if method in self.broken:
            raise self.error(f"no route in {method}")

    def _open(self, **kwargs: Any) -> None:
        self._maybe("open")

    def _close(self, status: str) -> None:
        self._maybe("close")

    def _write_hyperparameters(self, params: Any) -> None:
        self._maybe("hyperparameters")

    def log(self, item: Any, identifier: str, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        self._maybe("log")


@pytest.fixture
def warnings_seen(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(itwinai.logger, "propagate", True)
    caplog.set_level(logging.WARNING)
    return caplog


def test_every_logger_gets_everything_under_its_own_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Other(ConsoleLogger):
        pass

    collection = LoggersCollection(
        [ConsoleLogger(tmp_path / "a", log_freq=2), Other(tmp_path / "b", log_on_workers=1)]
    )
    with collection.start_logging(rank=1):
        collection.log(1, "loss", batch_idx=1)
    with collection.start_logging(rank=0):
        collection.log(2, "loss", batch_idx=1)
        collection.log(3, "loss", batch_idx=2)
        collection.save_hyperparameters({"lr": 1})
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["ConsoleLogger: loss = 3"]
    assert (tmp_path / "a/simple-logger/0/hyperparameters.json").exists()
    assert [path.name for path in (tmp_path / "b/simple-logger").iterdir()] == ["0"]


def test_two_loggers_of_one_type_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one logger of type ConsoleLogger"):
        LoggersCollection([ConsoleLogger("a"), EmptyLogger(), ConsoleLogger("b")])


def test_a_failing_logger_is_counted_warned_about_once_and_survived(
    tmp_path: Path,
    warnings_seen: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    collection = LoggersCollection([BrokenLogger("log"), ConsoleLogger(tmp_path)])
    with collection.start_logging():
        for value in range(3):
            collection.log(value, "loss")
    assert collection.failures == {"BrokenLogger": 3, "ConsoleLogger": 0}
    (record,) = warnings_seen.records
    assert "BrokenLogger could not log 'loss'" in record.getMessage()
    assert "ConnectionError: no route in log" in record.getMessage()
    assert capsys.readouterr().out.count("ConsoleLogger: loss") == 3


@pytest.mark.parametrize("method", ["open", "close", "hyperparameters"])
def test_a_logger_may_fail_in_any_method(method: str, tmp_path: Path) -> None:
    console = ConsoleLogger(tmp_path)
    collection = LoggersCollection([BrokenLogger(method), console])
    with collection.start_logging():
        collection.save_hyperparameters({"lr": 1})
        assert console.is_initialized
    assert collection.failures["BrokenLogger"] >= 1
    assert not console.is_initialized


def test_the_users_exception_is_the_one_that_arrives() -> None:
    collection = LoggersCollection([BrokenLogger("close")])
    with pytest.raises(ZeroDivisionError), collection.start_logging():
        1 / 0  # noqa: B018
    assert collection.failures == {"BrokenLogger": 1}


def test_a_missing_package_is_a_mistake_to_correct_not_a_failure(tmp_path: Path) -> None:
    console = ConsoleLogger(tmp_path)
    collection = LoggersCollection([console, BrokenLogger("open", error=MissingPackageError)])
    with pytest.raises(MissingPackageError), collection.start_logging():
        pytest.fail("the context must not open")
    assert not console.is_initialized
    assert collection.failures["BrokenLogger"] == 0


def test_the_mlflow_logger_is_found(tmp_path: Path) -> None:
    mlflow_logger = MLFlowLogger(tmp_path)
    assert get_mlflow_logger(mlflow_logger) is mlflow_logger
    assert get_mlflow_logger(LoggersCollection([EmptyLogger(), mlflow_logger])) is mlflow_logger
    assert get_mlflow_logger(LoggersCollection([EmptyLogger()])) is None
    assert get_mlflow_logger(None) is None
