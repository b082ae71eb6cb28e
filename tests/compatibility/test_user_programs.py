"""Programs as users of itwinai 0.4 wrote them, run alone, by torchrun, and as a study."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from itwinai.hpo import load_study
from itwinai.hpo.engine import ray_cluster
from itwinai.hpo.record import StudyResult
from itwinai.hpo.trial import TrialState

PROGRAMS = Path(__file__).with_name("programs")

#: Strategies, and the number of processes that train together.
STRATEGIES = [("null", 1), ("ddp", 2), ("fsdp", 2), ("deepspeed", 2)]

every_strategy = pytest.mark.parametrize(("strategy", "processes"), STRATEGIES)
#: The same, of which those that part the model are left to the exhaustive run.
each_strategy = pytest.mark.parametrize(
    ("strategy", "processes"),
    [
        STRATEGIES[1],
        *(pytest.param(*one, marks=pytest.mark.exhaustive) for one in STRATEGIES[:1]),
        *(pytest.param(*one, marks=pytest.mark.exhaustive) for one in STRATEGIES[2:]),
    ],
)
#: The 61 points are split 36 to 12 to 13, or 36 to 25.
TRAINING_SAMPLES = 36


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PROGRAMS, tmp_path / "user"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all studies of this file; the programs find its address in the environment."""
    with ray_cluster() as _, pytest.MonkeyPatch.context() as patch:
        import ray

        patch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
        yield


