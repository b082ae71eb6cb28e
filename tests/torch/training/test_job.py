"""In a batch job that ends: what has begun goes on in the next job, and nothing is lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import make_data, options

from itwinai import job
from itwinai.hpo import load_study
from itwinai.hpo.trial import TrialState
from itwinai.torch.trainer import TorchTrainer

PROGRAM = Path(__file__).with_name("job_program.py")


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ITWINAI_")}
    return {**clean, "OMP_NUM_THREADS": "1", **variables}


def begun(folder: Path, kind: str, **variables: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(PROGRAM), kind]
    return subprocess.Popen(command, cwd=folder, env=environment(variables))


def run(folder: Path, kind: str = "training", ranks: int = 1, **variables: str) -> int:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    done = subprocess.run(
        [sys.executable, *(launcher if ranks > 1 else []), str(PROGRAM), kind],
        cwd=folder,
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode in (0, 1, job.UNFINISHED), done.stderr
    return done.returncode


def in_job(folder: Path, number: int, run: str = "chain") -> dict[str, str]:
    return {job.STOP_FILE: str(folder / f"stop-{number}"), job.RUN: run}


def trained(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "model.pt", weights_only=True)


def epochs_saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("epoch_*"))


@pytest.mark.parametrize(
    ("way", "ranks"), [("signal", 1), pytest.param("file", 2, marks=pytest.mark.exhaustive)]
)
def test_a_training_saves_its_epoch_and_goes_on_in_the_next_job(
    tmp_path: Path, way: str, ranks: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    assert run(whole, ranks=ranks) == 0
    # torchrun would call any other code a failure
    unfinished = job.UNFINISHED if ranks == 1 else 0

    assert run(parts, ranks=ranks, WAY=way, **in_job(parts, 1)) == unfinished
    assert (parts / "stop-1.met").exists()
    assert epochs_saved(parts) == ["epoch_1"]
    assert not (parts / "model.pt").exists()

    assert run(parts, ranks=ranks, **in_job(parts, 2)) == 0
    assert not (parts / "stop-2.met").exists()
    for name, value in trained(whole).items():
        assert torch.equal(trained(parts)[name], value), name


@pytest.mark.parametrize(
    ("way", "ranks"), [("signal", 1), pytest.param("file", 2, marks=pytest.mark.exhaustive)]
)
def test_a_training_ends_in_the_middle_of_a_long_epoch_and_goes_on_there(
    tmp_path: Path, way: str, ranks: int
) -> None:
    """An epoch of some seconds, of which the job asks at the begin to come to an end."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    long = {"SAMPLES": str(8 * 150 * ranks), "PAUSE": "0.01"}
    assert run(whole, ranks=ranks, **long) == 0
    unfinished = job.UNFINISHED if ranks == 1 else 0

    assert run(parts, ranks=ranks, WAY=way, **in_job(parts, 1), **long) == unfinished
    assert (parts / "stop-1.met").exists()
    (saved,) = epochs_saved(parts)
    step = int(re.fullmatch(r"epoch_1_step_(\d+)", saved)[1])
    assert step < 150, "the whole epoch has been trained"

    assert run(parts, ranks=ranks, **in_job(parts, 2), **long) == 0
    for name, value in trained(whole).items():
        assert torch.equal(trained(parts)[name], value), name


def test_a_second_training_of_a_program_is_not_the_first_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(folder: Path) -> list[float]:
        found = []
        for seed in (1, 2):
            trainer = TorchTrainer(
                **options(folder, epochs=1, checkpoint_every=1, random_seed=seed)
            )
            trainer.execute(make_data(), make_data(20))
            found.append(trainer.epoch_metrics["validation_loss"])
        return found

    outside = losses(tmp_path / "outside")
    monkeypatch.setenv(job.RUN, "chain")
    assert losses(tmp_path / "job") == outside


@pytest.mark.exhaustive
def test_what_another_run_has_saved_is_not_continued(tmp_path: Path) -> None:
    assert run(tmp_path, WAY="file", **in_job(tmp_path, 1, "first")) == job.UNFINISHED
    (tmp_path / "checkpoints" / "epoch_1").rename(tmp_path / "checkpoints" / "epoch_4")

    assert run(tmp_path, WAY="file", **in_job(tmp_path, 2, "second")) == job.UNFINISHED

    assert epochs_saved(tmp_path) == ["epoch_1", "epoch_4"]


def test_a_study_ends_with_the_job_and_goes_on_in_the_next_one(tmp_path: Path) -> None:
    assert run(tmp_path, "study", WAY="file", **in_job(tmp_path, 1)) == job.UNFINISHED
    study = tmp_path / "studies" / "study"
    (first,) = load_study(study).trials
    assert first.state is TrialState.INTERRUPTED
    assert (first.reason, len(first.history)) == ("the job ends", 2)

    assert run(tmp_path, "study", **in_job(tmp_path, 2, "another")) == 1, "it is not its study"
    assert run(tmp_path, "study", **in_job(tmp_path, 3)) == 0

    result = load_study(study)
    assert [trial.state for trial in result.trials] == [TrialState.COMPLETED] * 3
    assert [len(trial.history) for trial in result.trials] == [5] * 3
    # The first trial has saved the epoch that was not due, so none was trained twice.
    assert result.cost.epochs == 3 * 5


@pytest.mark.exhaustive
def test_a_trial_saves_in_the_middle_of_an_epoch_that_outlasts_its_job(tmp_path: Path) -> None:
    long = {"SAMPLES": str(8 * 100), "PAUSE": "0.1", "WAY": "file", "EVERY": "1"}
    with begun(tmp_path, "study", **in_job(tmp_path, 1), **long) as driver:
        trial = tmp_path / "studies" / "study" / "trials" / "00000"
        while not (saved := list(trial.glob("epoch_1_step_*"))):
            assert driver.poll() is None, "the study has ended"
            time.sleep(0.05)
        driver.kill()  # as a job's limit does
    step = int(saved[0].name.rpartition("_")[2])
    assert step < 100

    assert run(tmp_path, "study", **in_job(tmp_path, 2), **long | {"WAY": "none"}) == 0
    lines = (trial / "steps.txt").read_text().splitlines()
    steps = [tuple(map(int, line.split())) for line in lines]
    killed = steps[0][0]
    assert next(index for process, index in steps if process != killed) == step
    result = load_study(tmp_path / "studies" / "study")
    assert [trial.state for trial in result.trials] == [TrialState.COMPLETED] * 3
    assert [len(trial.history) for trial in result.trials] == [5] * 3
