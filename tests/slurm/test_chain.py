"""Jobs that go on where their time limit has cut off the one before, on a real Slurm."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from testbed import NODES, Testbed, until

from itwinai.hpo import load_study

pytestmark = pytest.mark.slurm

#: Counts to 100, ten numbers a second, and ends with 75 when it is told to come to an end.
_COUNT = """
import os, sys, time
from pathlib import Path

stop, total = Path(os.environ["ITWINAI_STOP_FILE"]), Path("total-" + os.environ["ITWINAI_RUN"])
begin = int(total.read_text()) if total.exists() else 0
for number in range(begin + 1, 101):
    print("number", number)
    total.write_text(str(number))
    time.sleep(0.1)
    if stop.exists():
        sys.exit(75)
"""

#: A training and its data; an epoch takes as long as the file ``pause`` says.
_SLOW = """
import os
import time
from pathlib import Path
import torch
from itwinai.components import DataGetter
from itwinai.torch.trainer import RayTorchTrainer


class Points(DataGetter):
    def execute(self):
        inputs = torch.rand(64, 4, generator=torch.Generator().manual_seed(0))
        points = torch.utils.data.TensorDataset(inputs, inputs.sum(1, keepdim=True))
        return points, points, None


class Slow(RayTorchTrainer):
    def train_epoch(self):
        time.sleep(float(Path(__file__).with_name("pause").read_text()))
        if self.strategy.is_main_worker:
            print("epoch", self.current_epoch, "of", self.strategy.global_world_size(), flush=True)
        return super().train_epoch()


class Noting(Slow):
    def train_epoch(self):
        found = super().train_epoch()
        trained = self.run_name, os.environ["SLURM_JOB_ID"], str(self.current_epoch + 1)
        with Path(__file__).with_name("trained").open("a") as file:
            file.write(" ".join(trained) + "\\n")
        return found


class SlowSteps(RayTorchTrainer):
    def train_step(self, batch, batch_idx):
        time.sleep(float(Path(__file__).with_name("pause").read_text()))
        if self.strategy.is_main_worker:
            print("step", self.train_glob_step, flush=True)
        return super().train_step(batch, batch_idx)


def line():
    return torch.nn.Linear(4, 1)
"""

#: A function; an epoch takes as long as the file ``pause`` says.
_FUNCTION = """
import time
from pathlib import Path


def train(config, trial):
    w = trial.load() or 0.0
    for _ in trial.epochs():
        time.sleep(float(Path(__file__).with_name("pause").read_text()))
        w += config.rate * (1 - w)
        trial.report({"loss": (1 - w) ** 2}, checkpoint=w)
