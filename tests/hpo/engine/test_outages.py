"""What a machine lacks is no fault of a trial: a real full disk, no descriptors, a lost process."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from test_engine import Nodes, epochs_of, log_of, run, states
from toy_study import EPOCHS, SPACE, Kill, ToyProgram, run_toy_study

from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.engine import Place, ray_cluster
from itwinai.hpo.launch import plan_study, run_study
from itwinai.hpo.record import StudyRecord, load_study
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study.running import RunningTrial
from itwinai.hpo.trial import Assignment, TrialState


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """One Ray for the whole module."""
    with ray_cluster() as found:
        yield found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(place)]
    subprocess.run(mount, check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> None:
    """Take all its space, as another program might.

    Raises:
        OSError: At the end.
    """
    with open(disk / "other", "ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


class FillDisk:
    """In trial 1 at epoch 3, the first times, has the disk full."""

    def __init__(self, disk: Path, times: int = 1) -> None:
        self._disk, self._times = disk, times

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Write until there is no space left."""
        marks = self._disk.parent / "marks"
        marks.mkdir(exist_ok=True)
        if (assignment.number, epoch) == (1, 3) and len(list(marks.iterdir())) < self._times:
            (marks / str(len(list(marks.iterdir())))).touch()
            fill(self._disk)


def settings(disk: Path, **others: object) -> StudyConfiguration:
    values = {
        "storage_path": disk,
        "mode": "min",
        "scheduler": "none",
        "algorithm": "random",
        "num_samples": 3,
        "seed": 1,
        "max_concurrent_trials": 1,
        "resources_per_worker": {"CPU": 0.5},
        "keep_checkpoints": "all",
    }
    return StudyConfiguration.model_validate(values | others)


def free(disk: Path) -> None:
    (disk / "other").unlink(missing_ok=True)


def test_a_full_disk_holds_a_study_until_there_is_space_and_costs_no_trial(
    disk: Path, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[tuple[int, str, int]] = []

    def make_room(trial: RunningTrial, state: TrialState) -> None:
        if state is not TrialState.RUNNING:
            ends.append((trial.assignment.number, state.value, trial.epochs))
            free(disk)

    study = run_toy_study(settings(disk), nodes, ToyProgram(FillDisk(disk)), {"x": 0.0}, make_room)
    assert ends == [
        (0, "completed", 6),
        (1, "interrupted", 2),
        (1, "completed", 6),
        (2, "completed", 6),
    ]
    result = load_study(study.directory)
    assert states(result) == ["completed"] * 3
    assert [epochs_of(trial) for trial in result.trials] == [list(range(1, EPOCHS + 1))] * 3
    assert "trial 1 from 2" in log_of(study, 1)
    assert "No space left on device" in caplog.text
    assert "is there again: the study goes on" in caplog.text


def test_a_lack_that_passes_while_ray_tune_ends_costs_no_trial(
    disk: Path, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_tune = tune.run

    def end_slowly(*given: Any, **named: Any) -> None:
        run_tune(*given, **named)
        free(disk)
        threading.Event().wait(1.5)  # the study looks for what is lacking once a second

    monkeypatch.setattr(tune, "run", end_slowly)
    study = run_toy_study(settings(disk), nodes, ToyProgram(FillDisk(disk)), {"x": 0.0})
    assert states(load_study(study.directory)) == ["completed"] * 3


class DieOnAFullDisk(FillDisk):
    """Has the disk full, and kills its process."""

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Leave no space, and nobody who could say so."""
        try:
            super().__call__(assignment, place, epoch)
        except OSError:
            os.kill(os.getpid(), signal.SIGKILL)


def test_notes_of_ray_tune_that_a_full_disk_cuts_short_end_no_study(
    disk: Path, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[int] = []
    run_tune = tune.run

    def run_and_free(*given: Any, **named: Any) -> None:
        run_tune(*given, **named)
        notes.extend(path.stat().st_size for path in disk.rglob("error.pkl"))
        free(disk)

    monkeypatch.setattr(tune, "run", run_and_free)
    once = settings(disk, max_failures=0)
    study = run_toy_study(once, nodes, ToyProgram(DieOnAFullDisk(disk)), {"x": 0.0})
    assert notes == [0]  # of the process that was lost
    assert states(load_study(study.directory)) == ["completed", "lost", "completed"]


def test_a_disk_that_stays_full_ends_a_study_which_can_be_resumed(disk: Path, nodes: Nodes) -> None:
    impatient = settings(disk, outage_timeout_s=0)
    study = run_toy_study(impatient, nodes, ToyProgram(FillDisk(disk)), {"x": 0.0})
    assert study.interrupted
    assert "No space left on device" in study.lack
    before = load_study(study.directory)
    free(disk)
    again = run_toy_study(settings(disk, resume=True), nodes, ToyProgram(), {"x": 0.0})
    result = load_study(again.directory)
    assert states(result) == ["completed"] * 3
    assert [epochs_of(trial) for trial in result.trials] == [list(range(1, EPOCHS + 1))] * 3
    assert result.trials[0] == before.trials[0]


def test_what_a_full_disk_does_not_take_of_a_record_is_written_when_there_is_space(
    disk: Path,
) -> None:
    record, other = StudyRecord(disk / "record.log"), StudyRecord(disk.parent / "record.log")
    entries = [{"op_code": 5, "worker_id": "w", "n": n, "text": "x" * 1000} for n in range(80)]
    for n, entry in enumerate(entries):
        if n == 40:
            with pytest.raises(OSError, match="No space"):
                fill(disk)
        if n == 60:
            assert record.problem == "No space left on device"
            free(disk)
            record.sync()
        record.append_logs([entry])
        other.append_logs([entry])
    record.close()
    other.close()
    assert record.problem == ""
    assert record.path.read_bytes() == other.path.read_bytes()


class UseUpDescriptors:
    """In trial 1 at epoch 3 opens files until there are no descriptors, if its process is fresh."""

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Open files, and keep them."""
        mark = Path(assignment.directory) / "used"
        if (assignment.number, epoch) == (1, 3) and not mark.exists():
            mark.touch()
            kept = len(os.listdir("/proc/self/fd"))
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (kept + 8, most))
            self._kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]


