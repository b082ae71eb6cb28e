"""``itwinai hpo``, on one small study that is run through it once, and on copies of that."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import optuna
import pandas as pd
import pytest
from click.testing import Result
from omegaconf import OmegaConf
from typer.testing import CliRunner

from itwinai.cli import app
from itwinai.cli.kept import KeptPipeline
from itwinai.hpo import (
    SearchSpace,
    StudyConfiguration,
    export_study,
    json_schema,
    list_studies,
    load_study,
    stop_study,
)
from itwinai.hpo.engine import ray_cluster
from itwinai.hpo.errors import StudyError
from itwinai.hpo.launch import plan_study
from itwinai.hpo.record import Setup
from itwinai.hpo.retraining import rerun
from itwinai.hpo.trial import TrialState

MODULE = """
import time
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from itwinai.components import BaseComponent, DataGetter


class Points(DataGetter):
    def __init__(self, seed):
        super().__init__()
        self.seed = seed

    def execute(self):
        return points(self.seed, 64), points(2, 32), None


class Report(BaseComponent):
    def execute(self, train, validation, test, model):
        print("reported", type(model).__name__)


def points(seed, count):
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(inputs, (inputs.sum(1) > 0).long())


def network(width=4, wait_for=None):
    while wait_for is not None and not Path(wait_for).exists():
        time.sleep(0.02)
    layers = torch.nn.Linear(4, width), torch.nn.Tanh(), torch.nn.Linear(width, 2)
    return torch.nn.Sequential(*layers)
"""

FOREIGN = """

def network_of_mine(width=4):
    return network(width)
"""

CONFIG = """
lr: 0.01
training_pipeline:
  _target_: itwinai.pipeline.Pipeline
  steps:
    data: {_target_: cli_points.Points, seed: 1}
    trainer:
      _target_: itwinai.torch.trainer.RayTorchTrainer
      epochs: 3
      config:
       {batch_size: 16, num_workers_dataloader: 0, shuffle_train: true, width: 4, optim_lr: "${lr}"}
      model: {_target_: cli_points.network, _partial_: true}
      search_space:
        optim_lr: {type: loguniform, lower: 1e-3, upper: 1e-1}
        width: {type: choice, categories: [2, 4, 8]}
      study: {name: points, metric: validation_loss, mode: min, num_samples: 4,
        algorithm: random, scheduler: none, max_concurrent_trials: 2}
    report: {_target_: cli_points.Report}
