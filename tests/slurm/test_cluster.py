"""Ray across the nodes of a job, on a real Slurm of two nodes."""

from __future__ import annotations

import os
import re
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from testbed import NODES, Testbed, until

from itwinai.hpo.record import load_study
from itwinai.hpo.trial import TrialState
from itwinai.slurm.configuration import SlurmConfiguration
from itwinai.slurm.script import render

pytestmark = pytest.mark.slurm

_HERE = Path(__file__).resolve().parent
_DIGITS = _HERE.parents[1] / "examples" / "digits"

#: A program that says how many nodes it has found, once there are as many as wanted.
_COUNT = """
import sys, time, ray
ray.init(logging_level="ERROR")
while len(ray.nodes()) < int(sys.argv[1]):
    time.sleep(0.2)
print(sorted(node["NodeName"] for node in ray.nodes()), ray.cluster_resources()["CPU"])
sys.exit(int(sys.argv[2]))
"""

_INTRUDER = """
import sys, ray
ray.init(sys.argv[1])
"""


@pytest.fixture
def folder(slurm: Testbed, tmp_path: Path) -> Iterator[Path]:
    """A folder that both nodes see; after the test, nothing that a job has started is left."""
    shared = slurm.storage / tmp_path.name
    shared.mkdir()
    yield shared
    slurm.run(["scancel", "--me"])  # what a failed test has left
    for node in NODES:
        _assert_nothing_left(slurm, node)
    assert not [*shared.rglob("token")]


def _assert_nothing_left(slurm: Testbed, node: str) -> None:
    until(lambda: not slurm.processes(node), 20, lambda: "\n".join(slurm.processes(node)))
    assert not list(slurm.local(node).glob("itwinai_*"))


def _script(folder: Path, command: Sequence[str], **settings: Any) -> str:
    defaults = {"kind": "study", "time": "10", "storage_path": folder, "working_dir": folder}
    chosen = {"python_venv": sys.prefix, "cpus_per_task": 2, "nodes": 2, **settings}
    return render(SlurmConfiguration(command=command, **{**defaults, **chosen}))


@pytest.mark.exhaustive  # so does the one that loses a node
def test_a_study_uses_both_nodes(
    slurm: Testbed, folder: Path, record_property: Callable[[str, object], None]
) -> None:
    pipeline = ["itwinai", "exec-pipeline", "--config-path", str(_DIGITS), "--config-name", "study"]
    trainer = "training_pipeline.steps.trainer"
    smaller = [f"{trainer}.study.num_samples=4", f"{trainer}.epochs=3"]
    job = slurm.submit(_script(folder, [*pipeline, *smaller], cpus_per_task=1))
    busy = set()

    def both_train() -> bool:
        busy.update(node for node in NODES if "ray::Resource" in str(slurm.processes(node)))
        return busy == set(NODES)

    until(both_train, 150, lambda: f"trials on {busy} alone:\n{slurm.output(job)}")
    ended = slurm.wait(job)
    assert ended.exit_code == 0, ended.output
    assert len(load_study(folder / "studies" / "digits").trials) == 4
    seconds = _first_trial(folder / "studies" / "digits") - slurm.start_of(job)
    record_property("seconds from the start of the job to the first trial", seconds)


def _first_trial(study: Path) -> float:
    begin = re.search(r'"datetime_start": ?"([^"]+)"', (study / "record.log").read_text())
    assert begin is not None
    return datetime.fromisoformat(begin[1]).timestamp()


@pytest.mark.exhaustive
def test_the_workers_of_a_trial_are_on_two_nodes_if_one_is_too_small(
    slurm: Testbed, folder: Path
) -> None:
    program = ["python", str(_HERE / "study_program.py"), "2", "1"]
    apart = {"HOME": "/tmp/home"}  # on each node a folder of its own
    job = slurm.submit(_script(folder, program, environment=apart))
    ended = slurm.wait(job)
    assert ended.exit_code == 0, ended.output
    assert _completed(folder) == 1
    hosts = (folder / "hosts").read_text().split()
    assert set(hosts) == set(NODES)


