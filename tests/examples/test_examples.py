"""Each example as a user runs it: as Python and as YAML, training once and searching."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from itwinai.hpo import load_study

pytest.importorskip("sklearn")

EXAMPLES = Path(__file__).parents[2] / "examples"
TRAINER = "training_pipeline.steps.trainer"

#: Its program, and what its last step prints.
PROGRAMS = {
    "tabular": ("tabular.py", r"model of \d+ parameters in model\.pt"),
    "timeseries": ("timeseries.py", r"Test error: 0\.\d+"),
    "text": ("text.py", "It writes: the cat "),
}


def run(folder: Path, *command: str) -> str:
    """Run Python with one thread, as a trial of one core; return what it printed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an example, in a folder of the user's own."""
    shutil.copytree(EXAMPLES / request.param, tmp_path / "example")
    return tmp_path / "example"


@pytest.mark.parametrize(
    "folder",
    ["tabular", *(pytest.param(f, marks=pytest.mark.exhaustive) for f in ("timeseries", "text"))],
    indirect=True,
)
def test_python_and_yaml_train_alike(folder: Path, request: pytest.FixtureRequest) -> None:
    program, result = PROGRAMS[request.node.callspec.params["folder"]]
    python = run(folder, program)
    yaml = run(folder, "-m", "itwinai", "exec-pipeline", "--config-name", "train")
    assert re.search(result, python)
    epochs = [line for line in python.splitlines() if line.startswith("epoch ")]
    assert len(epochs) >= 6
    assert epochs == [line for line in yaml.splitlines() if line.startswith("epoch ")]


@pytest.mark.parametrize(
    "folder",
    ["tabular", *(pytest.param(f, marks=pytest.mark.exhaustive) for f in ("timeseries", "text"))],
    indirect=True,
)
def test_a_study_ends_with_the_models_it_found(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["folder"]
    _, result = PROGRAMS[name]
    printed = run(
        folder,
        *("-m", "itwinai", "exec-pipeline", "--config-name", "study"),
        *(f"{TRAINER}.epochs=3", f"{TRAINER}.study.num_samples=3"),
        f"+{TRAINER}.study.max_concurrent_trials=1",
    )
    study = load_study(folder / "studies" / name)
    assert len(study.trials) == 3
    assert all(trial.state.value in ("completed", "stopped") for trial in study.trials)
    assert re.search(result, printed)
    if name == "tabular":
        assert study.front
        assert {objective.metric for objective in study.objectives} == {
            "validation_loss",
            "parameters",
        }


@pytest.mark.exhaustive
def test_the_study_of_a_python_program(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "timeseries", tmp_path / "example")
    run(tmp_path / "example", "timeseries.py", "--study")
    study = load_study(tmp_path / "example/studies/timeseries")
    assert len(study.trials) == 8
    assert study.best is not None
    assert study.best.metrics["validation_error"] < 0.1


@pytest.mark.exhaustive
def test_any_function_by_python_and_by_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLES / "any-function", folder)
    printed = run(folder, "train.py")
    command = ("hpo", "run", "train.py:train", "--space", "space.yaml", "--name", "command")
    run(
        folder,
        *("-m", "itwinai", *command, "--metric", "validation_accuracy", "--mode", "max"),
        *("--trials", "2"),
    )
    study, other = (load_study(folder / "studies" / name) for name in ("any-function", "command"))
    assert len(study.trials) == 12
    assert study.best is not None
    assert study.best.metrics["validation_accuracy"] > 0.9
    assert f"best: {study.best.params}" in printed
    assert [trial.params for trial in other.trials] == [trial.params for trial in study.trials[:2]]
    assert study.trials[0].history == other.trials[0].history


@pytest.mark.exhaustive
def test_deepspeed_trains_with_two_processes_alone_and_in_a_study(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLES / "deepspeed", folder)
    printed = run(
        folder,
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("-m", "itwinai", "exec-pipeline", "--config-name", "train"),
    )
    accuracies = re.findall(r"epoch \d/5 .*validation_accuracy=([\d.]+)", printed)
    assert len(accuracies) == 5
    assert float(accuracies[-1]) > 0.9
    run(
        folder,
        *("-m", "itwinai", "exec-pipeline", "--config-name", "study"),
        f"{TRAINER}.study.num_samples=2",
    )
    study = load_study(folder / "studies/tumours")
    assert [trial.state.value for trial in study.trials] == ["completed", "completed"]
    assert min(trial.metrics["validation_accuracy"] for trial in study.trials) > 0.8
