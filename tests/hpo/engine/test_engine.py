"""The engine on a real, embedded Ray: slots, ends, lost workers, objects, interrupted drivers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
import ray
import toy_study
from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler, MedianStoppingRule
from ray.tune.search import Repeater, Searcher
from toy_study import EPOCHS, ExpectOnRecord, Kill, Meet, Raise, ToyProgram, run_toy_study

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.engine import Place, ray_cluster
from itwinai.hpo.errors import MissingMetricError
from itwinai.hpo.record import StudyResult, load_study
from itwinai.hpo.study import Study
from itwinai.hpo.trial import Assignment, TrialResult, TrialState

Nodes = list[dict[str, float]]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """One Ray for the whole module."""
    with ray_cluster() as found:
        yield found


def run(
    folder: Path, nodes: Nodes, program: ToyProgram, x: float | None = 0.0, **settings: Any
) -> Study:
    """Run a study, one trial at a time unless told otherwise; its first trial's ``x`` is given."""
    settings = {"mode": "min", "scheduler": "none", "num_samples": 3, "seed": 1} | settings
    settings = {"max_concurrent_trials": 1, "keep_checkpoints": "all"} | settings
    settings = {"algorithm": "random"} | settings
    settings = {"resources_per_worker": {"CPU": 0.5}} | settings
    configuration = StudyConfiguration(storage_path=folder, **settings)
    return run_toy_study(configuration, nodes, program, None if x is None else {"x": x})


def states(result: StudyResult) -> list[str]:
    return [trial.state.value for trial in result.trials]


def epochs_of(trial: TrialResult) -> list[float]:
    return [metrics["epoch_of_training"] for metrics in trial.history]


def pids(result: StudyResult) -> set[float]:
    return {metrics["pid"] for trial in result.trials for metrics in trial.history}


def log_of(study: Study, number: int, name: str = "log.txt") -> str:
    return (study.directory_of(number) / name).read_text()


# -- slots -------------------------------------------------------------------------------------


def test_ray_listens_on_this_machine_only(nodes: Nodes) -> None:
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]


def test_a_ray_that_runs_already_is_used_and_left_running(nodes: Nodes) -> None:
    with ray_cluster() as inner:
        assert [set(node) for node in inner] == [set(node) for node in nodes]
    assert ray.is_initialized()


def test_trials_run_in_one_warm_slot_and_bad_ones_stop_early(tmp_path: Path, nodes: Nodes) -> None:
    study = run(tmp_path, nodes, ToyProgram(), num_samples=6, scheduler="asha")
    result = study.result()
    assert states(result) == ["completed"] + ["stopped"] * 5
    assert [trial.epochs for trial in result.trials] == [EPOCHS] + [2] * 5
    assert epochs_of(result.trials[0]) == [1, 2, 3, 4, 5, 6]
    assert result.best == result.default == result.trials[0]
    assert len(pids(result)) == 1
    (pid,) = pids(result)
    for trial in result.trials:
        assert log_of(study, trial.number) == (
            f"trial {trial.number} from 0 in process {pid:.0f}\n"
        )
    assert load_study(study.directory) == result
    assert not (study.directory / ".tune").exists()


def test_an_epoch_is_on_record_before_the_next_begins(tmp_path: Path, nodes: Nodes) -> None:
    study = run(tmp_path, nodes, ToyProgram(ExpectOnRecord()))
    assert [trial.reason for trial in study.result().trials] == ["trained to the last epoch"] * 3


def test_two_trials_at_a_time_use_two_slots(tmp_path: Path, nodes: Nodes) -> None:
    program = ToyProgram(Meet(tmp_path / "met", 2))
    study = run(tmp_path, nodes, program, num_samples=6, max_concurrent_trials=2)
    assert states(study.result()) == ["completed"] * 6
    assert len(pids(study.result())) == 2


