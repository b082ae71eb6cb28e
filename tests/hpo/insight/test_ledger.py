"""What studies have spent, by their records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hand_driven import build_study, simulate
from typer.testing import CliRunner

from itwinai.cli import app
from itwinai.hpo.insight import ledger, total
from itwinai.hpo.record import load_study
from itwinai.hpo.record.attributes import Setup

SAMPLES = Path(__file__).parents[2] / "samples"


def spend(folder: Path, name: str, workers: int, **per_worker: float) -> float:
    """Run a study and return the hours of its trials."""
    study = build_study(folder, epochs=2, name=name, num_samples=3)
    study.note_setup(Setup("random", "none", slots=2, workers=workers, per_worker=per_worker))
    simulate(study, lambda params, epoch: {"validation_loss": params["x"]})
    return study.close().cost.seconds / 3600


def test_hours_are_those_that_trials_held(tmp_path: Path) -> None:
    one = spend(tmp_path, "one", 1, CPU=0.5)
    two = spend(tmp_path, "two", 2, CPU=4, GPU=1)
    spent = ledger(tmp_path)
    assert [path.name for path in spent] == ["one", "two"]
    first, second = spent.values()
    assert (first.trials, first.epochs, first.gpu_hours) == (3, 6, 0)
    assert first.core_hours == pytest.approx(0.5 * one)
    assert second.core_hours == pytest.approx(8 * two)
    assert second.gpu_hours == pytest.approx(2 * two)
    both = total(spent.values())
    assert (both.studies, both.trials, both.unknown) == (2, 6, 0)
    assert both.core_hours == pytest.approx(0.5 * one + 8 * two)


def test_a_record_that_does_not_tell_what_trials_got_is_said_to_be_unknown(tmp_path: Path) -> None:
    spend(tmp_path, "known", 1, CPU=1)
    study = build_study(tmp_path, epochs=2, name="older", num_samples=1)
    simulate(study, lambda params, epoch: {"validation_loss": params["x"]})
    study.close()
    assert load_study(tmp_path / "older").setup is None
    assert total(ledger(tmp_path).values()).unknown == 1
    shown = CliRunner().invoke(app, ["hpo", "ledger", str(tmp_path)]).stdout.splitlines()
    ends = {line.split()[0]: line.split()[-2:] for line in shown if " " in line.strip()}
    assert ends["study"] == ["core-hours", "GPU-hours"]
    assert [ends[name] for name in (str(tmp_path / "older"), "all")] == [["?", "?"]] * 2
    assert ends[str(tmp_path / "known")] != ["?", "?"]
    plain = json.loads(CliRunner().invoke(app, ["hpo", "ledger", str(tmp_path), "--json"]).stdout)
    assert (plain["total"]["trials"], plain["total"]["unknown"]) == (4, 1)
