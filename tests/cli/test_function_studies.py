"""``itwinai hpo run FILE.py:FUNCTION``, and the commands that go on with such a study."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from itwinai.cli import app
from itwinai.hpo import StudyResult, TrialState, load_study
from itwinai.hpo.engine import ray_cluster

#: Trial 1 of a study NAME waits before its third epoch, once, if there is a file NAME.hold.
FUNCTION = """
import random
import time
from pathlib import Path

HERE = Path(__file__).parent


def fit(config, trial):
    study = trial.folder.parents[1].name
    state = trial.load()
    w = state or 0.0
    for epoch in trial.epochs():
        may_wait = state is None and (trial.number, epoch) == (1, 2)
        while may_wait and (HERE / f"{study}.hold").exists():
            (HERE / f"{study}.held").touch()
            time.sleep(0.02)
        for _ in range(config.epochs):
            w += config.rate * (1 - w)
        with (HERE / f"{study}.log").open("a") as log:
            log.write(f"{trial.number} {epoch}\\n")
        trial.report({"loss": (1 - w) ** 2 + random.gauss(0, 1e-3)}, checkpoint=w)
    return w
"""

#: A hyper-parameter may have the name of an argument of the step.
SPACE = """
search_space:
  rate: {type: uniform, lower: 0.02, upper: 0.5}
  epochs: {type: choice, categories: [1, 2]}
config: {rate: 0.02, epochs: 1}
epochs: 4
study: {num_samples: 3, seed: 1, scheduler: none, algorithm: random, max_concurrent_trials: 1}
"""

PIPELINE = """
training_pipeline:
  _target_: itwinai.pipeline.Pipeline
  steps:
    trainer:
      _target_: itwinai.hpo.FunctionTrainer
      function: {_target_: fitting.fit, _partial_: true}
      search_space: {rate: {type: uniform, lower: 0.02, upper: 0.5}}
      config: {rate: 0.02, epochs: 1}
      epochs: 4
      study: {name: piped, metric: loss, mode: min, num_samples: 2, algorithm: random, seed: 1}
"""

STEP = "training_pipeline.steps.trainer"

RUN = ("run", "fitting.py:fit", "--space", "space.yaml", "--metric", "loss", "--mode", "min")


def itwinai(*args: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(map(str, args)), prog_name="itwinai")
    assert result.exit_code == code, f"{result.stderr}\n{result.stdout}\n{result.exception!r}"
    return result


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a function, in which all tests work; and one Ray for all of them."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "fitting.py").write_text(FUNCTION)
    (folder / "space.yaml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch, ray_cluster():
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        yield folder


@pytest.fixture(scope="module")
def study(project: Path) -> Path:
    """A study that nothing has disturbed."""
    itwinai("hpo", *RUN, "--name", "undisturbed")
    return Path("studies/undisturbed")


def best_loss(result: StudyResult) -> str:
    assert result.best is not None
    return f"epoch 4  loss={result.best.metrics['loss']:.4g}\n"


@pytest.mark.parametrize("how", ["kill", pytest.param("ctrl-c", marks=pytest.mark.exhaustive)])
def test_an_interrupted_study_is_resumed_where_it_was(study: Path, project: Path, how: str) -> None:
    import ray

    number, code = {"kill": (signal.SIGKILL, -9), "ctrl-c": (signal.SIGINT, 130)}[how]
    (project / f"{how}.hold").touch()
    # Whoever starts the tests may ignore the signal, and pass that on.
    words = ["env", "--default-signal=INT", sys.executable, "-m", "itwinai", "hpo", *RUN]
    driver = subprocess.Popen(
        [*words, "--name", how],
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        while not (project / f"{how}.held").exists():
            assert driver.poll() is None, driver.communicate()[0]
            time.sleep(0.02)
        driver.send_signal(number)
        told = driver.communicate(timeout=60)[0]
    finally:
        driver.kill()
    assert driver.returncode == code, told
    before = load_study(f"studies/{how}")
    assert [trial.epochs for trial in before.trials] == [4, 2]

    itwinai("hpo", "resume", f"studies/{how}")
    after = load_study(f"studies/{how}")
    assert [trial.state for trial in after.trials] == [TrialState.COMPLETED] * 3
    # Of those that were proposed before: a resumed search draws other points.
    expected = [trial.history for trial in load_study(study).trials[:2]]
    assert [trial.history for trial in after.trials[:2]] == expected
    trained = (project / f"{how}.log").read_text().splitlines()
    assert trained == [f"{trial} {epoch}" for trial in range(3) for epoch in range(4)]


def test_a_best_trial_is_repeated_and_confirmed(study: Path) -> None:
    assert load_study(study).best is not None
    repeated = itwinai("hpo", "rerun", study, "--best")
    assert "equal the recorded ones to the last bit" in repeated.stdout
    told = json.loads(itwinai("hpo", "confirm", study, "--json").stdout)
    (candidate,) = told["candidates"]
    assert candidate["gain"]["verdict"] == "better"
    seeds = [trial.seed for trial in load_study(study / "confirmation").trials]
    assert len(set(seeds)) == len(seeds) >= 6


def test_the_exported_configuration_calls_the_function_once(study: Path) -> None:
    itwinai("hpo", "export", study, "--format", "config", "-o", "best.yaml")
    trained = itwinai("exec-pipeline", "--config-name", "best")
    assert best_loss(load_study(study)) in trained.stdout
    assert [path.name for path in Path("checkpoints").iterdir()] == ["epoch_3"]


def test_a_plan_of_a_function_is_one_of_its_run(project: Path) -> None:
    refused = itwinai("hpo", "plan", *RUN[1:], "--name", "planned", code=2)
    assert "itwinai hpo run fitting.py:fit ... --plan" in " ".join(refused.stderr.split())
    planned = itwinai("hpo", *RUN, "--name", "planned", "--plan")
    assert "planned, 3 trials of 4 epochs" in planned.stdout
    assert not Path("studies/planned").exists()


def test_a_function_of_a_package_finds_its_neighbours(project: Path) -> None:
    package = project / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "parts.py").write_text("HALF = 0.5\n")
    (package / "within.py").write_text(
        "from .parts import HALF\n\n\n"
        "def fit(config, trial):\n"
        "    trial.report({'loss': HALF * config.rate * config.epochs})\n"
    )
    where = ("--space", "space.yaml", "--metric", "loss", "--mode", "min", "--name", "packed")
    itwinai("hpo", "run", "my_package/within.py:fit", *where, "--epochs", "1", "--trials", "2")
    assert load_study("studies/packed").trials[0].metrics["loss"] == 0.01
    itwinai("hpo", "rerun", "studies/packed", "--trial", "1")


@pytest.mark.exhaustive
def test_a_pipeline_tells_the_command_that_trains_its_best(project: Path) -> None:
    (project / "pipeline.yaml").write_text(PIPELINE)
    ran = itwinai("exec-pipeline", "--config-name", "pipeline")
    (command,) = re.findall(r"^itwinai (exec-pipeline .*)$", ran.stdout, re.M)
    trained = itwinai(*shlex.split(command), f"+{STEP}.random_seed=1")
    assert best_loss(load_study("studies/piped")) in trained.stdout
    refused = itwinai(*shlex.split(command), f"{STEP}.study={{name: piped}}", code=1)
    assert "search_space: there is none, and study says how" in refused.stderr