def test_two_workers_train_one_trial_and_rank_0_speaks(tmp_path: Path, nodes: Nodes) -> None:
    study = run(tmp_path, nodes, ToyProgram(), workers_per_trial=2, scheduler="asha")
    result = study.result()
    assert states(result) == ["completed", "stopped", "stopped"]
    assert {m["world_size"] for trial in result.trials for m in trial.history} == {2}
    assert len(pids(result)) == 1
    processes = set()
    for trial in result.trials:
        logs = [log_of(study, trial.number, name) for name in ("log.txt", "log-1.txt")]
        processes |= {log.rsplit(maxsplit=1)[-1] for log in logs}
    assert len(processes) == 2


class RememberInClass:
    """Fails each trial but the first one of its process."""

    trials: ClassVar[list[int]] = []

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        if epoch == 1:
            self.trials.append(assignment.number)
            assert self.trials == [assignment.number]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_with_fresh_processes_no_trial_finds_what_another_left_in_a_class(
    tmp_path: Path, nodes: Nodes, workers: int
) -> None:
    program = ToyProgram(RememberInClass())
    study = run(tmp_path, nodes, program, workers_per_trial=workers, fresh_processes=True)
    assert states(study.result()) == ["completed"] * 3
    logs = [path.read_text() for path in study.directory.glob("trials/*/log*.txt")]
    assert len({log.rsplit(maxsplit=1)[-1] for log in logs}) == 3 * workers
    warm = run(tmp_path / "warm", nodes, program, workers_per_trial=workers)
    assert states(warm.result())[:2] == ["completed", "failed"]


# -- errors and lost workers -------------------------------------------------------------------


def test_an_error_fails_its_trial_with_the_reason_and_the_slot_goes_on(
    tmp_path: Path, nodes: Nodes
) -> None:
    errors = {1: ValueError("x is bad"), 2: SystemExit(3)}
    study = run(tmp_path, nodes, ToyProgram(Raise(errors)), num_samples=4)
    result = study.result()
    assert states(result) == ["completed", "failed", "failed", "completed"]
    assert [t.reason for t in result.trials[1:3]] == [
        "ValueError: x is bad (traceback: trials/00001/log.txt)",
        "SystemExit: 3 (traceback: trials/00002/log.txt)",
    ]
    assert result.trials[1].epochs == 2
    assert len(pids(result)) == 1
    log = log_of(study, 1)
    assert log.startswith("trial 1 from 0 in process")
    assert "Traceback (most recent call last)" in log
    assert log.endswith("ValueError: x is bad\n")
    assert "Traceback" not in log_of(study, 3)


def test_an_error_of_any_rank_fails_the_trial_and_the_next_gets_new_processes(
    tmp_path: Path, nodes: Nodes
) -> None:
    program = ToyProgram(Raise({1: ValueError("x is bad")}, rank=1))
    study = run(tmp_path, nodes, program, workers_per_trial=2)
    result = study.result()
    assert states(result) == ["completed", "failed", "completed"]
    reason = "ValueError: x is bad (rank 1, traceback: trials/00001/log-1.txt)"
    assert result.trials[1].reason == reason
    assert log_of(study, 1, "log-1.txt").endswith("ValueError: x is bad\n")


@pytest.mark.parametrize(("workers", "rank"), [(1, 0), (2, 1)])
def test_a_killed_worker_costs_no_trial_and_no_finished_epoch(
    tmp_path: Path, nodes: Nodes, workers: int, rank: int
) -> None:
    program = ToyProgram(Kill(times=1, rank=rank))
    study = run(tmp_path, nodes, program, num_samples=1, workers_per_trial=workers)
    result = study.result()
    assert states(result) == ["completed"]
    assert epochs_of(result.trials[0]) == [1, 2, 3, 4, 5, 6]
    assert result.cost.epochs == EPOCHS
    beginnings = re.findall(r"from (\d) in process", log_of(study, 0))
    assert beginnings[0] == "0"
    # Rank 0 may have been ahead of the rank that died.
    assert int(beginnings[1]) >= 2


