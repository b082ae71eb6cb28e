"""Metrics go to standard output; everything else to a numbered folder."""

from __future__ import annotations

import io
import json
import pickle
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from itwinai.loggers import ConsoleLogger, py_logger


def test_a_metric_is_one_line_on_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = ConsoleLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.log(0.25, "train_loss", step=3)
    assert capsys.readouterr().out == "ConsoleLogger: train_loss = 0.25\n"


def test_the_line_follows_a_redirected_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger, trial_log = ConsoleLogger(savedir=tmp_path), io.StringIO()
    with logger.start_logging():
        with redirect_stdout(trial_log):
            logger.log(1, "inside")
        logger.log(2, "outside")
    assert trial_log.getvalue() == "ConsoleLogger: inside = 1\n"
    assert capsys.readouterr().out == "ConsoleLogger: outside = 2\n"


def test_the_line_is_a_message_of_the_packages_logger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(py_logger, "info", messages.append)
    logger = ConsoleLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.log(1, "loss")
    assert messages == ["ConsoleLogger: loss = 1"]


def test_each_context_has_its_own_numbered_folder(tmp_path: Path) -> None:
    logger = ConsoleLogger(savedir=tmp_path)
    for learning_rate in (0.1, 0.2):
        with logger.start_logging():
            logger.save_hyperparameters({"lr": learning_rate, "path": Path("x")})
    folders = sorted((tmp_path / "simple-logger").iterdir())
    assert [folder.name for folder in folders] == ["0", "1"]
    written = [json.loads((folder / "hyperparameters.json").read_text()) for folder in folders]
    assert written == [{"lr": 0.1, "path": "x"}, {"lr": 0.2, "path": "x"}]


def test_a_new_folder_comes_after_the_highest_number(tmp_path: Path) -> None:
    for name in ("9", "10", "notes"):
        (tmp_path / "simple-logger" / name).mkdir(parents=True)
    with ConsoleLogger(savedir=tmp_path).start_logging():
        pass
    assert (tmp_path / "simple-logger" / "11").is_dir()


def test_files_folders_and_objects_become_artifacts(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.txt").write_text("hello")
    logger = ConsoleLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.log(str(tmp_path / "source" / "a.txt"), "deep/copy.txt", kind="artifact")
        logger.log(tmp_path / "source", "folder", kind="artifact")
        logger.log([1, 2], "list.pkl", kind="artifact")
    run = tmp_path / "simple-logger" / "0"
    assert (run / "deep/copy.txt").read_text() == "hello"
    assert (run / "folder/a.txt").read_text() == "hello"
    assert pickle.loads((run / "list.pkl").read_bytes()) == [1, 2]


def test_tensors_are_saved_with_torch(tmp_path: Path) -> None:
    logger = ConsoleLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.log({"w": torch.arange(3)}, "weights.pt", kind="torch")
    loaded = torch.load(tmp_path / "simple-logger/0/weights.pt", weights_only=True)
    assert loaded["w"].tolist() == [0, 1, 2]


def test_other_kinds_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = ConsoleLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.log("ddp", "strategy", kind="param")
    assert "param" not in logger.supported_kinds
    assert capsys.readouterr().out == ""
    assert list((tmp_path / "simple-logger" / "0").iterdir()) == []