def test_a_trial_without_descriptors_goes_on_in_a_new_process(tmp_path: Path, nodes: Nodes) -> None:
    study = run(tmp_path, nodes, ToyProgram(UseUpDescriptors()))
    result = study.result()
    assert states(result) == ["completed"] * 3
    pids = [metrics["pid"] for metrics in result.trials[1].history]
    assert (len({*pids[:2]}), len({*pids[2:]}), len({*pids})) == (1, 1, 2)


class FillFrom:
    """Has the disk full in trial 1 at epoch 3, each time."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Write until there is no space left, and make room at once."""
        if (assignment.number, epoch) == (1, 3):
            try:
                fill(self._disk)
            finally:
                free(self._disk)


@pytest.mark.exhaustive
def test_a_trial_that_meets_it_each_time_is_left_for_a_resume_and_the_others_run(
    disk: Path, nodes: Nodes
) -> None:
    configuration = settings(disk, max_failures=1, fail_fast=1)
    study = run_toy_study(configuration, nodes, ToyProgram(FillFrom(disk)), {"x": 0.0})
    assert states(load_study(study.directory)) == ["completed", "interrupted", "completed"]
    assert log_of(study, 1).count("trial 1 from") == 2


def test_a_lost_trial_runs_again_when_its_study_is_resumed(tmp_path: Path, nodes: Nodes) -> None:
    lost = run(tmp_path, nodes, ToyProgram(Kill(times=1)), num_samples=1, max_failures=0)
    assert states(lost.result()) == ["lost"]
    study = run(tmp_path, nodes, ToyProgram(), num_samples=1, resume=True)
    (trial,) = study.result().trials
    assert (trial.state, trial.epochs) == (TrialState.COMPLETED, EPOCHS)
    assert "trial 0 from 2" in log_of(study, 0)


def test_a_disk_without_room_for_the_checkpoints_is_refused_before_anything_starts(
    disk: Path, nodes: Nodes
) -> None:
    plan = plan_study(settings(disk), SearchSpace.parse(SPACE), EPOCHS, {"x": 0.0})
    with pytest.raises(ConfigurationError, match=r"1 MiB are free, .* need 2 MiB"):
        run_study(plan, ToyProgram(), checkpoint_bytes=600_000)
    assert list(disk.iterdir()) == []
    assert states(run_study(plan, ToyProgram(), checkpoint_bytes=200_000)) == ["completed"] * 3


#: A disk whose files reach it slowly.
SLOW_FSYNC = '#include <unistd.h>\nextern "C" int fsync(int) { usleep(1200000); return 0; }\n'

PLAN = """
import sys
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.launch import plan_study
from itwinai.hpo.space import SearchSpace
space = SearchSpace.parse({"x": {"type": "uniform", "lower": 0, "upper": 1}})
plan_study(StudyConfiguration(storage_path=sys.argv[1], mode="min"), space, 3, None)
"""


def test_a_slow_disk_is_named_before_the_start(tmp_path: Path) -> None:
    library = tmp_path / "slow.so"
    compiler = ["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
    subprocess.run(compiler, input=SLOW_FSYNC, text=True, check=True)
    said = [
        subprocess.run(
            [sys.executable, "-c", PLAN, str(tmp_path)],
            env={**os.environ, **preload},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        ).stdout
        for preload in ({}, {"LD_PRELOAD": str(library)})
    ]
    assert "is slow" not in said[0]
    assert re.search(r"study.storage_path='.*' is slow: a file of five bytes took 1\.\d s", said[1])