def test_a_trial_that_loses_its_worker_too_often_is_lost(tmp_path: Path, nodes: Nodes) -> None:
    program = ToyProgram(Kill(times=9))
    study = run(tmp_path, nodes, program, num_samples=1, max_failures=1)
    (trial,) = study.result().trials
    assert (trial.state, trial.epochs) == (TrialState.LOST, 2)
    assert trial.reason == "its worker was lost 2 times (study.max_failures=1)"
    assert len(list((study.directory_of(0) / "killed").iterdir())) == 2


def test_a_metric_that_is_never_reported_ends_the_study(tmp_path: Path, nodes: Nodes) -> None:
    study = run(tmp_path, nodes, ToyProgram(), metric="accuracy", num_samples=50)
    assert isinstance(study.fatal, MissingMetricError)
    assert "Reported: done, epoch_of_training, pid, validation_loss, world_size" in str(study.fatal)
    assert len(study.result().trials) <= 2


# -- objects -----------------------------------------------------------------------------------


class ListSearcher(Searcher):  # type: ignore[misc]
    """Proposes from a list; like Ray's OptunaSearch it knows no trial but its own."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = values
        self.live: dict[str, list[float]] = {}
        self.heard: list[tuple[list[float], float]] = []
        self.failed: list[bool] = []

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        self._metric = metric
        self.domains = config
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        if not self.values:
            return str(Searcher.FINISHED)
        self.live[trial_id] = []
        return {"x": self.values.pop(0)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.live[trial_id].append(result[self._metric])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        assert result is not None
        self.heard.append((self.live.pop(trial_id), result[self._metric]))
        self.failed.append(error)


def test_a_ray_searcher_proposes_and_hears_of_its_own_trials(tmp_path: Path, nodes: Nodes) -> None:
    searcher = ListSearcher([0.5, 0.25])
    study = run(tmp_path, nodes, ToyProgram(), algorithm=searcher, num_samples=9)
    result = study.result()
    # The default first; then the searcher's, until it says that it has no more.
    assert [trial.params["x"] for trial in result.trials] == [0.0, 0.5, 0.25]
    assert states(result) == ["completed"] * 3
    assert list(searcher.domains) == ["x"]
    assert searcher.heard == [
        ([x + 1 / epoch for epoch in range(1, EPOCHS + 1)], x + 1 / EPOCHS) for x in (0.5, 0.25)
    ]


def test_a_ray_searcher_hears_which_of_its_trials_have_failed(tmp_path: Path, nodes: Nodes) -> None:
    searcher = ListSearcher([0.5, 0.25])
    program = ToyProgram(Raise({1: ValueError("x is bad")}))
    study = run(tmp_path, nodes, program, algorithm=searcher, num_samples=3)
    assert states(study.result()) == ["completed", "failed", "completed"]
    assert searcher.failed == [True, False]


class RaysExample(Searcher):  # type: ignore[misc]
    """Written as the example in Ray's documentation is: it takes less than Ray offers."""

    def __init__(self, metric: str = "loss", mode: str = "min") -> None:
        super().__init__(metric=metric, mode=mode)
        self.known: dict[str, float | None] = {}

    def suggest(self, trial_id: str) -> dict[str, float]:
        self.known[trial_id] = None
        return {"x": len(self.known) / 4}

    def on_trial_complete(self, trial_id: str, result: Any, **kwargs: Any) -> None:
        self.known[trial_id] = result[self.metric]


def test_a_searcher_after_rays_example_and_a_repeater_of_it(tmp_path: Path, nodes: Nodes) -> None:
    searcher = RaysExample()
    run(tmp_path, nodes, ToyProgram(), algorithm=searcher, num_samples=3)
    assert list(searcher.known.values()) == [x + 1 / EPOCHS for x in (0.25, 0.5)]
    repeated = RaysExample()
    study = run(
        tmp_path / "again", nodes, ToyProgram(), algorithm=Repeater(repeated, 2), num_samples=5
    )
    trials = study.result().trials
    assert [trial.params["x"] for trial in trials] == [0.0, 0.25, 0.25, 0.5, 0.5]
    assert list(repeated.known.values()) == [x + 1 / EPOCHS for x in (0.25, 0.5)]