def test_a_lost_node_costs_no_trial(slurm: Testbed, folder: Path) -> None:
    job = slurm.submit(_script(folder, ["python", str(_HERE / "study_program.py"), "1", "4"]))
    hosts = folder / "hosts"
    until(lambda: hosts.exists() and "node2" in hosts.read_text(), 150, lambda: slurm.output(job))
    slurm.kill_node("node2")
    try:
        ended = slurm.wait(job)
        assert ended.exit_code == 0, ended.output
        assert _completed(folder) == 4
    finally:
        slurm.start_node("node2")


@pytest.mark.exhaustive
def test_a_slow_node_of_a_job_is_left_out(slurm: Testbed, folder: Path) -> None:
    job = slurm.submit(_script(folder, ["python", str(_HERE / "study_program.py"), "1", "16"]))
    record = folder / "studies" / "study" / "record.log"
    until(record.exists, 150, lambda: slurm.output(job))
    while "nodes at fault" not in record.read_text() and slurm.state(job) == "RUNNING":
        _hold(slurm, "node2")
    ended = slurm.wait(job, 300)
    assert ended.exit_code == 0, ended.output
    assert "node2 is slow and gets no more trials" in ended.output
    result = load_study(folder / "studies" / "study")
    assert _completed(folder) == 16
    assert result.cost.epochs == 16 * 6  # none was trained twice
    (verdict,) = result.nodes
    there = [attempt.began for attempt in result.attempts if attempt.nodes == ("node2",)]
    assert len(there) >= 3
    assert max(there) < verdict.time


def _hold(slurm: Testbed, node: str) -> None:
    """Stop what trains on a node, for three quarters of a few seconds."""
    workers = [pid for pid, name in slurm.commands(node).items() if name.startswith("ray::")]
    for _ in range(20):
        for number, seconds in ((signal.SIGSTOP, 0.15), (signal.SIGCONT, 0.05)):
            for pid in workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(seconds)


def _completed(folder: Path) -> int:
    trials = load_study(folder / "studies" / "study").trials
    return sum(trial.state is TrialState.COMPLETED for trial in trials)


@pytest.mark.exhaustive
def test_clusters_share_a_node_and_a_later_node_joins_its_own(slurm: Testbed, folder: Path) -> None:
    (folder / "count.py").write_text(_COUNT)
    here = {"nodes": 1, "sbatch_options": {"nodelist": "node1"}}
    growing = slurm.submit(_script(folder, ["python", "count.py", "2", "0"], **here))
    other = slurm.submit(_script(folder, ["python", "count.py", "1", "7"], **here))
    ended = slurm.wait(other)
    assert (ended.exit_code, "['node1'] 2.0" in ended.output) == (7, True)
    meeting = folder / ".jobs" / f"{growing}-0"
    until((meeting / "address").exists, 60, lambda: slurm.output(growing))
    _assert_nobody_else_can_join(slurm, meeting)
    join = f"#!/bin/sh\nexec srun {sys.executable} -m itwinai.slurm.node {meeting}\n"
    later = slurm.submit(join, "--nodelist=node2", "--cpus-per-task=3")
    assert "['node1', 'node2'] 5.0" in slurm.wait(growing).output
    assert slurm.wait(later).state == "COMPLETED"


@pytest.mark.exhaustive
def test_a_study_uses_a_node_that_comes_later(slurm: Testbed, folder: Path) -> None:
    program = ["python", str(_HERE / "study_program.py"), "1", "8"]
    here = {"nodes": 1, "sbatch_options": {"nodelist": "node1"}}
    job = slurm.submit(_script(folder, program, **here))
    hosts = folder / "hosts"
    until(
        lambda: hosts.exists() and hosts.read_text().count("node1") > 1,  # one is the driver's
        100,
        lambda: slurm.output(job),
    )
    meeting = folder / ".jobs" / f"{job}-0"
    join = f"#!/bin/sh\nexec srun {sys.executable} -m itwinai.slurm.node {meeting}\n"
    slurm.submit(join, "--nodelist=node2", "--cpus-per-task=2")
    ended = slurm.wait(job)
    assert ended.exit_code == 0, ended.output
    assert _completed(folder) == 8
    assert "node2" in hosts.read_text()


