"""What studies have spent, by their records."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hand_driven import ask, build_study, report, simulate
from typer.testing import CliRunner

from itwinai.cli import app
from itwinai.hpo.insight import ledger, total
from itwinai.hpo.insight.spending import CORE_WATTS, GPU_WATTS
from itwinai.hpo.record import StudyResult, load_study, this_start
from itwinai.hpo.record.attributes import Setup
from itwinai.hpo.trial import TrialState

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


def test_each_run_is_charged_what_its_own_trials_held(tmp_path: Path) -> None:
    def run(workers: int, trials: int, resume: bool = False) -> StudyResult:
        study = build_study(tmp_path, epochs=2, num_samples=trials, resume=resume)
        study.note_setup(Setup("random", "none", workers=workers, per_worker={"CPU": 4, "GPU": 1}))
        simulate(study, lambda params, epoch: {"validation_loss": params["x"]})
        return study.close()

    run(1, trials=2)
    run(2, trials=3, resume=True)
    hours = [attempt.seconds / 3600 for attempt in run(1, trials=4, resume=True).attempts]
    (spent,) = ledger(tmp_path).values()
    gpus = hours[0] + hours[1] + 2 * hours[2] + hours[3]
    assert spent.gpu_hours == pytest.approx(gpus)
    assert spent.core_hours == pytest.approx(4 * gpus)
    assert spent.estimated_kwh == pytest.approx(gpus * (4 * CORE_WATTS + GPU_WATTS) / 1000)


def test_a_record_that_does_not_tell_what_trials_got_is_said_to_be_unknown(tmp_path: Path) -> None:
    spend(tmp_path, "known", 1, CPU=1)
    study = build_study(tmp_path, epochs=2, name="older", num_samples=1)
    simulate(study, lambda params, epoch: {"validation_loss": params["x"]})
    study.close()
    assert load_study(tmp_path / "older").setup is None
    assert total(ledger(tmp_path).values()).unknown == 1
    shown = CliRunner().invoke(app, ["hpo", "ledger", str(tmp_path)]).stdout.splitlines()
    ends = {line.split()[0]: line.split()[5:7] for line in shown if " " in line.strip()}
    assert ends["study"] == ["core-hours", "GPU-hours"]
    assert [ends[name] for name in (str(tmp_path / "older"), "all")] == [["?", "?"]] * 2
    assert ends[str(tmp_path / "known")] != ["?", "?"]
    plain = json.loads(CliRunner().invoke(app, ["hpo", "ledger", str(tmp_path), "--json"]).stdout)
    assert (plain["total"]["trials"], plain["total"]["unknown"]) == (4, 1)


def test_energy_that_was_measured_stays_apart_from_what_is_estimated(tmp_path: Path) -> None:
    study = build_study(tmp_path, epochs=1, name="one", num_samples=3)
    study.note_setup(Setup("random", "none", slots=1, workers=2, per_worker={"CPU": 4, "GPU": 1}))
    for sources in [{"RAPL": 3.6e6, "NVML": 7.2e6}, {"NVML": 3.6e6}, {}]:
        trial = ask(study)
        study.note_energy(trial.number, 1.0, {key: joules / 2 for key, joules in sources.items()})
        study.note_energy(trial.number, 1.0, sources)  # of the same process
        report(study, trial, [0.5])
        study.tell(trial.number, TrialState.COMPLETED)
    result = study.close()
    assert [dict(trial.energy) for trial in result.trials] == [
        {"RAPL": 3.6e6, "NVML": 7.2e6},
        {"NVML": 3.6e6},
        {},
    ]
    (spent,) = ledger(tmp_path).values()
    assert (spent.rapl_kwh, spent.nvml_kwh) == (1, 3)
    hours = [attempt.seconds / 3600 for attempt in result.attempts]
    processors = (hours[1] + hours[2]) * 2 * 4 * CORE_WATTS
    assert spent.estimated_kwh == pytest.approx((processors + hours[2] * 2 * GPU_WATTS) / 1000)
    shown = CliRunner().invoke(app, ["hpo", "ledger", str(tmp_path)]).stdout
    assert re.search("kWh by RAPL +kWh by NVML +kWh estimated", shown)


def test_energy_of_a_trial_that_several_processes_trained_adds_up(tmp_path: Path) -> None:
    study = build_study(tmp_path, epochs=3, num_samples=1)
    trial = ask(study)
    study.note_energy(trial.number, 1.0, {"RAPL": 20.0, "NVML": 5.0})
    report(study, trial, [0.5])
    study.note_energy(trial.number, 2.0, {"RAPL": 1.0})  # in a process that is lost no GPU is seen
    study.tell(trial.number, TrialState.INTERRUPTED)
    study.close()
    resumed = build_study(tmp_path, epochs=3, num_samples=1, resume=True)
    again = ask(resumed)
    resumed.note_energy(again.number, 3.0, {"RAPL": 4.0, "NVML": 1.0})
    report(resumed, again, [0.5, 0.4, 0.3])
    resumed.tell(again.number, TrialState.COMPLETED)
    assert dict(resumed.close().trials[0].energy) == {"RAPL": 25.0}


def test_slurm_is_asked_once_for_each_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's batch step measures the nodes of its other steps once more."""
    for name, job in [("one", "12"), ("two", "12"), ("three", "13")]:
        monkeypatch.setenv("SLURM_JOB_ID", job)
        study = build_study(tmp_path / "studies", epochs=1, name=name, num_samples=1)
        study.note_start(this_start())
        simulate(study, lambda params, epoch: {"validation_loss": params["x"]})
    rows = ["12|0", "12.batch|1800000", "12.extern|3600000", "12.0|3500000", "13|", "13.batch|0"]
    tool = tmp_path / "sacct"
    tool.write_text(f"#!/bin/sh\n[ \"$3\" = --jobs=12,13 ] && printf '{chr(10).join(rows)}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    shown = CliRunner().invoke(app, ["hpo", "ledger", str(tmp_path / "studies")]).stdout
    assert "by Slurm    1 kWh of whole nodes, in 1 job" in shown.splitlines()
    plain = CliRunner().invoke(app, ["hpo", "ledger", str(tmp_path / "studies"), "--json"]).stdout
    told = json.loads(plain)
    assert told["jobs_joules"] == {"12": 3.6e6}
    assert sorted(told["total"]["jobs"]) == ["12", "13"]  # each once, whatever ran in it
