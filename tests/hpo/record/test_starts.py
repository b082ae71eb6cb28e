"""How the runs of a study were started, as its record keeps it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from hand_driven import build_study, run_trial, simulate

from itwinai import job
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import keep_job, load_study, this_start
from itwinai.hpo.record.origin import JOB_FILE


def test_each_run_leaves_an_entry_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = build_study(tmp_path, num_samples=2)
    assert study.result().starts == ()
    monkeypatch.setattr(sys, "orig_argv", ["train.py", "--password", "hunter2", "--lr=0.1"])
    study.note_start(this_start())
    run_trial(study, [0.5] * 4)
    study.close()
    monkeypatch.setattr(sys, "orig_argv", ["again.py"])
    resumed = build_study(tmp_path, num_samples=2, resume=True)
    resumed.note_start(this_start())
    simulate(resumed, lambda params, epoch: {"validation_loss": params["x"]})
    first, second = load_study(study.directory).starts
    assert (first.command, second.command) == ("train.py --password '***' --lr=0.1", "again.py")
    assert b"hunter2" not in (study.directory / "record.log").read_bytes()
    assert (first.folder, first.time <= second.time) == (os.getcwd(), True)
    assert first.versions["python"] == platform.python_version()
    assert first.versions["optuna"] == version("optuna")


def test_a_package_that_the_program_has_not_loaded_has_no_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert "torch" not in this_start().versions
    monkeypatch.setitem(sys.modules, "torch", sys)
    assert this_start().versions["torch"] == version("torch")


def test_a_second_study_of_a_program_is_none_that_its_job_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(job.RUN, "chain")
    study = build_study(tmp_path, num_samples=1)
    keep_job(study.directory)
    run_trial(study, [0.5] * 4)
    study.close()
    with pytest.raises(StudyError, match="exists already"):
        build_study(tmp_path, num_samples=1)
    kept = study.directory / JOB_FILE
    kept.write_text(kept.read_text().replace("\n", "\nanother program: ", 1))
    build_study(tmp_path, num_samples=1).close()
    kept.write_text("chain\n")  # by an earlier version
    build_study(tmp_path, num_samples=1).close()
    kept.write_text("another\n")
    with pytest.raises(StudyError, match="exists already"):
        build_study(tmp_path, num_samples=1)
