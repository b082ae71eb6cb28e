"""What the logger writes without any network, read back from W&B's own files."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from offline_runs import runs_in

from itwinai.errors import ConfigurationError, MissingPackageError
from itwinai.loggers import BASE_EXP_NAME, WandBLogger

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    # Whatever does use the network fails at once.
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()


def offline(folder: Path, **options: Any) -> WandBLogger:
    return WandBLogger(savedir=folder, offline_mode=True, **options)


def test_metrics_params_and_status_are_in_the_file(tmp_path: Path) -> None:
    logger = offline(tmp_path, project_name="digits")
    with logger.start_logging():
        logger.save_hyperparameters({"lr": 0.1, "layers": [1, 2], "none": None})
        logger.log("ddp", "strategy", kind="param")
        for step, loss in enumerate((0.5, torch.tensor(0.25))):
            logger.log(loss, "loss", step=step)
        logger.log(3.0, "epoch_loss", step=0)
        assert wandb.run is logger.active_run
    (run,) = runs_in(tmp_path)
    assert (run.project, run.id, run.exit_code) == ("digits", logger.run_id, 0)
    assert run.config == {"lr": 0.1, "layers": [1, 2], "none": None, "strategy": "ddp"}
    assert run.history == [
        {"loss": 0.5, "step": 0},
        {"loss": 0.25, "step": 1},
        {"epoch_loss": 3.0, "step": 0},
    ]
    assert run.summary["end_state"] == "FINISHED"
    assert (wandb.run, logger.active_run) == (None, None)


def test_any_name_is_kept(tmp_path: Path) -> None:
    names = ("mAP@50 (val) %", "F1 [macro]", "acc/train", "präzision", "a.b", "x" * 300)
    logger = offline(tmp_path)
    with logger.start_logging():
        logger.save_hyperparameters(dict.fromkeys(names, 1))
        for name in names:
            logger.log(0.5, name, step=0)
    (run,) = runs_in(tmp_path)
    assert run.config == dict.fromkeys(names, 1)
    assert run.history == [{name: 0.5, "step": 0} for name in names]


@pytest.mark.parametrize(("status", "code"), [("FAILED", 1), ("KILLED", 255)])
def test_the_end_is_in_the_file(status: str, code: int, tmp_path: Path) -> None:
    logger = offline(tmp_path)
    logger.create_logger_context()
    logger.destroy_logger_context(status)
    (run,) = runs_in(tmp_path)
    assert (run.exit_code, run.summary["end_state"]) == (code, status)


def test_a_trial_is_one_of_its_studys_group(tmp_path: Path) -> None:
    for number in range(2):
        logger = offline(tmp_path)
        logger.create_logger_context(
            run_name=f"trial-{number}", group="study", tags={"itwinai.trial": str(number)}
        )
        logger.destroy_logger_context()
    runs = runs_in(tmp_path)
    assert {(run.name, run.group, *run.tags) for run in runs} == {
        (f"trial-{number}", "study", f"itwinai.trial:{number}") for number in range(2)
    }
    assert [run.project for run in runs] == [BASE_EXP_NAME] * 2


def test_a_continued_run_keeps_its_id(tmp_path: Path) -> None:
    for run_id in (None, "abc123"):
        logger = offline(tmp_path)
        logger.create_logger_context(run_id=run_id)
        logger.destroy_logger_context()
    assert {run.id for run in runs_in(tmp_path)} >= {"abc123"}


def test_other_kinds(tmp_path: Path) -> None:
    figure = pytest.importorskip("matplotlib.pyplot").figure()
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 4))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.txt").write_text("hello")
    model, logger = torch.nn.Linear(2, 1), offline(tmp_path)
    with logger.start_logging():
        logger.log(model, "model", kind="watch", log="gradients", log_freq=1)
        model(torch.ones(1, 2)).sum().backward()
        logger.log("hello", "note", kind="text")
        logger.log({"a": 1}, "table", kind="dict")
        logger.log(image, "sample", kind="image", step=2)
        logger.log(figure, "curve", kind="figure")
        logger.log(tmp_path / "folder/a.txt", "files/a.txt", kind="artifact")
        logger.log(tmp_path / "folder", "folder", kind="artifact")
        logger.log([1, 2], "list.pkl", kind="artifact")
        logger.log({"w": torch.arange(3)}, "weights.pt", kind="torch")
        logger.log(object(), "unknown", kind="nonsense")
    (run,) = runs_in(tmp_path)
    history = {name: value for row in run.history for name, value in row.items()}
    assert (history["note"], history["step"]) == ("hello", 2)
    assert history["table.a"] == 1
    assert history["sample._type"] == history["curve._type"] == "image-file"
    assert any(name.startswith("gradients/") for name in history)
    assert run.artifacts == ["files-a.txt", "folder", "list.pkl", "weights.pt"]
    assert "unknown" not in history


def test_a_run_that_the_user_opened_stays_the_users(tmp_path: Path) -> None:
    with wandb.init(project="own", dir=str(tmp_path / "own"), mode="offline") as own:
        logger = offline(tmp_path)
        with logger.start_logging():
            logger.log(1.0, "loss")
            assert logger.run_id != own.id
        assert wandb.run is own
        own.log({"mine": 2.0})
    (run,) = runs_in(tmp_path)
    assert run.history == [{"loss": 1.0}]


def test_the_environment_can_say_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with WandBLogger(savedir=tmp_path).start_logging():
        pass
    assert len(runs_in(tmp_path)) == 1


def test_a_missing_key_is_an_error_and_no_question(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no API key.*offline_mode=True"):
        WandBLogger(savedir=tmp_path).create_logger_context()
    # Also where somebody sits at a terminal who could be asked.
    terminal, side = pty.openpty()
    code = f"from itwinai.loggers import WandBLogger; WandBLogger({str(tmp_path)!r})"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}.create_logger_context()"],
        stdin=side,
        stdout=side,
        stderr=side,
        env={**os.environ, "WANDB_SILENT": "false", "TERM": "xterm"},
        timeout=120,
    )
    os.close(side)
    said = b""
    while b"no API key of W&B" not in said:
        said += os.read(terminal, 65536)
    os.close(terminal)
    assert process.returncode == 1


def test_other_workers_open_no_run(tmp_path: Path) -> None:
    logger = offline(tmp_path)
    with logger.start_logging(rank=1):
        logger.log(1.0, "loss")
    assert list(tmp_path.glob("wandb/*")) == []


def test_a_missing_wandb_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger = WandBLogger(savedir=tmp_path)
    for use in (logger.create_logger_context, logger.check_package):
        with pytest.raises(MissingPackageError, match=r"pip install 'itwinai\[wandb\]'"):
            use()


@pytest.mark.skipif(
    "finish_timeout" not in wandb.Settings.model_fields, reason="this wandb has no such setting"
)
def test_the_end_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with offline(tmp_path / "a").start_logging():
        assert wandb.run.settings.finish_timeout == 10
    with offline(tmp_path / "b", close_timeout_s=0.5).start_logging():
        assert wandb.run.settings.finish_timeout == 0.5
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "77")
    wandb.teardown()  # it reads the environment once
    with offline(tmp_path / "c").start_logging():
        assert wandb.run.settings.finish_timeout == 77
    with pytest.raises(ConfigurationError, match="close_timeout_s is 0"):
        offline(tmp_path, close_timeout_s=0)
