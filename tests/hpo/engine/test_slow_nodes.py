"""A slow and a broken node of a real Ray of several: named, left out, and nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from rich.console import Console
from test_engine import Nodes, epochs_of, states
from toy_study import EPOCHS, SPACE, ToyProgram, run_toy_study

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.engine import Place, nodes_without, ray_cluster
from itwinai.hpo.engine.nodes import this_node
from itwinai.hpo.launch import plan_study, run_study
from itwinai.hpo.record import load_study
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study.running import RunningTrial
from itwinai.hpo.trial import Assignment, TrialState

#: An epoch takes so many steps of so many seconds.
STEPS, STEP = 25, 0.01


@dataclass
class TwoNodes:
    """Two nodes of two slots each, beside a head without any."""

    cluster: Cluster
    parts: dict[str, Any]

    def lose(self, name: str) -> None:
        """End a node as a failure of its power supply does."""
        self.cluster.remove_node(self.parts[name], allow_graceful=False)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[TwoNodes]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        names = ("node1", "node2")
        parts = {name: cluster.add_node(num_cpus=2, node_name=name) for name in names}
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
        yield TwoNodes(cluster, parts)
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def nodes(two_nodes: TwoNodes) -> Iterator[Nodes]:
    """What they have."""
    with ray_cluster() as found:
        yield found


class Work:
    """Leaves a mark with its process and node, and works a little at each epoch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Work."""
        at = self._folder / this_node()
        at.mkdir(parents=True, exist_ok=True)
        (at / str(os.getpid())).touch()
        for _ in range(STEPS):
            time.sleep(STEP)


@contextmanager
def slowed(folder: Path) -> Iterator[None]:
    """Stop the processes that have left a mark in a folder for four fifths of the time."""
    over = threading.Event()

    def hold() -> None:
        while not over.is_set():
            pids = [int(path.name) for path in folder.glob("*")]
            for number, seconds in ((signal.SIGSTOP, 0.16), (signal.SIGCONT, 0.04)):
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
                over.wait(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for path in folder.glob("*"):
            with suppress(ProcessLookupError):
                os.kill(int(path.name), signal.SIGCONT)


def configured(folder: Path, trials: int, **others: object) -> StudyConfiguration:
    settings = {"mode": "min", "scheduler": "none", "algorithm": "random", "num_samples": trials}
    own = {"storage_path": folder, "resources_per_worker": {"CPU": 1}}
    return StudyConfiguration.model_validate({**settings, **own, **others})


def test_a_node_whose_processes_are_stopped_and_continued_is_left_out(
    tmp_path: Path, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    with slowed(tmp_path / "at" / "node2"):
        program = ToyProgram(Work(tmp_path / "at"))
        study = run_toy_study(configured(tmp_path, 16), nodes, program)
    result = load_study(study.directory)
    assert states(result) == ["completed"] * 16
    # No epoch was trained twice.
    assert [epochs_of(trial) for trial in result.trials] == [list(range(1, EPOCHS + 1))] * 16
    assert result.cost.epochs == 16 * EPOCHS
    (verdict,) = result.nodes
    assert (verdict.node, verdict.kind, verdict.left_out) == ("node2", "slow", True)
    assert "warning: node2 is slow and gets no more trials" in caplog.text
    there = [attempt for attempt in result.attempts if attempt.nodes == ("node2",)]
    assert len(there) >= 3
    assert all(attempt.began < verdict.time for attempt in there)


class FailOn:
    """Raises on one node."""

    def __init__(self, node: str, error: Exception) -> None:
        self._node, self._error = node, error

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Raise, if this is the one."""
        if this_node() == self._node:
            raise self._error
        time.sleep(0.02)


@pytest.mark.exhaustive
@pytest.mark.parametrize("error", [RuntimeError("no CUDA device"), MemoryError()])
def test_trials_that_fail_on_a_broken_node_run_again_elsewhere(
    tmp_path: Path, nodes: Nodes, error: Exception
) -> None:
    """The second one needs new processes as well."""
    program = ToyProgram(FailOn("node2", error))
    study = run_toy_study(configured(tmp_path, 4), nodes, program)
    result = load_study(study.directory)
    assert states(result) == ["completed"] * 4
    failed = {attempt.trial for attempt in result.attempts if attempt.nodes == ("node2",)}
    assert failed
    last = {attempt.trial: attempt.nodes for attempt in result.attempts}
    assert set(last.values()) == {("node1",)}


class WaitForLoss:
    """Holds trials on one node until there is a file, and raises on the other before."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Wait, or raise."""
        if this_node() == "node2" and not self._file.exists():
            raise RuntimeError("no CUDA device")
        while not self._file.exists():
            time.sleep(0.05)


def test_a_node_that_the_user_names_gets_no_trial(tmp_path: Path, nodes: Nodes) -> None:
    configuration = configured(tmp_path, 2, exclude_nodes=["node1"], workers_per_trial=2)
    plan = plan_study(configuration, SearchSpace.parse(SPACE), EPOCHS, None)
    result = run_study(plan, ToyProgram(), Console(quiet=True))
    assert states(result) == ["completed"] * 2
    assert result.setup is not None
    assert result.setup.slots == 1
    assert {attempt.nodes for attempt in result.attempts} == {("node2",)}


def test_a_name_that_no_node_has_is_refused_where_none_can_join(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(nodes_without(["node1"], can_grow=False)) == 2  # node2, and the head
    with pytest.raises(ConfigurationError, match=r"node9: no such node; there are: .*node1, node2"):
        nodes_without(["node1", "node9"], can_grow=False)
    with pytest.raises(ConfigurationError, match="leaves no node"):
        nodes_without([ray.util.get_node_ip_address()], can_grow=False)
    assert len(nodes_without(["node9"], can_grow=True)) == 3
    assert "node9: no such node" in caplog.text


@pytest.mark.exhaustive
def test_trials_that_wait_for_a_node_that_is_lost_run_where_there_is_room(
    tmp_path: Path, two_nodes: TwoNodes, nodes: Nodes
) -> None:
    """Those that failed on node2 wait for node1, which is busy and then lost."""
    file, waiting = tmp_path / "lost", set()

    def lose_node1(trial: RunningTrial, state: TrialState) -> None:
        if state is TrialState.LOST:
            waiting.add(trial.assignment.number)
        elif trial.assignment.number in waiting and not file.exists():
            file.touch()
            two_nodes.lose("node1")

    program = ToyProgram(WaitForLoss(file))
    study = run_toy_study(configured(tmp_path, 4), nodes, program, None, lose_node1)
    assert waiting
    assert states(load_study(study.directory)) == ["completed"] * 4