"""

TRAINER = "training_pipeline.steps.trainer"


def itwinai(*args: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, args)), prog_name="itwinai")


def hpo(*args: str | Path, code: int = 0) -> Result:
    result = itwinai("hpo", *args)
    assert result.exit_code == code, f"{result.stderr}\n{result.stdout}\n{result.exception!r}"
    return result


def as_json(*args: str | Path, code: int = 0) -> Any:
    """What a command writes to standard output, all of which must be one JSON document."""
    return json.loads(hpo(*args, "--json", code=code).stdout)


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a pipeline, in which all tests work; and one Ray for all of them."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "cli_points.py").write_text(MODULE)
    (folder / "config.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch, ray_cluster():
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        yield folder


@pytest.fixture(scope="module")
def ran(project: Path) -> Result:
    return hpo("run", "--json")


@pytest.fixture(scope="module")
def study(project: Path, ran: Result) -> Path:
    return Path("studies/points")


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def moved(study: Path, to: Path) -> Path:
    """A copy of the study elsewhere, where nothing leads back to its old place."""
    target = to / study.name
    shutil.copytree(study, target, ignore=shutil.ignore_patterns("reruns"))
    return target


def cut_short(study: Path, ends: int) -> None:
    """Leave of a record what a driver had written when it was killed after so many ends."""
    lines = (study / "record.log").read_text().splitlines(keepends=True)
    told = [index for index, line in enumerate(lines) if '"completed"' in line]
    (study / "record.log").write_text("".join(lines[: told[ends]]))


# -- running ---------------------------------------------------------------------------------------


def test_run_writes_results_to_stdout_and_everything_else_to_stderr(ran: Result) -> None:
    (result,) = json.loads(ran.stdout)["studies"]
    assert (result["study"], result["state"], result["trials"]) == ("points", "finished", 4)
    assert result["best"]["metrics"]["validation_loss"] > 0
    assert "reported Sequential" in ran.stderr
    assert "trial 0 (default)" in ran.stderr


def test_the_record_tells_who_decided_and_what_trials_got(study: Path) -> None:
    setup = load_study(study).setup
    assert setup is not None
    assert (setup.algorithm, setup.scheduler, setup.rungs) == ("random", "none", None)
    assert (setup.slots, setup.workers) == (min(2, len(os.sched_getaffinity(0))), 1)
    assert setup.per_worker["CPU"] >= 1


def test_the_record_tells_how_the_run_was_started(study: Path, project: Path) -> None:
    (start,) = load_study(study).starts
    assert (start.folder, start.host) == (str(project), socket.gethostname())
    assert {"python", "itwinai", "ray", "optuna", "numpy", "torch"} <= set(start.versions)


def test_the_study_keeps_its_pipeline_with_its_interpolations(study: Path, project: Path) -> None:
    kept = OmegaConf.to_container(OmegaConf.load(study / "pipeline.yaml"))
    assert kept == {
        "step": TRAINER,
        "directory": str(project),
        "modules": ["."],
        "config": OmegaConf.to_container(OmegaConf.create(CONFIG)),
    }


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        [f"+{TRAINER}.study.resume=true", f"{TRAINER}.search_space.width.categories=[2,4]"],
        [f"+{TRAINER}.study.resume=true", f"{TRAINER}.study.mode=max"],
    ],
)
def test_a_refused_study_keeps_what_it_had(study: Path, overrides: list[str]) -> None:
    before = (study / "pipeline.yaml").read_text()
    refused = hpo("run", *overrides, code=1)
    assert refused.stderr.startswith("error: study 'points'")
    assert (study / "pipeline.yaml").read_text() == before


@pytest.mark.parametrize("command", [("plan",), ("run", "--plan")])
def test_a_plan_tells_the_cost_and_starts_nothing(study: Path, command: tuple[str, ...]) -> None:
    before = files_of(Path())
    asha = f"{TRAINER}.study.scheduler={{name: asha, grace_period: 1, reduction_factor: 2}}"
    options = (f"{TRAINER}.study.name=planned", f"{TRAINER}.epochs=8", asha)
    told = hpo(*command, *options).stdout
    assert re.match(r"study +planned, 4 trials of 8 epochs$", told, re.M)
    assert re.search(r"^rungs +after epoch 1 about [23] of 4 go on$", told, re.M)
    assert re.search(r"^time +not known", told, re.M)
    assert re.search(r"^advice +The first rung is after epoch 1", told, re.M)
    (plan,) = json.loads(hpo(*command, "--json", *options).stdout)["plans"]
    assert [rung["level"] for rung in plan["rungs"]] == [1, 2, 4]
    assert files_of(Path()) == before


def test_a_plan_takes_the_seconds_of_an_epoch_from_where_one_says(study: Path) -> None:
    trials = load_study(study).trials
    pace = sum(t.seconds[-1] for t in trials) / sum(t.epochs for t in trials)
    seconds = {"--epoch-seconds=2": 2.0, f"--like={study}": pace}
    for option, expected in seconds.items():
        (plan,) = as_json("plan", option, "--limit=0:10:00", f"{TRAINER}.study.name=planned")[
            "plans"
        ]
        assert plan["epoch_seconds"] == pytest.approx(expected)
        assert (plan["limit_seconds"], plan["jobs"]["expected"]) == (600.0, 1)
        assert plan["epochs"]["expected"] == 12


def test_a_probe_trains_the_default_and_leaves_nothing(study: Path) -> None:
    before = files_of(Path())
    (plan,) = as_json("plan", "--probe", f"{TRAINER}.study.name=planned")["plans"]
    assert plan["epoch_seconds"] > 0
    assert plan["disk_bytes"] > plan["checkpoint_bytes"] > 0
    assert files_of(Path()) == before


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--limit=soon"], 2, "give seconds above 0, or HH:MM:SS"),
        (["--limit=1", "--epoch-seconds=2"], 1, "no job would come to the end of one"),
        (["--probe", "--epoch-seconds=2"], 1, "give one of them"),
        (["--like=studies/absent"], 1, "no such record"),
        ([f"{TRAINER}.search_space=null"], 1, "there is no study to plan"),
        ([f"{TRAINER}.study.name=points"], 1, "study 'points'"),
    ],
)
def test_a_plan_that_cannot_be_told_is_refused(
    study: Path, options: list[str], code: int, message: str
) -> None:
    refused = hpo("plan", f"{TRAINER}.study.name=planned", *options, code=code)
    assert message in re.sub(r"[\s│]+", " ", refused.stderr)


def test_a_record_cut_short_in_another_place_is_resumed(study: Path, tmp_path: Path) -> None:
    copy = moved(study, tmp_path)
    cut_short(copy, ends=2)
    (listed,) = list_studies(tmp_path)
    assert (listed.state, listed.trials) == ("interrupted", 4)
    before = load_study(study).trials
    (result,) = as_json("resume", copy)["studies"]
    assert (result["directory"], result["trials"]) == (str(copy), 4)
    resumed = load_study(copy).trials
    assert {trial.state for trial in resumed} == {TrialState.COMPLETED}
    # Each began anew with its own seed, so that all became what they were.
    assert [trial.history for trial in resumed] == [trial.history for trial in before]


def test_a_study_is_extended_and_its_ranges_widened(study: Path, tmp_path: Path) -> None:
    copy = moved(study, tmp_path)
    wider = "search_space.optim_lr.upper=2e-1"
    (result,) = as_json("extend", copy, "--trials", "2", wider)["studies"]
    assert result["trials"] == 6
    best = load_study(copy).best
    assert best is not None
    assert best.checkpoint is not None
    assert best.checkpoint.is_relative_to(copy)
    original = load_study(study).best
    assert original is not None
    assert original.checkpoint is not None  # that of the copy is another one
    kept = OmegaConf.load(copy / "pipeline.yaml")
    step = OmegaConf.select(kept.config, TRAINER)
    assert (step.study.num_samples, step.search_space.optim_lr.upper) == (6, 0.2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--trials", "2", "search_space.optim_lr.upper=0.05"], "cannot be resumed: its space"),
        (["--trials", "2", "search_space.width.categories=[2]"], "cannot be resumed: its space"),
        (["--trials", "2", "search_space.optim_lrr.upper=1"], "did you mean 'optim_lr'?"),
        (["--trials", "2", "lr=1"], "would make it another study"),
        (["--time", "60"], "all 4 trials have run, so more time is of no use: add --trials N."),
    ],
)
def test_an_extension_that_cannot_be_is_refused(study: Path, args: list[str], message: str) -> None:
    before = (study / "pipeline.yaml").read_text()
    assert message in hpo("extend", study, *args, code=1).stderr
    assert (study / "pipeline.yaml").read_text() == before
    assert len(load_study(study).trials) == 4


def test_a_running_study_is_asked_to_stop(project: Path) -> None:
    import ray

    overrides = [f"+{TRAINER}.model.wait_for={project / 'go'}", f"{TRAINER}.study.num_samples=2000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "itwinai", "hpo", "run", f"{TRAINER}.study.name=long", *overrides],
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("starting" in line for line in process.stdout)  # the record is locked by then
        long = Path("studies/long")
        (listed,) = (entry for entry in list_studies() if entry.directory == long)
        assert listed.state == "running"
        shown = hpo("show", long).stdout
        assert re.match(r"running     \d+/2000 trials done, \d+ running, .* s, time left -", shown)
        assert "another process is running this study" in hpo("resume", long, code=1).stderr
        assert as_json("stop", long)["requested"] == "stop"
        (project / "go").touch()  # the first trials have waited for it
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert len(load_study(long).trials) < 2000
    assert "not running" in hpo("stop", long, code=1).stderr


def test_a_damaged_record_is_repaired(study: Path, tmp_path: Path) -> None:
    copy = moved(study, tmp_path)
    record = copy / "record.log"
    whole, known = record.read_bytes(), load_study(copy)
    damaged = whole.replace(b'"epoch 2"', b'"epoch 7"', 1)
    number = damaged[: damaged.index(b'"epoch 7"')].count(b"\n") + 1
    record.write_bytes(damaged)
    shown = hpo("show", copy, "--json")
    assert f"line {number} (epoch 7 of the trial" in shown.stderr
    left = load_study(copy).trials
    assert [trial.at for trial in known.trials] == [(1, 2, 3)] * 4
    assert sorted(trial.at for trial in left) == [(1, 2, 3)] * 3 + [(1, 3)]

    told = hpo("repair", copy).stdout
    assert f"left out: line {number} (epoch 7" in told
    assert (copy / "record.log.damaged-1").read_bytes() == damaged
    mended = hpo("show", copy, "--json")
    assert (mended.stdout, mended.stderr) == (shown.stdout, "")
    assert "nothing is damaged" in hpo("repair", copy).stdout
    assert "no such record" in hpo("repair", tmp_path / "nowhere", code=1).stderr


# -- reading ---------------------------------------------------------------------------------------


def test_list(study: Path, tmp_path: Path) -> None:
    moved(study, tmp_path)
    damaged = moved(study, tmp_path / "below")
    (damaged / "record.log").write_text("{}\nnonsense\n{}\n")
    (best,) = {load_study(study).best.metric("validation_loss")}
    damaged_entry, entry = as_json("list", tmp_path)
    assert entry == {
        "directory": str(tmp_path / "points"),
        "state": "finished",
        "trials": 4,
        "metric": "validation_loss",
        "best": best,
        "problem": "",
    }
    assert damaged_entry["state"] == "damaged"
    assert "line 1 (" in damaged_entry["problem"]
    shown = hpo("list", tmp_path).stdout
    assert "damaged" in shown
    assert "finished" in shown
    assert "no such folder" in hpo("list", tmp_path / "nothing", code=1).stderr


@pytest.mark.parametrize(
    "command", [("export", "STUDY", "-o"), ("diagnose", "STUDY", "--patch"), ("list",), ("stop",)]
)
def test_a_file_that_cannot_be_is_named_without_a_traceback(
    study: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    arguments = (study if word == "STUDY" else word for word in command)
    said = hpo(*arguments, tmp_path / ("ä" * 150), code=1).stderr
    assert f"{'ä' * 150}" in said
    assert "File name too long\n" in said
    assert "Traceback" not in said


def test_show(study: Path) -> None:
    shown = hpo("show", study).stdout
    assert "points, 4 trials" in shown
    assert sum("trained to the last epoch" in line for line in shown.splitlines()) == 4
    assert "... 3 more" in hpo("show", study, "--limit", "1").stdout
    content = as_json("show", study)
    assert [trial["number"] for trial in content["trials"]] == [0, 1, 2, 3]
    assert content["trials"][0]["is_default"]


def test_best(study: Path) -> None:
    best = load_study(study).best
    assert best is not None
    content = as_json("best", study)
    assert content["best"]["params"] == dict(best.params)
    assert f"optim_lr = {best.params['optim_lr']}" in hpo("best", study).stdout


def test_several_objectives_have_a_front(tmp_path: Path) -> None:
    by_hand(tmp_path, {"metric": ["a", "b"], "mode": ["min", "min"], "algorithm": "random"})
    folder = tmp_path / "study"
    assert [trial["number"] for trial in as_json("best", folder)["front"]] == [0, 1]
    assert "Pareto front" in hpo("show", folder).stdout
    export_study(folder, "optuna", tmp_path / "study.db")
    copied = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [trial.number for trial in copied.best_trials] == [0, 1]


def by_hand(folder: Path, settings: dict[str, Any], texts: tuple[str, ...] = ("x", "y")) -> None:
    """A study of two trials of one epoch: the second is worse in a, better in b."""
    space = SearchSpace.parse({"text": {"type": "choice", "categories": list(texts)}})
    configuration = StudyConfiguration(
        **{"storage_path": folder, "num_samples": 2, "scheduler": "none", **settings}
    )
    study = plan_study(configuration, space, epochs=1, default=None).open()
    for number in range(2):
        assert study.ask() is not None
        study.report(number, {"a": float(number), "b": -float(number), "c": float("nan")}, None, 1)
        study.tell(number, TrialState.COMPLETED)
    study.close()


# -- repeating -------------------------------------------------------------------------------------


def test_every_trial_can_be_repeated_to_the_last_bit(study: Path) -> None:
    before = files_of(study)
    for trial in load_study(study).trials:
        outcome = as_json("rerun", study, "--trial", str(trial.number))
        assert outcome["equal"]
        assert outcome["runs"][0]["history"] == list(map(dict, trial.history))
        assert outcome["runs"][0]["seed"] == trial.seed
    assert "to the last bit" in hpo("rerun", study, "--best").stdout
    assert files_of(study) == before


def test_a_repetition_on_other_data_differs(study: Path, tmp_path: Path) -> None:
    copy = moved(study, tmp_path)
    kept = copy / "pipeline.yaml"
    kept.write_text(kept.read_text().replace("seed: 1", "seed: 3"))
    told = hpo("rerun", copy, "--best", code=1).stderr
    assert told == (
        f"error: {kept}: altered after itwinai wrote it. Restore it from a copy; if you have "
        "changed it on purpose, delete its first line.\n"
    )
    kept.write_text(kept.read_text().partition("\n")[2])
    outcome = as_json("rerun", copy, "--best", code=3)
    assert (outcome["equal"], outcome["differing_epochs"]) == (False, [1, 2, 3])
    assert "differ from the record: 1, 2, 3" in hpo("rerun", copy, "--best", code=3).stdout


def test_the_best_is_trained_longer_from_fresh_seeds(study: Path) -> None:
    before = files_of(study)
    outcome = as_json("rerun", study, "--best", "--epochs", "4", "--seeds", "3")
    runs = outcome["runs"]
    assert outcome["equal"] is None
    assert len({run["seed"] for run in runs}) == 3
    assert [len(run["history"]) for run in runs] == [4, 4, 4]
    last = pd.Series([run["history"][-1]["validation_loss"] for run in runs])
    spread = outcome["metrics"]["validation_loss"]
    assert (spread["mean"], spread["std"]) == pytest.approx((last.mean(), last.std()))
    for run in runs:
        checkpoint = Path(run["checkpoint"])
        assert checkpoint.is_relative_to(Path.cwd() / study / "reruns")
        assert [path.name for path in checkpoint.parent.iterdir()] == ["epoch_3"]
    after = files_of(study)
    assert {path: after[path] for path in before} == before
    again = as_json("rerun", study, "--best", "--epochs", "4", "--seeds", "3")
    assert again["runs"] == runs


def test_what_began_with_a_checkpoint_cannot_be_repeated(study: Path) -> None:
    from itwinai.torch.trainer import TorchTrainer

    result = load_study(study)
    copied = dataclasses.replace(result.trials[1], parent=0)
    result = dataclasses.replace(result, trials=(result.trials[0], copied))
    with pytest.raises(StudyError, match=r"cannot be repeated exactly: .* a copy of trial 0"):
        rerun(TorchTrainer({}, epochs=3), (None, None, None), result, trial=1)
    with pytest.raises(StudyError, match="has no trial 7"):
        rerun(TorchTrainer({}, epochs=3), (None, None, None), result, trial=7)


# -- exporting -------------------------------------------------------------------------------------


def test_csv_and_parquet_hold_a_row_per_trial(study: Path, tmp_path: Path) -> None:
    hpo("export", study, "-o", tmp_path / "trials.csv")
    hpo("export", study, "--format", "parquet", "-o", tmp_path / "trials.parquet")
    from_csv = pd.read_csv(tmp_path / "trials.csv")
    from_parquet = pd.read_parquet(tmp_path / "trials.parquet")
    trials = load_study(study).trials
    for table in (from_csv, from_parquet):
        assert list(table["number"]) == [0, 1, 2, 3]
        assert list(table["params.optim_lr"]) == [trial.params["optim_lr"] for trial in trials]
    assert hpo("export", study).stdout == (tmp_path / "trials.csv").read_text()


@pytest.mark.parametrize(
    ("name", "format_"),
    [("a.yaml", "config"), ("a.parquet", "parquet"), ("a.db", "optuna"), ("a.txt", "csv")],
)
def test_the_files_name_says_the_format(
    study: Path, tmp_path: Path, name: str, format_: str
) -> None:
    told = json.loads(hpo("export", study, "-o", tmp_path / name, "--json").stdout)
    assert told["format"] == format_
    said = json.loads(
        hpo("export", study, "-o", tmp_path / name, "--format", "csv", "--json").stdout
    )
    assert said["format"] == "csv"


def test_no_text_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    settings = {"metric": "a", "mode": "min", "algorithm": "grid"}
    by_hand(tmp_path, settings, texts=("=1+1", "@sum"))
    text = hpo("export", tmp_path / "study").stdout
    assert ",'=1+1," in text
    assert ",'@sum," in text
    assert ",-1.0," in text  # a number stays one


def test_the_exported_configuration_trains_the_best(study: Path, tmp_path: Path) -> None:
    hpo("export", study, "--format", "config", "-o", tmp_path / "config.yaml")
    trained = itwinai("exec-pipeline", "-cp", tmp_path)
    assert trained.exit_code == 0, trained.stderr
    best = load_study(study).best
    assert best is not None
    values = "  ".join(f"{name}={value:.4g}" for name, value in best.metrics.items())
    assert f"epoch 3/3  {values}" in trained.stdout
    shutil.rmtree("checkpoints")


@pytest.mark.parametrize(
    "args",
    [
        *(["show"], ["best"], ["list"], ["report"]),
        *(["export"], ["export", "--format", "config"], ["stop"]),
    ],
    ids=" ".join,
)
def test_what_only_reads_a_study_runs_no_code_of_it(
    args: list[str], study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "studies" / "points"
    shutil.copytree(study, copy)
    for name in ("cli_points", "trap", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("open('PWNED', 'w').close()\nraise SystemExit(9)\n")
    kept = OmegaConf.load(copy / "pipeline.yaml")
    kept.directory, kept.modules = str(tmp_path), [".", "studies/points"]
    step = OmegaConf.select(kept.config, TRAINER)
    step._target_ = "trap.Trainer"
    step.model._target_ = "trap.network"
    OmegaConf.save(kept, copy / "pipeline.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "cli_points", raising=False)
    result = itwinai("hpo", args[0], copy.parent if args[0] == "list" else copy, *args[1:])
    assert result.exit_code == (1 if args[0] == "stop" else 0), result.stderr
    assert "PWNED" not in os.listdir(tmp_path)
    assert not {"trap", "cli_points"} & set(sys.modules)


def test_an_argument_of_a_subclass_is_exported_as_one(project: Path, tmp_path: Path) -> None:
    (tmp_path / "sized.py").write_text(
        "from itwinai.torch.trainer import RayTorchTrainer\n"
        "class Sized(RayTorchTrainer):\n"
        "    def __init__(self, *args, size=1, **kwargs):\n"
        "        super().__init__(*args, **kwargs)\n"
        "        self.size = size\n"
    )
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "cli_points.py").write_text(MODULE)
    ran = hpo(
        *("run", "-cp", tmp_path, f"{TRAINER}._target_=sized.Sized", f"{TRAINER}.epochs=1"),
        *(f"{TRAINER}.study.name=sized", f"{TRAINER}.study.num_samples=1"),
        f"+{TRAINER}.search_space.size={{type:choice,categories:[1,2]}}",
    )
    exported = OmegaConf.create(hpo("export", "studies/sized", "--format", "config").stdout)
    step = OmegaConf.select(exported, TRAINER)
    assert step.size in (1, 2)
    assert "size" not in step.config
    assert "width" in step.config
    command = shlex.split(ran.stdout.splitlines()[-1])
    assert f"++{TRAINER}.size={step.size}" in command
    assert f"++{TRAINER}.config.width={step.config.width}" in command
    sys.modules.pop("sized")


def test_a_class_of_lightnings_is_exported_with_the_arguments_of_the_best() -> None:
    steps = {"trainer": {"config": {"model": "mine.Net", "trainer": {"max_epochs": 2}}}}
    config = OmegaConf.create({"training_pipeline": {"steps": steps}})
    places = {"lr": "model.init_args.lr"}
    kept = KeptPipeline(TRAINER, Path(), (), config, places=places)
    exported = OmegaConf.select(kept.without_study({"lr": 0.1}, None), f"{TRAINER}.config")
    assert exported.model == {"class_path": "mine.Net", "init_args": {"lr": 0.1}}


def test_a_study_that_goes_on_with_another_training_says_so(
    study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(study, tmp_path / "points")
    go_on = [f"+{TRAINER}.study.resume=true", f"+{TRAINER}.study.storage_path={tmp_path}"]
    caplog.set_level("WARNING", logger="itwinai")
    hpo("run", *go_on, "lr=0.02")  # it is tuned
    assert "trained otherwise" not in caplog.text
    hpo("run", *go_on, f"{TRAINER}.config.batch_size=8", "training_pipeline.steps.data.seed=2")
    keys = f"training_pipeline.steps.data.seed, {TRAINER}.config.batch_size"
    assert f"trained otherwise: since then {keys} has changed" in caplog.text


def test_an_export_tells_how_many_processes_trained_the_best(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "points"
    shutil.copytree(study, copy)
    kept = KeptPipeline.read(copy).study
    settings = {**kept, "storage_path": tmp_path, "resume": True}
    known = load_study(copy)
    again = plan_study(StudyConfiguration(**settings), known.space, 3, None).open()
    again.note_setup(Setup("random", "none", workers=2))
    again.close()
    started = "torchrun --nproc_per_node 2 -m itwinai exec-pipeline"
    assert started in hpo("export", copy, "--format", "config").stdout
    assert "torchrun" not in hpo("export", study, "--format", "config").stdout


def test_of_two_studies_in_a_pipeline_each_is_used_alone(project: Path, tmp_path: Path) -> None:
    config = OmegaConf.create(CONFIG)
    data, trainer, _ = config.training_pipeline.steps.values()
    policy = [f"INPUT_ARG#{index}" for index in range(3)]
    config.training_pipeline.steps = {
        "data": data,
        "first": {**trainer, "study": {**trainer.study, "name": "first", "num_samples": 1}},
        "pass_on": {"_target_": "itwinai.components.Adapter", "policy": policy},
        "second": {**trainer, "study": {**trainer.study, "name": "second", "num_samples": 1}},
    }
    OmegaConf.save(config, tmp_path / "config.yaml")
    one_name = "training_pipeline.steps.second.study.name=first"
    refused = hpo("run", "-cp", tmp_path, one_name, code=1).stderr
    assert "study 'first': training_pipeline.steps.first has a study of this name" in refused
    assert not Path("studies/first").exists()
    ran = hpo("run", "-cp", tmp_path)
    assert "equal the recorded ones" in hpo("rerun", "studies/second", "--best").stdout
    exported = OmegaConf.create(hpo("export", "studies/second", "--format", "config").stdout)
    assert exported.training_pipeline.steps.first.study.resume is True
    commands = [line for line in ran.stdout.splitlines() if line.startswith("itwinai exec")]
    for command in commands:
        again = itwinai(*shlex.split(command)[1:])
        assert again.exit_code == 0, again.stderr
    assert len(commands) == 2
    shutil.rmtree("checkpoints")


def test_what_a_study_may_name_is_remembered_with_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "cli_foreign.py").write_text("from cli_points import network\n" + FOREIGN)
    monkeypatch.setattr(sys, "path", [*sys.path, str(elsewhere)])
    of_foreign = [
        *(f"{TRAINER}.model._target_=cli_foreign.network_of_mine", f"{TRAINER}.epochs=1"),
        *(f"{TRAINER}.study.name=foreign", f"{TRAINER}.study.num_samples=1"),
    ]
    assert "add --allow cli_foreign.network_of_mine\n" in hpo("run", *of_foreign, code=1).stderr
    assert not Path("studies/foreign").exists()
    hpo("run", *of_foreign, "--allow", "cli_foreign")
    file = Path("studies/foreign/pipeline.yaml")
    assert OmegaConf.load(file).allow == ["cli_foreign"]
    hpo("extend", "studies/foreign", "--trials", "1")
    hpo("rerun", "studies/foreign", "--trial", "0")

    # It stands beside the configuration, not in it.
    kept = OmegaConf.load(file)
    kept.config.allow = kept.pop("allow")
    OmegaConf.save(kept, file)
    for command in (["extend", "--trials", "1"], ["resume"], ["rerun", "--trial", "0"]):
        args = [command[0], "studies/foreign", *command[1:]]
        assert "add --allow cli_foreign.network_of_mine\n" in hpo(*args, code=1).stderr
    monkeypatch.setenv("ITWINAI_ALLOW", "cli_foreign")
    hpo("rerun", "studies/foreign", "--trial", "0")
    monkeypatch.delenv("ITWINAI_ALLOW")
    hpo("extend", "studies/foreign", "--trials", "1", "--allow", "cli_foreign")
    assert OmegaConf.load(file).allow == ["cli_foreign"]
    sys.modules.pop("cli_foreign")


def test_the_optuna_database_is_a_plain_one(study: Path, tmp_path: Path) -> None:
    file = tmp_path / "optuna.db"
    hpo("export", study, "--format", "optuna", "-o", file)
    copied = optuna.load_study(study_name="points", storage=f"sqlite:///{file}")
    best = load_study(study).best
    assert best is not None
    assert len(copied.trials) == 4
    assert copied.best_trial.number == best.number
    assert copied.best_params == dict(best.params)
    assert copied.best_value == best.metric("validation_loss")
    assert list(copied.best_trial.intermediate_values) == [1, 2, 3]


def test_the_schema_knows_what_the_configuration_knows() -> None:
    schema = json.loads(hpo("schema").stdout)
    assert schema == json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    config = OmegaConf.to_container(OmegaConf.create(CONFIG))
    assert isinstance(config, dict)
    validator.validate(config)
    step = config["training_pipeline"]["steps"]["trainer"]
    step["study"]["nmae"] = "x"
    step["search_space"]["optim_lr"]["upper"] = "high"
    paths = {tuple(error.absolute_path) for error in validator.iter_errors(config)}
    assert any("study" in path for path in paths)
    assert any("optim_lr" in path for path in paths)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["show"],
        ["rerun", "studies/points"],
        ["rerun", "studies/points", "--best", "--trial", "1"],
        ["extend", "studies/points"],
        ["export", "studies/points", "--format", "optuna"],
        ["export", "studies/points", "--format", "xlsx"],
        ["best", "studies/points", "--nothing"],
    ],
)
def test_a_wrong_command_line_ends_with_2(args: list[str]) -> None:
    assert "Usage: " in hpo(*args, code=2).stderr


@pytest.mark.parametrize(
    "args",
    [["show"], ["best"], ["export"], ["resume"], ["rerun", "--best"], ["extend", "--trials", "1"]],
)
def test_what_is_no_study_is_refused_with_1(args: list[str], tmp_path: Path) -> None:
    assert "no such record" in hpo(*args, tmp_path, code=1).stderr


def test_a_study_from_python_says_so(tmp_path: Path) -> None:
    by_hand(tmp_path, {"metric": "a", "mode": "min"})
    for args in (["resume"], ["rerun", "--best"], ["export", "--format", "config"]):
        assert "not started with 'itwinai hpo run'" in hpo(*args, tmp_path / "study", code=1).stderr
    with pytest.raises(StudyError, match="not running"):
        stop_study(tmp_path / "study")


def test_help_documents_the_exit_codes() -> None:
    shown = hpo("--help").stdout
    for code in ("0 ", "1 ", "2 ", "3 ", "130 "):
        assert f"\n    {code}" in shown
    assert signal.SIGINT + 128 == 130
