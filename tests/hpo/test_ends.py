"""How trials end badly, pause, or go on, on a real Ray: each end with its reason in the record."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_engine import Nodes, epochs_of, log_of, pids, run, states
from toy_study import ToyProgram

from itwinai.hpo.engine.cluster import ray_cluster
from itwinai.hpo.engine.deadline import ReportDeadline
from itwinai.hpo.engine.ends import ran_out_of_memory, spoils_its_process
from itwinai.hpo.engine.worker import Place
from itwinai.hpo.study import Study
from itwinai.hpo.trial import Assignment


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """One Ray for the whole module."""
    with ray_cluster() as found:
        yield found


def begun_from(study: Study, number: int) -> list[int]:
    """Epochs that each attempt of a trial began with."""
    return [int(epochs) for epochs in re.findall(r"from (\d+) in process", log_of(study, number))]


# -- memory ------------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch names its own."""


class AcceleratorError(RuntimeError):
    """Named as PyTorch names an error after which CUDA refuses everything."""


def chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "out_of_memory", "spoils"),
    [
        (MemoryError(), True, True),
        (OutOfMemoryError("CUDA out of memory."), True, True),
        (chained(ValueError("the batch is too large"), OutOfMemoryError()), True, True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True, True),
        (AcceleratorError("CUDA error: device-side assert triggered"), False, True),
        (ValueError("no"), False, False),
    ],
    ids=repr,
)
def test_errors_are_told_apart(error: BaseException, out_of_memory: bool, spoils: bool) -> None:
    assert (ran_out_of_memory(error), spoils_its_process(error)) == (out_of_memory, spoils)


def test_torch_itself_is_understood() -> None:
    torch = pytest.importorskip("torch")
    assert ran_out_of_memory(torch.OutOfMemoryError())
    assert spoils_its_process(torch.AcceleratorError())
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**62, dtype=torch.uint8)
    assert ran_out_of_memory(raised.value)


class NeedMemory:
    """Asks for too much memory in trial 1, at epoch 3, and says so in words of its own."""

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Raise, if it is that trial's turn."""
        if (assignment.number, epoch) == (1, 3):
            raise ValueError("too large") from OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("max_failures", [0, 3])
def test_a_trial_without_enough_memory_is_not_retried_and_the_next_gets_a_new_process(
    tmp_path: Path, nodes: Nodes, max_failures: int
) -> None:
    study = run(tmp_path, nodes, ToyProgram(NeedMemory()), max_failures=max_failures)
    result = study.result()
    assert states(result) == ["completed", "out of memory", "completed"]
    assert result.trials[1].reason == "ValueError: too large (traceback: trials/00001/log.txt)"
    assert begun_from(study, 1) == [0]
    assert "OutOfMemoryError: CUDA out of memory." in log_of(study, 1)
    first, _, last = (trial.history[0]["pid"] for trial in result.trials)
    assert first != last


# -- hung trials -------------------------------------------------------------------------------


class Hang:
    """Hangs in one trial, at epoch 3."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Wait for a signal that never comes."""
        while (assignment.number, epoch) == (self._number, 3):
            time.sleep(60)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hung_trial_ends_with_its_stacks_and_the_next_gets_a_new_process(
    tmp_path: Path, nodes: Nodes, workers: int
) -> None:
    program = ToyProgram(Hang(1))
    study = run(tmp_path, nodes, program, report_timeout_s=1.5, workers_per_trial=workers)
    result = study.result()
    assert states(result) == ["completed", "hung", "completed"]
    assert result.trials[1].reason == "no report within 1.5 s (stacks: trials/00001/hung.txt)"
    assert epochs_of(result.trials[1]) == [1, 2]
    assert begun_from(study, 1) == [0]
    assert len(pids(result)) == 2
    stacks = (study.directory_of(1) / "hung.txt").read_text()
    assert 'test_ends.py", line' in stacks
    assert [path.parent.name for path in study.directory.rglob("hung.txt")] == ["00001"]


def test_waiting_for_the_study_is_not_hanging(tmp_path: Path) -> None:
    deadline = ReportDeadline(0.05)
    with deadline.watch(tmp_path):
        with deadline.paused():
            time.sleep(0.2)
        assert (tmp_path / "hung.txt").exists()
    time.sleep(0.1)
    assert not (tmp_path / "hung.txt").exists()
