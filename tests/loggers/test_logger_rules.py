"""Which worker logs, how often, and what a context means; for every logger."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.loggers import (
    ConsoleLogger,
    EmptyLogger,
    Logger,
    LoggersCollection,
    MLFlowLogger,
    WandBLogger,
)

ALL = [EmptyLogger, ConsoleLogger, MLFlowLogger]


@pytest.fixture
def warnings_seen(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(itwinai.logger, "propagate", True)
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.mark.parametrize(
    ("workers", "rank", "logs"),
    [
        (0, 0, True),
        (0, 1, False),
        (2, 2, True),
        (-1, 7, True),
        ([0, 3], 3, True),
        ([0, 3], 1, False),
    ],
)
def test_only_the_chosen_workers_log(
    workers: int | list[int],
    rank: int,
    logs: bool,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    logger = ConsoleLogger(savedir=tmp_path, log_on_workers=workers)
    with logger.start_logging(rank=rank):
        logger.log(0.5, "loss")
        logger.save_hyperparameters({"lr": 0.1})
        assert logger.should_log() is logs
    assert ("loss = 0.5" in capsys.readouterr().out) is logs
    assert (tmp_path / "simple-logger").exists() is logs


@pytest.mark.parametrize(
    ("log_freq", "expected"),
    [("epoch", []), ("batch", [0, 1, 2, 3, 4, 5, 6]), (1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6])],
)
def test_the_frequency_selects_batches_and_never_drops_values_of_epochs(
    log_freq: int | str, expected: list[int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    logger = ConsoleLogger(savedir=tmp_path, log_freq=log_freq)  # type: ignore[arg-type]
    with logger.start_logging():
        for batch in range(7):
            logger.log(batch, "batch", batch_idx=batch)
        logger.log(1, "epoch")
    lines = [f"ConsoleLogger: batch = {batch}" for batch in expected]
    assert capsys.readouterr().out.splitlines() == [*lines, "ConsoleLogger: epoch = 1"]


@pytest.mark.parametrize("wrong", [0, -3, "never", True, None, 1.5])
def test_a_wrong_frequency_is_refused_at_once_and_when_set_later(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"log_freq.*'epoch', 'batch' or a number above zero"):
        ConsoleLogger(log_freq=wrong)  # type: ignore[arg-type]
    logger = ConsoleLogger(log_freq=2)
    with pytest.raises(ValueError, match="log_freq"):
        logger.log_freq = wrong  # type: ignore[assignment]
    assert logger.log_freq == 2


@pytest.mark.parametrize("wrong", [True, False, None, "0", -2, 0.5, [0, True], [0, "1"]])
def test_wrong_workers_are_refused_at_once_and_when_set_later(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"log_on_workers is .* -1 for all"):
        ConsoleLogger(log_on_workers=wrong)
    logger = ConsoleLogger(log_on_workers=[0, 2])
    with pytest.raises(ConfigurationError, match="log_on_workers"):
        logger.log_on_workers = wrong
    assert [logger.logs_on(rank) for rank in range(3)] == [True, False, True]


@pytest.mark.parametrize(
    ("kind", "option", "wrong"),
    [
        (ConsoleLogger, "log_checkpoints", "best"),
        (WandBLogger, "offline_mode", None),
        (MLFlowLogger, "run_name", 20261130),
        (MLFlowLogger, "experiment_name", 1.1),
    ],
)
def test_a_value_that_would_be_taken_for_another_is_refused(
    kind: Any, option: str, wrong: Any
) -> None:
    with pytest.raises(ConfigurationError, match=f"{kind.__name__}.{option}={wrong!r}: expected"):
        kind(**{option: wrong})


@pytest.mark.parametrize("make", [ConsoleLogger, MLFlowLogger, lambda: LoggersCollection([])])
def test_a_use_outside_of_the_context_is_an_error(make: type[Logger]) -> None:
    logger = make()
    uses = (
        lambda: logger.log(1, "loss"),
        lambda: logger.save_hyperparameters({}),
        logger.destroy_logger_context,
    )
    for use in uses:
        with pytest.raises(RuntimeError, match="has not been initialized"):
            use()


def test_the_empty_logger_accepts_everything_at_any_time(tmp_path: Path) -> None:
    logger = EmptyLogger(savedir=tmp_path / "none", log_freq="batch", log_on_workers=-1)
    logger.destroy_logger_context()
    logger.log(1, "loss", batch_idx=0)
    with logger.start_logging():
        logger.log(object(), "x", kind="nonsense")
        logger.save_hyperparameters({"lr": 1})
    assert not (tmp_path / "none").exists()


def test_a_second_context_is_skipped_with_one_warning(
    warnings_seen: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    logger = ConsoleLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.create_logger_context()
    message = "Trying to initialize ConsoleLogger twice.. Skipping initialization."
    assert [record.getMessage() for record in warnings_seen.records] == [message]
    assert len(list((tmp_path / "simple-logger").iterdir())) == 1


def test_the_context_ends_with_the_block_even_by_an_exception(tmp_path: Path) -> None:
    logger = ConsoleLogger(savedir=tmp_path)
    assert not logger.is_initialized
    open_inside = []
    with pytest.raises(ZeroDivisionError), logger.start_logging(rank=0):  # noqa: PT012
        open_inside.append(logger.is_initialized)
        1 / 0  # noqa: B018
    assert open_inside == [True]
    assert not logger.is_initialized


def test_a_users_own_logger_need_not_know_of_a_status(tmp_path: Path) -> None:
    class Own(Logger):
        def destroy_logger_context(self) -> None:  # type: ignore[override]
            super().destroy_logger_context()

    logger = Own(tmp_path)
    with pytest.raises(ZeroDivisionError), logger.start_logging():
        1 / 0  # noqa: B018
    assert not logger.is_initialized


def test_an_object_is_serialized_below_the_save_folder(tmp_path: Path) -> None:
    path = ConsoleLogger(savedir=tmp_path).serialize({"a": 1}, "deep/object.pkl")
    assert path == str(tmp_path / "deep/object.pkl")
    assert pickle.loads(Path(path).read_bytes()) == {"a": 1}


@pytest.mark.parametrize("kind", ALL)
def test_a_logger_travels_to_another_process(kind: type[Logger], tmp_path: Path) -> None:
    logger = pickle.loads(pickle.dumps(kind(savedir=tmp_path, log_freq=4, log_on_workers=[0, 2])))
    assert (logger.log_freq, logger.log_on_workers, logger.savedir) == (4, [0, 2], tmp_path)


def test_a_users_own_logger_needs_only_the_public_methods() -> None:
    class Remembering(Logger):
        def __init__(self) -> None:
            super().__init__(log_freq=2, log_on_workers=-1)
            self.seen: list[object] = []

        def log(
            self,
            item: object,
            identifier: str,
            *_: object,
            batch_idx: int | None = None,
            **__: object,
        ) -> None:  # type: ignore[override]
            if self.should_log(batch_idx):
                self.seen.append((identifier, item))

        def save_hyperparameters(self, params: object) -> None:  # type: ignore[override]
            self.seen.append(params)

        def destroy_logger_context(self) -> None:  # type: ignore[override]
            self.seen.append("closed")

    logger = Remembering()
    with LoggersCollection([logger]).start_logging():
        logger.save_hyperparameters({"lr": 1})
        logger.log(0, "a", batch_idx=1)
        logger.log(1, "b", batch_idx=2)
    assert logger.seen == [{"lr": 1}, ("b", 1), "closed"]


def test_importing_the_package_loads_no_back_end() -> None:
    code = (
        "import sys; from itwinai.loggers import MLFlowLogger; MLFlowLogger(); "
        "print({'mlflow', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