def _assert_nobody_else_can_join(slurm: Testbed, meeting: Path) -> None:
    """Only who has the token can, and it stands in no command line and no environment."""
    token = (meeting / "token").read_text()
    assert stat.S_IMODE((meeting / "token").stat().st_mode) == 0o600
    seen = [file.read_text() for file in meeting.glob("*.log")]
    for node, name in product(NODES, ("cmdline", "environ")):
        for file in slurm.local(node, "/proc").glob(f"[0-9]*/{name}"):
            with suppress(OSError):  # it has ended since
                seen.append(file.read_text(errors="replace"))
    assert any("RAY_AUTH_TOKEN_PATH" in text for text in seen)
    assert not any(token in text for text in seen)
    address = (meeting / "address").read_text()
    nobody = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of somebody else"}
    refused = slurm.run_on("node2", [sys.executable, "-c", _INTRUDER, address], env=nobody)
    assert "AuthenticationError" in refused


def test_a_node_that_does_not_come_is_named(slurm: Testbed, folder: Path) -> None:
    script = _script(folder, ["true"], node_timeout_s=12)
    node = "python -m itwinai.slurm.node"
    assert node in script
    (folder / "late").write_text(
        f"#!/bin/sh\n[ $(hostname) = node2 ] && exec sleep 20\n{node} $1\n"
    )
    ended = slurm.wait(slurm.submit(script.replace(node, "sh late")))
    assert ended.exit_code == 1
    told = r"error: after 12 s, \d of 2 nodes have joined the cluster. Missing: (node1, )?node2\."
    assert re.search(told, ended.output), ended.output
    assert "node2 has written nothing" in ended.output


@pytest.mark.exhaustive
def test_storage_that_a_node_does_not_share_is_named(slurm: Testbed, folder: Path) -> None:
    apart = Path("/tmp/of-each-node")
    ended = slurm.wait(
        slurm.submit(_script(folder, ["true"], node_timeout_s=30, storage_path=apart))
    )
    assert ended.exit_code == 1
    assert f"does not share {apart}/.jobs" in ended.output
    assert "Missing: node2." in ended.output


@pytest.mark.exhaustive
def test_storage_that_a_node_cannot_write_to_is_named(slurm: Testbed, folder: Path) -> None:
    slurm.run_on("node2", ["mount", "--bind", str(folder), str(folder)])
    slurm.run_on("node2", ["mount", "-o", "remount,bind,ro", str(folder)])
    try:
        ended = slurm.wait(slurm.submit(_script(folder, ["true"], node_timeout_s=15)))
    finally:
        slurm.run_on("node2", ["umount", str(folder)])
    assert ended.exit_code == 1
    assert f"error: node2 cannot write to {folder}/.jobs: [Errno 30] Read-only" in ended.output
    assert "Missing: node2." in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.exhaustive
@pytest.mark.parametrize("pair", range(10))
def test_two_studies_share_a_node(slurm: Testbed, folder: Path, pair: int) -> None:
    here = {"nodes": 1, "sbatch_options": {"nodelist": "node1"}}
    jobs = {}
    for name in ("one", "other"):
        (folder / name).mkdir()
        program = ["python", str(_HERE / "study_program.py"), "1", "4"]
        script = _script(folder / name, program, **here)
        jobs[name] = slurm.submit(script)
    for name, job in jobs.items():
        ended = slurm.wait(job)
        assert ended.exit_code == 0, ended.output
        assert _completed(folder / name) == 4
        assert set((folder / name / "hosts").read_text().split()) == {"node1"}