"""

_TRAINER = {
    "_target_": "slow.Slow",
    "config": {"num_workers_dataloader": 0, "loss": "mse"},
    "epochs": 12,
    "random_seed": 1,
    "model": {"_target_": "slow.line", "_partial_": True},
}


class Jobs:
    """The jobs of one configuration."""

    def __init__(self, bed: Testbed, folder: Path, **content: Any) -> None:
        self.bed = bed
        self.folder = folder
        defaults = {"time": 2, "signal_before_s": 1, "python_venv": sys.prefix}
        (folder / "slurm.yaml").write_text(yaml.safe_dump(defaults | content))

    def do(self, command: str, *arguments: str) -> Any:
        """Run one of the commands; return its JSON."""
        words = [sys.executable, "-m", "itwinai", "slurm", command, "--json", *arguments]
        return json.loads(self.bed.run(words, cwd=self.folder).stdout)

    def warn(self, job: str) -> None:
        """Do what Slurm does when the limit is near."""
        self.bed.run(["scancel", "--signal=USR1", "--batch", job])

    @property
    def links(self) -> list[str]:
        return [job["job"] for job in self.do("status")["jobs"]]

    def log(self, job: str) -> str:
        path = self.folder / f"itwinai-{job}.out"
        return path.read_text() if path.exists() else ""

    def wait_for_line(self, job: str, pattern: str, seconds: float = 60) -> None:
        def trouble() -> str:
            return f"job {job} does not write {pattern!r}:\n{self.log(job)}"

        until(lambda: re.search(pattern, self.log(job)) is not None, seconds, trouble)


@pytest.fixture
def folder(slurm: Testbed, request: pytest.FixtureRequest) -> Path:
    folder = slurm.storage / re.sub(r"\W", "-", request.node.name)
    folder.mkdir()
    return folder


def test_jobs_follow_one_another_until_none_is_left(slurm: Testbed, folder: Path) -> None:
    (folder / "count.py").write_text(_COUNT)
    jobs = Jobs(slurm, folder, kind="plain", command="python count.py", max_continuations=1)
    first = jobs.do("submit")["job"]
    refused = slurm.run(
        [sys.executable, "-m", "itwinai", "slurm", "submit"],
        cwd=folder,
        check=False,
        stderr=subprocess.PIPE,
    )
    assert refused.stderr.startswith(f"error: job {first} of this configuration is ")

    jobs.wait_for_line(first, "number 10")
    jobs.warn(first)
    assert slurm.wait(first).exit_code == 75
    _, second = jobs.links
    jobs.wait_for_line(second, r"number \d")
    jobs.warn(second)
    assert slurm.wait(second).exit_code == 75
    status = jobs.do("status")
    assert [job["state"] for job in status["jobs"]] == ["FAILED", "FAILED"]
    assert status["jobs"][0]["reason"] == f"time is up; job {second} goes on"
    assert status["continuations"] == 0
    assert "max_continuations=1 allows no further job" in jobs.log(second)

    by_hand = shlex.split(re.findall(r"to go on by hand: (.*)", jobs.log(second))[0])
    third = re.findall(r"\d+", slurm.run(["env", *by_hand], cwd=folder).stdout)[0]
    assert slurm.wait(third).exit_code == 0
    numbers = re.findall(r"number (\d+)", jobs.log(first) + jobs.log(second) + jobs.log(third))
    assert list(map(int, numbers)) == list(range(1, 101))
    assert jobs.do("status")["jobs"][-1]["state"] == "COMPLETED"
    modes = {p.name: p.stat().st_mode & 0o777 for p in (folder / "studies" / ".jobs").iterdir()}
    assert modes == {
        "itwinai.json": 0o600,
        "itwinai.sh": 0o600,
        f"{first}.links": 0o600,
        f"{first}.sh": 0o700,
    }


def test_a_warning_that_comes_early_waits_until_it_is_due(slurm: Testbed, folder: Path) -> None:
    (folder / "count.py").write_text(_COUNT.replace("101", "1001"))
    limits = {"time": 1, "signal_before_s": 45, "max_continuations": 0}
    jobs = Jobs(slurm, folder, kind="plain", command="python count.py", **limits)
    job = jobs.do("submit")["job"]
    jobs.wait_for_line(job, "number 10")
    jobs.warn(job)
    assert slurm.wait(job).exit_code == 75
    log = jobs.log(job)
    warned, told = log.index("s until it is told"), log.index("told to come to an end")
    assert log[:warned].count("number") + 10 < log[:told].count("number")


def test_cancelled_jobs_are_not_continued(slurm: Testbed, folder: Path) -> None:
    (folder / "count.py").write_text(_COUNT.replace("sys.exit(75)", "pass"))
    jobs = Jobs(slurm, folder, kind="plain", command="python count.py", max_continuations=1)
    first = jobs.do("submit")["job"]
    jobs.wait_for_line(first, "number 5")
    jobs.warn(first)
    jobs.wait_for_line(first, "told to come to an end")
    assert jobs.do("cancel") == {"cancelled": [first]}
    assert slurm.wait(first).state == "CANCELLED"
    assert jobs.links == [first]
    assert jobs.do("cancel") == {"cancelled": []}

    again = jobs.do("submit", "--resume")["job"]
    assert slurm.wait(again).exit_code == 0
    assert jobs.links == [first, again]
    assert "number 100" in jobs.log(again)
    assert "number 1\n" not in jobs.log(again)


@pytest.mark.exhaustive
def test_a_job_that_was_warned_and_then_cancelled_is_not_continued(
    slurm: Testbed, folder: Path
) -> None:
    (folder / "count.py").write_text(_COUNT.replace("if stop", "if number == 40 and stop"))
    jobs = Jobs(slurm, folder, kind="plain", command="python count.py", max_continuations=1)
    first = jobs.do("submit")["job"]
    jobs.wait_for_line(first, "number 2")
    jobs.warn(first)
    jobs.wait_for_line(first, "told to come to an end")
    slurm.run(["scancel", "--signal=TERM", "--batch", first])  # the command ends by itself
    assert slurm.wait(first).exit_code == 75
    assert jobs.links == [first]


@pytest.mark.exhaustive
def test_a_command_that_does_not_end_in_time_is_continued_as_well(
    slurm: Testbed, folder: Path
) -> None:
    (folder / "count.py").write_text(_COUNT.replace("sys.exit(75)", "time.sleep(1)"))
    # As if a minute had passed: the script believes that its limit is met.
    late = {"pre_exec": ["ends_at=0"], "max_continuations": 1}
    jobs = Jobs(slurm, folder, kind="plain", command="python count.py", **late)
    first = jobs.do("submit")["job"]
    jobs.wait_for_line(first, "number 5")
    jobs.warn(first)
    jobs.wait_for_line(first, "told to come to an end")
    slurm.run(["scancel", "--signal=TERM", "--batch", first])
    jobs.wait_for_line(first, "goes on from here, continuation 1 of 1")
    _, second = jobs.links
    assert (slurm.state(first), slurm.state(second)) == ("RUNNING", "PENDING")
    assert jobs.do("cancel") == {"cancelled": [first, second]}
    assert slurm.wait(first).state == slurm.wait(second).state == "CANCELLED"


@pytest.mark.exhaustive
def test_a_training_on_two_nodes_goes_on_after_its_last_epoch(slurm: Testbed, folder: Path) -> None:
    write_pipeline(folder, "train", _TRAINER)
    (folder / "pause").write_text("0.5")
    command = "itwinai exec-pipeline --config-name train"
    jobs = Jobs(
        slurm, folder, kind="training", command=command, nodes=2, time=5, max_continuations=1
    )
    first = jobs.do("submit")["job"]
    jobs.wait_for_line(first, "epoch 3 of 2")
    jobs.warn(first)
    assert slurm.wait(first).exit_code == 75
    _, second = jobs.links
    assert slurm.wait(second).exit_code == 0, jobs.log(second)
    epochs = re.findall(r"epoch (\d+) of 2", jobs.log(first) + jobs.log(second))
    assert list(map(int, epochs)) == list(range(12))


@pytest.mark.exhaustive
def test_an_epoch_that_is_longer_than_a_job_ends_after_several(
    slurm: Testbed, folder: Path
) -> None:
    """Its 32 steps take four seconds each, and a job has two minutes."""
    trainer = _TRAINER | {"_target_": "slow.SlowSteps", "epochs": 1}
    trainer["config"] = {**_TRAINER["config"], "batch_size": 1, "shuffle_train": True}
    write_pipeline(folder, "train", trainer)
    (folder / "pause").write_text("4")
    command = "itwinai exec-pipeline --config-name train"
    limits = {"time": 2, "signal_before_s": 30, "max_continuations": 9}
    jobs = Jobs(slurm, folder, kind="training", command=command, nodes=2, **limits)
    jobs.do("submit")
    until(lambda: not in_queue(slurm), 500, lambda: "\n".join(map(jobs.log, jobs.links)))
    states = [job["state"] for job in jobs.do("status")["jobs"]]
    assert states == ["FAILED"] * (len(states) - 1) + ["COMPLETED"], jobs.log(jobs.links[-1])
    assert len(states) >= 2
    steps = re.findall(r"step (\d+)\n", "".join(map(jobs.log, jobs.links)))
    assert list(map(int, steps)) == list(range(32)), "a step is trained twice, or left out"


@pytest.mark.exhaustive
def test_a_study_is_finished_by_as_many_jobs_as_it_takes(slurm: Testbed, folder: Path) -> None:
    """The first job meets its limit, the second one is warned, and 24 trials are 24 trials."""
    limits = {"time": 2, "signal_before_s": 30, "max_continuations": 9}
    jobs = study_jobs(slurm, folder, trials=24, **limits)
    first = jobs.do("submit")["job"]
    assert slurm.wait(first, 180).exit_code == 75, jobs.log(first)
    second = jobs.links[1]
    jobs.wait_for_line(second, "trial .* completed", 120)
    jobs.warn(second)
    jobs.wait_for_line(second, "told to come to an end", 120)
    (folder / "pause").write_text("0")
    until(lambda: not in_queue(slurm), 240, lambda: "\n".join(map(jobs.log, jobs.links)))
    status = jobs.do("status")
    assert status["jobs"][-1]["state"] == "COMPLETED", jobs.log(jobs.links[-1])
    assert len(status["jobs"]) >= 3
    assert [study["state"] for study in status["studies"]] == ["finished"]

    # Told in time, a job loses no epoch: each was trained once.
    assert epochs_of_completed(folder, trials=24) == 24 * 12


@pytest.mark.exhaustive
def test_what_begins_in_a_job_reaches_a_rung_or_a_checkpoint(slurm: Testbed, folder: Path) -> None:
    """Four epochs of four seconds to a rung or a checkpoint, in jobs of three minutes."""
    study = {"scheduler": {"name": "asha", "grace_period": 4, "reduction_factor": 2}}
    trainer = {"_target_": "slow.Noting", "epochs": 8, "checkpoint_every": 4}
    limits = {"time": 3, "signal_before_s": 30, "max_continuations": 9}
    jobs = study_jobs(slurm, folder, trials=12, study=study, trainer=trainer, **limits)
    (folder / "pause").write_text("4")
    jobs.do("submit")
    until(lambda: not in_queue(slurm), 900, lambda: "\n".join(map(jobs.log, jobs.links)))
    assert len(jobs.links) >= 2, jobs.log(jobs.links[-1])

    lines = [line.split() for line in (folder / "trained").read_text().splitlines()]
    trained = [(trial, int(epoch)) for trial, _, epoch in lines]
    assert len(trained) == len(set(trained)), "an epoch is trained twice"
    result = load_study(folder / "studies" / "small")
    assert {trial.state.value for trial in result.trials} == {"completed", "stopped"}
    assert len(result.trials) == 12
    assert len(trained) == sum(trial.epochs for trial in result.trials)
    # Whatever began kept an epoch at least, which the next job did not train again.
    assert len(result.attempts) == len({(trial, job) for trial, job, _ in lines})


@pytest.mark.exhaustive
def test_the_study_of_a_function_goes_on_in_the_next_job(slurm: Testbed, folder: Path) -> None:
    (folder / "fitting.py").write_text(_FUNCTION)
    rate = {"type": "uniform", "lower": 0.1, "upper": 0.9}
    study = {"name": "small", "num_samples": 8, "scheduler": "none", "algorithm": "random"}
    content = {"search_space": {"rate": rate}, "config": {"rate": 0.5}, "epochs": 12}
    (folder / "space.yaml").write_text(yaml.safe_dump({**content, "study": study}))
    (folder / "pause").write_text("0.5")
    command = "itwinai hpo run fitting.py:train --space space.yaml --metric loss --mode min"
    limits = {"nodes": 2, "time": 10, "max_continuations": 1}
    jobs = Jobs(slurm, folder, kind="study", command=command, **limits)
    first = jobs.do("submit")["job"]
    jobs.wait_for_line(first, "trial .* completed", 120)
    jobs.warn(first)
    assert slurm.wait(first).exit_code == 75, jobs.log(first)
    _, second = jobs.links
    assert slurm.wait(second, 240).exit_code == 0, jobs.log(second)
    assert epochs_of_completed(folder, trials=8) == 8 * 12


@pytest.mark.exhaustive
@pytest.mark.parametrize("node", ["node1", "node2"])
def test_a_study_goes_on_when_the_node_of_its_driver_was_lost(
    slurm: Testbed, folder: Path, node: str
) -> None:
    jobs = study_jobs(slurm, folder, trials=6, nodes=1, sbatch_options={"nodelist": node})
    job = jobs.do("submit")["job"]
    jobs.wait_for_line(job, "trial .* completed", 120)
    slurm.kill_node(node)
    until(lambda: slurm.state(job) != "RUNNING", 60, lambda: jobs.log(job))
    slurm.start_node(node)
    assert slurm.wait(job, 300).exit_code == 0, jobs.log(job)
    assert jobs.links == [job]
    epochs = epochs_of_completed(folder, trials=6)
    assert epochs <= 6 * 12 + 2 * 2, "more than the current epochs of two trials is lost"


@pytest.mark.exhaustive
def test_a_study_that_had_to_make_room_goes_on(slurm: Testbed, folder: Path) -> None:
    jobs = study_jobs(slurm, folder, trials=6)
    job = jobs.do("submit")["job"]
    jobs.wait_for_line(job, "trial .* completed", 120)
    more_important = slurm.submit("#!/bin/sh\ntrue\n", "--partition=urgent", "--exclusive", "-N2")
    assert slurm.wait(more_important).state == "COMPLETED"
    assert slurm.wait(job, 300).exit_code == 0, jobs.log(job)
    assert jobs.links == [job]
    epochs = epochs_of_completed(folder, trials=6)
    assert epochs <= 6 * 12 + 2 * 2, "more than the current epochs of two trials is lost"


def study_jobs(
    bed: Testbed,
    folder: Path,
    trials: int,
    study: Mapping[str, Any] = MappingProxyType({}),
    trainer: Mapping[str, Any] = MappingProxyType({}),
    **settings: Any,
) -> Jobs:
    """A study of two trials at a time, each with 12 epochs of a second and more."""
    plain = {
        "name": "small",
        "metric": "validation_loss",
        "mode": "min",
        "num_samples": trials,
        "scheduler": "none",
        "algorithm": "random",
        "max_concurrent_trials": 2,
    }
    space = {"optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1}}
    own = {"search_space": space, "study": {**plain, **study}, **trainer}
    write_pipeline(folder, "study", _TRAINER | own)
    (folder / "pause").write_text("1")
    defaults = {"nodes": 2, "cpus_per_task": 1, "time": 10}
    command = "itwinai hpo run --config-name study"
    return Jobs(bed, folder, kind="study", command=command, **{**defaults, **settings})


def epochs_of_completed(folder: Path, trials: int) -> int:
    """Epochs that a study's trials cost, once it has been seen that all of them are complete."""
    result = load_study(folder / "studies" / "small")
    assert [trial.state.value for trial in result.trials] == ["completed"] * trials
    assert [trial.epochs for trial in result.trials] == [12] * trials
    return result.cost.epochs


def in_queue(bed: Testbed) -> list[str]:
    return bed.run(["squeue", "--noheader", "--format=%i"]).stdout.split()


def write_pipeline(folder: Path, name: str, trainer: dict[str, Any]) -> None:
    (folder / "slow.py").write_text(_SLOW)
    steps = {"getter": {"_target_": "slow.Points"}, "trainer": trainer}
    pipeline = {"_target_": "itwinai.pipeline.Pipeline", "steps": steps}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"training_pipeline": pipeline}))


@pytest.fixture(autouse=True)
def _nothing_is_left(slurm: Testbed, folder: Path) -> Any:
    yield
    slurm.run(["scancel", "--user=root"])
    until(
        lambda: not [line for node in NODES for line in slurm.processes(node)],
        60,
        lambda: f"still there: {[slurm.processes(node) for node in NODES]}",
    )
    assert not list((folder / "studies" / ".jobs").glob("*-*"))