@pytest.mark.parametrize(
    ("proposal", "words"),
    [
        ({"x": 5.0}, r"x=5\.0 lies outside the search space: .*'upper': 1"),
        ({"x": 0.5, "y": 1}, "y: not in the search space; known names: x"),
        ({}, "no value for x"),
    ],
)
def test_a_searcher_that_leaves_the_space_is_told(
    tmp_path: Path, nodes: Nodes, proposal: dict[str, Any], words: str
) -> None:
    class Astray(RaysExample):
        def suggest(self, trial_id: str) -> dict[str, Any]:
            return proposal

    study = run(tmp_path, nodes, ToyProgram(), algorithm=Astray(), num_samples=3)
    begin = r"study\.algorithm\(Astray\) proposed what is no point of the search space: "
    assert re.match(begin + words, str(study.fatal))
    assert [trial.is_default for trial in study.result().trials] == [True]


def test_rays_own_optuna_search_runs(tmp_path: Path, nodes: Nodes) -> None:
    from ray.tune.search.optuna import OptunaSearch

    study = run(tmp_path, nodes, ToyProgram(), algorithm=OptunaSearch(seed=3), num_samples=4)
    assert states(study.result()) == ["completed"] * 4
    assert len({trial.params["x"] for trial in study.result().trials}) == 4


@pytest.mark.parametrize(
    ("scheduler", "epochs"),
    [
        (ASHAScheduler(grace_period=2, reduction_factor=2), 2),
        (MedianStoppingRule("training_iteration", grace_period=3, min_samples_required=1), 3),
    ],
    ids=["ASHAScheduler", "MedianStoppingRule"],
)
def test_a_ray_scheduler_stops_bad_trials_after_its_grace_period(
    tmp_path: Path, nodes: Nodes, scheduler: Any, epochs: int
) -> None:
    study = run(tmp_path, nodes, ToyProgram(), scheduler=scheduler)
    result = study.result()
    assert states(result) == ["completed", "stopped", "stopped"]
    assert [trial.epochs for trial in result.trials] == [EPOCHS, epochs, epochs]
    name = type(scheduler).__name__
    assert {trial.reason for trial in result.trials[1:]} == {f"{name} after epoch {epochs}"}


def test_a_ray_scheduler_that_pauses_trials_goes_on_with_the_good_ones(
    tmp_path: Path, nodes: Nodes
) -> None:
    study = run(
        tmp_path,
        nodes,
        ToyProgram(Meet(tmp_path / "met", 5)),
        num_samples=5,
        # A bracket of two trials that train to the end, and one that pauses after an epoch.
        scheduler=HyperBandScheduler(max_t=EPOCHS, reduction_factor=6),
        max_concurrent_trials=5,
        resources_per_worker={"CPU": 0.25},
    )
    result = study.result()
    assert states(result)[:2] == ["completed"] * 2
    assert sorted(states(result)[2:]) == ["completed", "stopped", "stopped"]
    best_of_bracket = min(result.trials[2:], key=lambda trial: trial.params["x"])
    assert best_of_bracket.state is TrialState.COMPLETED
    for trial in result.trials:
        complete = trial.state is TrialState.COMPLETED
        assert (trial.epochs == EPOCHS) is complete
        assert epochs_of(trial) == list(range(1, trial.epochs + 1))
        if not complete:
            assert trial.reason == f"HyperBandScheduler after epoch {trial.epochs}"
    assert result.best is not None
    assert result.best.state is TrialState.COMPLETED