def run(folder: Path, processes: int, *command: str) -> str:
    """Run a program, and return what its processes printed, one after the other."""
    # Each rank prints to a file of its own: written to one pipe, their lines would mix.
    logs = folder / "ranks"
    apart = ["--redirects=3", f"--log-dir={logs}"]
    number = f"--nproc_per_node={processes}"
    launcher = ["torch.distributed.run", "--standalone", number, *apart, "-m"]
    done = subprocess.run(
        [sys.executable, "-m", *(launcher if processes > 1 else []), *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    errors = [path.read_text() for path in sorted(logs.glob("*/*/*/stderr.log"))]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:] + "".join(errors)[-3000:]
    return done.stdout + "".join(path.read_text() for path in sorted(logs.glob("*/*/*/stdout.log")))


def need(strategy: str) -> None:
    if strategy == "deepspeed":
        pytest.importorskip("deepspeed")


def train(folder: Path, program: str, strategy: str, processes: int) -> str:
    need(strategy)
    chosen = [] if strategy == "null" else ["--strategy", strategy]
    return run(folder, processes, program, *chosen)


def study(folder: Path, program: str, strategy: str, processes: int) -> StudyResult:
    need(strategy)
    chosen = [] if strategy == "null" else ["--strategy", strategy]
    run(folder, 1, program, *chosen, "--study", "--workers", str(processes))
    return checked(folder)


def checked(folder: Path) -> StudyResult:
    result = load_study(folder / "ray_checkpoints" / "user-hpo")
    assert result.trials[0].state is TrialState.COMPLETED
    assert len(result.trials) == 2
    assert result.best.checkpoint.is_dir()
    for trial in result.trials:
        assert 1e-3 <= trial.params["optim_lr"] <= 1e-1
        assert trial.params["batch_size"] in (8, 16)
    return result


def weights(path: Path) -> dict[str, Any]:
    return torch.load(path / "model.pt", weights_only=True)


# -- a pipeline in Python --------------------------------------------------------------------------


@every_strategy
def test_a_pipeline_in_python_trains(folder, strategy, processes):
    output = train(folder, "pipeline_in_python", strategy, processes)
    assert output.count("sizes 36 12 13") == processes
    assert output.count("model Net") == processes
    assert "ConsoleLogger: validation_accuracy_epoch = " in output
    for name in ("epoch_0", "epoch_1", "best_model"):
        assert set(weights(folder / "checkpoints" / name)) == {
            f"layers.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
        }
    (logs,) = (folder / "mllogs" / "simple-logger").iterdir()
    class_name = {"null": "NonDistributedStrategy", "ddp": "TorchDDPStrategy"}.get(strategy)
    hyper = json.loads((logs / "hyperparameters.json").read_text())
    assert hyper["shuffle_train"] is True
    if class_name is not None:
        assert hyper["distributed_strategy"] == class_name


@pytest.mark.exhaustive
@each_strategy
def test_a_pipeline_in_python_runs_a_study(folder, cluster, strategy, processes):
    result = study(folder, "pipeline_in_python", strategy, processes)
    assert result.metric == "validation_loss"
    assert "train_accuracy" in result.best.metrics


# -- a pipeline in YAML ----------------------------------------------------------------------------


def exec_pipeline(folder: Path, processes: int, *args: str) -> str:
    # itwinai is a package: started as a module, like the others.
    return run(folder, processes, "itwinai", "exec-pipeline", *args)


@each_strategy
def test_a_pipeline_in_yaml_trains(folder, strategy, processes):
    need(strategy)
    output = exec_pipeline(
        folder,
        processes,
        *("--config-path", str(folder), "--config-name=config", "--strategy", strategy),
        *("--run-name", "mine", "lr=0.02", "+pipe_key=training_pipeline"),
    )
    assert "ConsoleLogger: train_loss = " in output  # of each batch, since log_freq is 1
    config = (folder / "checkpoints" / "epoch_1" / "config.yaml").read_text()
    assert "optim_lr: 0.02" in config


def test_steps_can_be_chosen(folder):
    output = exec_pipeline(folder, 1, "+pipe_steps=[getter,splitter]")
    assert "'PointsSplitter' executed in" in output
    assert "TorchTrainer" not in output


@pytest.mark.exhaustive
@every_strategy
def test_a_pipeline_in_yaml_runs_a_study(folder, cluster, strategy, processes):
    need(strategy)
    overrides = (f"workers={processes}", "+pipe_key=hpo_pipeline")
    exec_pipeline(folder, 1, "--strategy", strategy, *overrides)
    assert checked(folder).metric == "validation_loss"


# -- a train() of one's own ------------------------------------------------------------------------


@each_strategy
def test_an_own_train_trains(folder, strategy, processes):
    train(folder, "own_train", strategy, processes)
    facts = [
        json.loads((folder / "checkpoints" / f"facts-{rank}.json").read_text())
        for rank in range(processes)
    ]
    assert [fact["world_size"] for fact in facts] == [processes] * processes
    steps = 2 * -(-TRAINING_SAMPLES // (8 * processes))
    assert [fact["steps"] for fact in facts] == [steps] * processes
    assert len({fact["loss"] for fact in facts}) == 1
    assert set(weights(folder / "checkpoints" / "best_model")) == set(
        weights(folder / "checkpoints" / "epoch_1")
    )


@pytest.mark.exhaustive
@every_strategy
def test_an_own_train_runs_a_study(folder, cluster, strategy, processes):
    result = study(folder, "own_train", strategy, processes)
    assert result.metric == "loss"
    for trial in result.trials:
        assert trial.epochs == 2
        assert set(trial.metrics) == {"loss", "last_train_loss"}
    facts = [
        json.loads(file.read_text())
        for file in (folder / "ray_checkpoints" / "user-hpo" / "trials").rglob("facts-*.json")
    ]
    assert [fact["world_size"] for fact in facts] == [processes] * processes * 2
    assert weights(result.best.checkpoint)["layers.0.weight"].shape == (6, 4)


# -- a logger of one's own -------------------------------------------------------------------------


def lines(folder: Path, rank: int) -> list[dict[str, Any]]:
    text = (folder / "mllogs" / f"lines-{rank}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def check_lines(content: list[dict[str, Any]], trainings: int) -> None:
    values = [line for line in content if line.get("name") == "validation_loss_epoch"]
    assert sorted(line["step"] for line in values) == sorted([0, 1] * trainings)
    assert sum("params" in line for line in content) == trainings
    assert sum("end" in line for line in content) == trainings
    assert not any(line.get("name") == "train_loss" for line in content)  # log_freq is "epoch"


@each_strategy
def test_an_own_logger_logs(folder, strategy, processes):
    train(folder, "own_logger", strategy, processes)
    for rank in range(processes):
        check_lines(lines(folder, rank), trainings=1)


@pytest.mark.exhaustive
@every_strategy
def test_an_own_logger_logs_in_a_study(folder, cluster, strategy, processes):
    result = study(folder, "own_logger", strategy, processes)
    for rank in range(processes):
        check_lines(lines(folder, rank), trainings=len(result.trials))
