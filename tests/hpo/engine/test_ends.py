"""How trials end badly, pause, or go on, on a real Ray: each end with its reason in the record."""

from __future__ import annotations

import errno
import logging
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_engine import Nodes, epochs_of, log_of, pids, run, states
from toy_study import ToyProgram

from itwinai.hpo.engine import Place, ray_cluster
from itwinai.hpo.engine.deadline import ReportDeadline
from itwinai.hpo.engine.ends import (
    is_of_the_machine,
    ran_out_of_memory,
    spoils_its_process,
)
from itwinai.hpo.engine.output import captured_output
from itwinai.hpo.study import Study
from itwinai.hpo.trial import Assignment, TrialState
from itwinai.reporting import Reporter


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


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (chained(ValueError("cannot save"), OSError(errno.EDQUOT, "Disk quota exceeded")), True),
        (RuntimeError("write: Read-only file system"), True),
        (RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamReader failed"), False),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False),
        (ValueError("no"), False),
    ],
    ids=repr,
)
def test_what_the_machine_lacks_is_no_fault_of_a_training(
    tmp_path: Path, error: BaseException, lacking: bool
) -> None:
    assert is_of_the_machine(error, tmp_path) is lacking


def test_any_error_is_the_machines_where_no_file_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "trials").touch()  # a file in place of a folder
    assert is_of_the_machine(ValueError("no"), tmp_path / "trials" / "00001")