def test_an_optuna_sampler_and_pruner_decide_as_objects(tmp_path: Path, nodes: Nodes) -> None:
    study = run(
        tmp_path,
        nodes,
        ToyProgram(),
        x=None,
        num_samples=9,  # the sampler itself ends the study
        algorithm=optuna.samplers.GridSampler({"x": [0.25, 0.75]}, seed=0),
        scheduler=optuna.pruners.ThresholdPruner(upper=1.5),
    )
    found = {trial.params["x"]: trial for trial in study.result().trials}
    assert len(study.result().trials) == 2
    assert found[0.25].state is TrialState.COMPLETED
    assert found[0.75].state is TrialState.STOPPED
    assert found[0.75].reason == "ThresholdPruner after epoch 1"


# -- drivers that end in the middle ------------------------------------------------------------


class Driver:
    """``toy_study.py`` in a process group of its own, as a shell would start it."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, toy_study.__file__, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.rest = ""
        self.ray_folder = self.wait_for(r"ray (\S+)")

    def wait_for(self, pattern: str) -> str:
        """Read what it prints until a line matches; return the match's group."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.fullmatch(pattern, line.strip()):
                return found.group(1)
        raise AssertionError(f"the driver ended without printing {pattern!r}")

    def end(self) -> int:
        """Read the rest of what it prints and return its exit status."""
        self.rest, _ = self.process.communicate(timeout=90)
        return self.process.returncode

    def left_behind(self) -> list[str]:
        """Command lines of this driver's Ray processes that still live."""
        return [
            _read(folder / "cmdline").replace(b"\0", b" ").decode() for folder in self._processes()
        ]

    def sweep(self) -> None:
        """End what Ray has left of a driver that was killed, in place of waiting for it."""
        for folder in self._processes():
            with suppress(ProcessLookupError):
                os.kill(int(folder.name), signal.SIGKILL)
        shutil.rmtree(self.ray_folder, ignore_errors=True)

    def _processes(self) -> list[Path]:
        mark = f"RAY_TMPDIR={self.ray_folder}".encode()
        numbered = [folder for folder in Path("/proc").iterdir() if folder.name.isdigit()]
        return [f for f in numbered if mark in _read(f / "environ").split(b"\0")]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return b""


def _none_left(driver: Driver) -> list[str]:
    deadline = time.monotonic() + 90
    while (left := driver.left_behind()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.mark.parametrize(
    "by",
    [
        pytest.param(signal.SIGINT, id="ctrl-c", marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGTERM, id="kill", marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGHUP, id="closed terminal", marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGKILL, id="kill-9"),
    ],
)
def test_a_study_whose_driver_ended_in_the_middle_is_resumed_to_the_same_total(
    tmp_path: Path, by: signal.Signals
) -> None:
    driver = Driver(tmp_path)
    # Trial 2 now waits in its fourth epoch.
    driver.wait_for("(trial) 2 3 running")
    if by is signal.SIGINT:
        os.killpg(driver.process.pid, by)  # a terminal tells the whole group
    else:
        driver.process.send_signal(by)
    driver.end()
    assert "***" not in driver.rest  # stacks of Ray's libraries, which say nothing to a user
    study = tmp_path / "study"
    before = load_study(study)
    left_open = "running" if by is signal.SIGKILL else "interrupted"
    assert states(before)[2] == left_open
    assert set(states(before)) <= {"completed", left_open}

    # At once, while Ray's processes of the first one may still be noticing its end.
    (tmp_path / "go").touch()
    second = Driver(tmp_path)
    assert second.end() == 0
    result = load_study(study)
    assert states(result) == ["completed"] * 5
    assert [epochs_of(trial) for trial in result.trials] == [[1, 2, 3, 4, 5, 6]] * 5
    assert [trial.number for trial in result.trials if trial.is_default] == [0]
    completed = [trial for trial in before.trials if trial.state is TrialState.COMPLETED]
    assert [result.trials[trial.number] for trial in completed] == completed
    assert re.findall(r"from (\d)", (study / "trials/00002/log.txt").read_text()) == ["0", "3"]
    assert _none_left(driver) == []
    assert _none_left(second) == []
    shutil.rmtree(driver.ray_folder, ignore_errors=True)  # kill -9 leaves it
