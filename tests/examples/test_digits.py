"""The digits example, as a user runs it: from the command line, in a folder of the user's own."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from itwinai.hpo import load_study
from itwinai.hpo.trial import TrialState

pytest.importorskip("sklearn")

from sklearn.datasets import load_digits

EXAMPLE = Path(__file__).parents[2] / "examples/digits"
TRAINER = "training_pipeline.steps.trainer"


def itwinai(folder: Path, *arguments: str) -> str:
    """Run the command, with one thread as in a trial of one core; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "itwinai", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def accuracy_in(printed: str) -> float:
    """What the report says; it is on the 360 images that nobody has trained with."""
    (accuracy,) = re.findall(r"^Test accuracy: (\d\.\d{4}) on 360 images$", printed, re.MULTILINE)
    return float(accuracy)


def test_the_training(tmp_path: Path) -> None:
    printed = itwinai(
        tmp_path, "exec-pipeline", "--config-path", str(EXAMPLE), "--config-name", "train"
    )
    assert accuracy_in(printed) > 0.85
    assert len(re.findall(r"^epoch \d+/12  .*validation_accuracy=", printed, re.MULTILINE)) == 12
    rows = re.findall(r"^  \d((?: +(?:\.|\d+)){10})$", printed, re.MULTILINE)
    assert len(rows) == 10
    assert sum(int(count) for row in rows for count in re.findall(r"\d+", row)) == 360
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_the_study_and_the_command_that_trains_its_best_again(tmp_path: Path) -> None:
    printed = itwinai(
        tmp_path,
        *("exec-pipeline", "--config-path", str(EXAMPLE), "--config-name", "study"),
        f"{TRAINER}.epochs=3",
        f"{TRAINER}.study.num_samples=4",
        f"{TRAINER}.study.scheduler.grace_period=1",
        f"+{TRAINER}.study.max_concurrent_trials=1",
        f"+{TRAINER}.study.resources_per_worker={{CPU: 1}}",
    )
    result = load_study(tmp_path / "studies/digits")
    best = result.best
    assert best is not None
    assert len(result.trials) == 4
    assert {trial.state for trial in result.trials} <= {TrialState.COMPLETED, TrialState.STOPPED}
    assert result.trials[0].is_default
    accuracy = accuracy_in(printed)
    assert f"validation_accuracy={best.metrics['validation_accuracy']:.4g} after 3" in printed

    itwinai(tmp_path, "exec-pipeline", "--config-path", str(EXAMPLE), "--config-name", "predict")
    rows = (tmp_path / "predictions.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1797))
    labels = load_digits().target
    predicted = [int(row.split(",")[1]) for row in rows]
    right = sum(int(a == b) for a, b in zip(predicted, labels, strict=True)) / 1797
    assert right == pytest.approx(accuracy_in(printed), abs=0.1)

    lines = printed.splitlines()
    hint = lines.index(f"To train the best configuration of '{TRAINER}':")
    program, *arguments = shlex.split(lines[hint + 1])
    assert program == "itwinai"
    again = itwinai(tmp_path, *arguments)
    # The same numbers as the trial's, in all the digits that are printed: the same seed, the same
    # number of threads. The report is on the same model, which was the last one's in both.
    told = re.findall(r"^epoch \d/3  (.*)$", again, re.MULTILINE)
    shown = [dict(pair.split("=") for pair in line.split("  ")) for line in told]
    assert shown == [
        {name: f"{value:.4g}" for name, value in metrics.items()} for metrics in best.history
    ]
    assert accuracy_in(again) == accuracy


def test_from_training_to_study_there_are_at_most_12_changed_lines() -> None:
    train, study = (
        (EXAMPLE / f"{name}.yaml").read_text().splitlines() for name in ("train", "study")
    )
    changed = [line for line in difflib.ndiff(train, study) if line.startswith(("+ ", "- "))]
    assert 0 < len(changed) <= 12