def test_torchs_own_files_on_a_full_disk_are_understood(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(RuntimeError) as raised:
            torch.save({"weight": torch.zeros(10**6)}, tmp_path / "model.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_of_the_machine(raised.value, tmp_path)


class Spoil:
    """Raises, in trial 1 at epoch 3, what makes a process unfit for other trials."""

    def __init__(self, cause: type[Exception]) -> None:
        self._cause = cause

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Raise, if it is that trial's turn."""
        if (assignment.number, epoch) == (1, 3):
            raise ValueError("no") from self._cause("CUDA says no")


@pytest.mark.parametrize(
    ("cause", "state", "max_failures"),
    [(OutOfMemoryError, "out of memory", 0), (AcceleratorError, "failed", 3)],
)
def test_an_error_that_spoils_its_process_is_not_retried_and_the_next_trial_gets_a_new_one(
    tmp_path: Path, nodes: Nodes, cause: type[Exception], state: str, max_failures: int
) -> None:
    study = run(tmp_path, nodes, ToyProgram(Spoil(cause)), max_failures=max_failures)
    result = study.result()
    assert states(result) == ["completed", state, "completed"]
    assert result.trials[1].reason == "ValueError: no (traceback: trials/00001/log.txt)"
    assert begun_from(study, 1) == [0]
    assert f"{cause.__name__}: CUDA says no" in log_of(study, 1)
    first, _, last = (trial.history[0]["pid"] for trial in result.trials)
    assert first != last


class UnspeakableError(Exception):
    """Has a mistake in what should describe it."""

    def __str__(self) -> str:
        return "code " + self.args[1]  # type: ignore[no-any-return]


class RaiseUnspeakably:
    """Raises, in trials 1 to 3 at epoch 3, what cannot be described, written or printed."""

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Raise, if it is a trial's turn."""
        if epoch != 3 or not 1 <= assignment.number <= 3:
            return
        if assignment.number == 1:
            raise UnspeakableError
        print("a file named \udcff")  # noqa: T201
        if assignment.number == 2:
            raise ValueError("a file named \udcff")
        sys.stdout.close()
        raise SystemExit(0)


def test_no_way_out_of_a_training_but_its_end_is_an_end(tmp_path: Path, nodes: Nodes) -> None:
    study = run(
        tmp_path, nodes, ToyProgram(RaiseUnspeakably()), num_samples=5, max_concurrent_trials=1
    )
    trials = study.result().trials
    assert [trial.state.value for trial in trials] == ["completed", *["failed"] * 3, "completed"]
    assert [trial.reason for trial in trials[1:4]] == [
        "UnspeakableError: (its text cannot be made: IndexError) (traceback: trials/00001/log.txt)",
        r"ValueError: a file named \udcff (traceback: trials/00002/log.txt)",
        "SystemExit: 0 (traceback: trials/00003/log.txt)",
    ]
    assert r"a file named \udcff" in log_of(study, 3)


def test_a_log_that_cannot_be_written_costs_the_log(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with captured_output(tmp_path / "file/log.txt"):
        print("lost")  # noqa: T201
    assert (tmp_path / "file").read_text() == ""


def test_what_keeps_the_stream_of_a_trial_prints_where_the_next_one_does(tmp_path: Path) -> None:
    with captured_output(tmp_path / "first.txt"):
        handler = logging.StreamHandler()
    with captured_output(tmp_path / "second.txt"):
        handler.emit(logging.makeLogRecord({"msg": "of the second"}))
    assert not (tmp_path / "first.txt").exists()
    assert (tmp_path / "second.txt").read_text() == "of the second\n"


# -- hung trials -------------------------------------------------------------------------------


class Hang:
    """Hangs in one trial, at epoch 3."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Wait for a signal that never comes."""
        while (assignment.number, epoch) == (self._number, 3):
            time.sleep(60)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
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


# -- lost workers ------------------------------------------------------------------------------


class DieWhileStopping(ToyProgram):
    """Kills its process while trial 1, told to stop, is ending: the next has its slot already."""

    def __call__(self, assignment: Assignment, place: Place, reporter: Reporter) -> None:
        """Train."""
        super().__call__(assignment, place, reporter)
        mark = Path(assignment.directory, "killed")
        if assignment.number == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("max_failures", [1, 3])
def test_a_trial_whose_slot_was_dead_before_it_began_goes_on_in_another(
    tmp_path: Path, nodes: Nodes, max_failures: int
) -> None:
    program = DieWhileStopping()
    study = run(tmp_path, nodes, program, scheduler="asha", max_failures=max_failures)
    assert states(study.result()) == ["completed", "stopped", "stopped"]
    assert begun_from(study, 2) == [0]
    assert len(pids(study.result())) == 2


def test_workers_that_cannot_load_the_program_say_why(tmp_path: Path, nodes: Nodes) -> None:
    program = ToyProgram(Unloadable())
    study = run(tmp_path, nodes, program, num_samples=1, max_failures=0)
    (trial,) = study.result().trials
    reason = "its worker was lost once (study.max_failures=0): ImportError: no such library"
    assert (trial.state, trial.reason) == (TrialState.LOST, reason)


class Unloadable:
    """Can be loaded in no other process."""

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Do nothing."""

    def __reduce__(self) -> Any:
        """Load with an error."""
        return _fail_to_load, ()


def _fail_to_load() -> None:
    raise ImportError("no such library")


# -- paused trials -----------------------------------------------------------------------------


def test_a_population_pauses_goes_on_and_copies(tmp_path: Path, nodes: Nodes) -> None:
    scheduler = {"name": "pbt", "interval": 2}
    study = run(tmp_path, nodes, ToyProgram(), num_samples=8, scheduler=scheduler, algorithm="pbt")
    result = study.result()
    copies = [trial for trial in result.trials if trial.parent is not None]
    assert len(result.trials) == 8 + len(copies)
    assert set(states(result)) == {"completed", "stopped"}
    assert states(result).count("stopped") == len(copies)
    for trial in result.trials:
        begins = begun_from(study, trial.number)
        assert epochs_of(trial) == list(range(1, trial.epochs + 1))
        assert begins == list(range(begins[0], max(trial.epochs, 1), 2))
        assert (begins[0] > 0) is (trial.parent is not None)
        # A copy begins with a checkpoint of its own.
        assert begins[0] == 0 or (study.directory_of(trial.number) / f"epoch_{begins[0]}").exists()


def test_the_best_paused_trial_is_trained_to_its_end(tmp_path: Path, nodes: Nodes) -> None:
    study = run(tmp_path, nodes, ToyProgram(), num_samples=8, scheduler={"name": "pasha"})
    result = study.result()
    assert states(result) == ["completed"] + ["stopped"] * 7
    assert begun_from(study, 0) == [0, 2]
    assert epochs_of(result.trials[0]) == [1, 2, 3, 4, 5, 6]


class Dawdle:
    """Takes two seconds for the first epoch of one trial."""

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Wait."""
        if (assignment.number, epoch) == (0, 1):
            time.sleep(2)


def test_a_free_slot_waits_for_a_trial_that_may_go_on_without_using_the_processor(
    tmp_path: Path, nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.process_time()
    scheduler = {"name": "pasha"}
    study = run(tmp_path, nodes, ToyProgram(Dawdle()), scheduler=scheduler, max_concurrent_trials=2)
    assert time.process_time() - start < 1.5
    result = study.result()
    assert len(result.trials) == 3
    assert states(result).count("completed") == 1
    assert "WARNING" not in capsys.readouterr().err
