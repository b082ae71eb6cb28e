"""A study in the tracking services: its run, its trials' and their workers', each with its end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from small_trainings import make_data, options

from itwinai.hpo import load_study
from itwinai.hpo.display.summary import summary
from itwinai.hpo.engine import ray_cluster
from itwinai.hpo.errors import StudyInterrupted
from itwinai.hpo.record import StudyResult
from itwinai.hpo.trial import TrialState
from itwinai.loggers import Logger, LoggersCollection, MLFlowLogger, TensorBoardLogger
from itwinai.torch.trainer import RayTorchTrainer

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("tensorboard")

DATA = (make_data(40), make_data(20, seed=8))
EPOCHS = 3
LR = {"optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 0.3}}
#: How a trial's run ends that could say so itself.
ENDS = {TrialState.COMPLETED: "FINISHED", TrialState.STOPPED: "KILLED"}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ray_cluster():
        yield


class BrokenLogger(Logger):
    """A service that is away: nothing can be logged, from the start to the end."""

    def _metric(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        raise ConnectionError(f"no route for {identifier}")

    _writers: ClassVar = {"metric": _metric}


class Ending(RayTorchTrainer):
    """Trains, or ends as its trial is told to."""

    ends: Mapping[int, str] = {}
    driver: int = 0
    marker: Path | None = None

    def train_epoch(self) -> Any:
        number = int(self.run_name.rsplit("-", 1)[1])
        # Trials that go on after their end have a checkpoint to go on from.
        if self.current_epoch == int(self.marker is not None) and number in self.ends:
            self.end(self.ends[number])
        return super().train_epoch()

    def end(self, how: str) -> None:
        if how == "raise":
            raise ValueError("own bug")
        if self.marker is not None:
            if self.marker.exists():
                return
            self.marker.touch()
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os.kill(self.driver, signal.SIGINT)


def study_trainer(folder: Path, logger: Logger | None, **study: Any) -> Ending:
    settings = {
        "name": "small",
        "storage_path": folder / "studies",
        "metric": "validation_loss",
        "mode": "min",
        "num_samples": 2,
        "algorithm": "random",
        "scheduler": "none",
        "seed": 1,
        "max_concurrent_trials": 1,
    }
    trainer = Ending(
        **options(folder, epochs=EPOCHS, logger=logger, time_ray=True),
        search_space=LR,
        study=settings | study,
    )
    trainer.driver = os.getpid()
    return trainer


def run(trainer: Ending) -> StudyResult:
    trainer.execute(*DATA)
    assert trainer.study_result is not None
    return trainer.study_result


@dataclass(frozen=True)
class Runs:
    """All of MLflow's runs, by name."""

    by_name: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path) -> Runs:
        client = mlflow.MlflowClient(tracking_uri=(folder / "mlflow").as_uri())
        (experiment,) = client.search_experiments(filter_string="name = 'default_experiment'")
        runs = list(client.search_runs([experiment.experiment_id]))
        by_name = {run.info.run_name: run for run in runs}
        assert len(by_name) == len(runs)
        return cls(by_name)

    @property
    def states(self) -> dict[str, str]:
        return {name: run.info.status for name, run in self.by_name.items()}

    @property
    def ids(self) -> dict[str, str]:
        return {name: run.info.run_id for name, run in self.by_name.items()}

    @property
    def parents(self) -> dict[str, str | None]:
        names = {run_id: name for name, run_id in self.ids.items()}
        tags = {name: run.data.tags for name, run in self.by_name.items()}
        return {name: names.get(tags[name].get("mlflow.parentRunId")) for name in names.values()}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyResult, Runs, Path]:
    """Trials with all kinds of ends; trial 2 raises, the process of trial 3 is killed."""
    folder = tmp_path_factory.mktemp("study")
    trainer = study_trainer(
        folder,
        LoggersCollection([MLFlowLogger(folder), TensorBoardLogger(folder), BrokenLogger()]),
        num_samples=7,
        max_failures=0,
        scheduler={"name": "asha", "grace_period": 1, "reduction_factor": 2},
    )
    trainer.ends = {2: "raise", 3: "kill"}
    result = run(trainer)
    return result, Runs.of(folder), folder


def test_the_study_has_one_run_and_each_trial_one_below_it(study: Any) -> None:
    result, runs, _ = study
    trials = {f"trial-{trial.number}": "small" for trial in result.trials}
    assert runs.parents == {"small": None, **trials}
    for trial in result.trials:
        run = runs.by_name[f"trial-{trial.number}"]
        assert run.data.tags["itwinai.trial"] == str(trial.number)
        assert run.data.tags["itwinai.study"] == "small"
        assert run.data.params["optim_lr"] == str(trial.params["optim_lr"])


def test_the_seconds_of_a_timed_study_and_of_its_reports_are_logged(study: Any) -> None:
    _, runs, _ = study
    assert runs.by_name["small"].data.metrics["ray_fit_time_s"] > 0
    assert runs.by_name["trial-0"].data.metrics["ray_report_time_s_per_epoch"] > 0


def test_every_run_has_the_end_that_its_trial_had(study: Any) -> None:
    result, runs, _ = study
    states = [trial.state for trial in result.trials]
    assert states[2:4] == [TrialState.FAILED, TrialState.LOST]
    assert {TrialState.COMPLETED, TrialState.STOPPED} <= set(states)
    # The process of trial 3 was killed, so the driver ended its run.
    assert runs.states == {
        "small": "FINISHED",
        **{f"trial-{t.number}": ENDS.get(t.state, "FAILED") for t in result.trials},
    }


def test_the_studys_run_tells_what_was_searched_and_found(study: Any) -> None:
    result, runs, _ = study
    run = runs.by_name["small"]
    assert run.data.params == {
        "metric": "validation_loss",
        "mode": "min",
        "algorithm": "random",
        "scheduler": "asha",
        "epochs": "3",
        "trials": "7",
        "space.optim_lr": json.dumps(LR["optim_lr"]),
    }
    assert result.best is not None
    loss = result.best.metrics["validation_loss"]
    assert run.data.metrics["best_validation_loss"] == loss
    assert run.data.tags["itwinai.best_trial"] == str(result.best.number)
    assert run.data.tags["best.optim_lr"] == str(result.best.params["optim_lr"])


def test_tensorboard_has_a_folder_per_trial_in_the_studys(study: Any) -> None:
    result, _, folder = study
    folders = sorted(path.name for path in (folder / "tensorboard/small").iterdir())
    assert folders == [f"trial-{trial.number}" for trial in result.trials]
    assert [path.name for path in (folder / "tensorboard").iterdir()] == ["small"]


def test_a_logger_that_fails_changes_no_result_and_is_in_the_summary(
    study: Any, tmp_path: Path
) -> None:
    result, _, folder = study
    trainer = study_trainer(
        tmp_path,
        None,
        num_samples=7,
        max_failures=0,
        scheduler={"name": "asha", "grace_period": 1, "reduction_factor": 2},
    )
    trainer.ends = {2: "raise", 3: "kill"}
    without = run(trainer)
    assert [(t.state, t.history) for t in without.trials] == [
        (t.state, t.history) for t in result.trials
    ]
    # Of each epoch: loss and two metrics of training and validation, the loss over all ranks, and
    # the times of the epoch and of its report.
    failures = 9 * sum(trial.epochs for trial in result.trials)
    (line,) = (line for line in str(summary(result)).splitlines() if line.startswith("loggers"))
    assert f"{failures} failures of BrokenLogger, the first: could not log 'train_" in line
    assert "(ConnectionError: no route for train_" in line
    assert "loggers" not in str(summary(without))
    assert line in str(summary(load_study(folder / "studies/small")))


def test_a_resumed_study_and_its_trials_go_on_with_their_runs(tmp_path: Path) -> None:
    def trainer(**study: Any) -> Ending:
        one = study_trainer(tmp_path, MLFlowLogger(tmp_path), num_samples=3, **study)
        one.ends, one.marker = {1: "interrupt"}, tmp_path / "interrupted"
        return one

    with pytest.raises(StudyInterrupted):
        run(trainer())
    before = Runs.of(tmp_path)
    assert before.states == {"small": "KILLED", "trial-0": "FINISHED", "trial-1": "KILLED"}

    result = run(trainer(resume=True))
    after = Runs.of(tmp_path)
    assert after.states == dict.fromkeys(["small", "trial-0", "trial-1", "trial-2"], "FINISHED")
    assert {name: after.ids[name] for name in before.ids} == before.ids
    assert after.parents["trial-2"] == "small"
    assert not list((tmp_path / "studies/small/trials").glob("*/logger-failures.json"))
    assert result.best is not None


@pytest.mark.exhaustive
def test_a_trial_whose_worker_was_lost_goes_on_with_its_run(tmp_path: Path) -> None:
    trainer = study_trainer(tmp_path, MLFlowLogger(tmp_path))
    trainer.ends, trainer.marker = {1: "kill"}, tmp_path / "killed"
    result = run(trainer)
    assert [trial.state for trial in result.trials] == [TrialState.COMPLETED] * 2
    assert Runs.of(tmp_path).states == dict.fromkeys(["small", "trial-0", "trial-1"], "FINISHED")


@pytest.mark.exhaustive
def test_each_worker_that_logs_has_a_run_below_its_trials(tmp_path: Path) -> None:
    loggers = [MLFlowLogger(tmp_path, log_on_workers=-1), TensorBoardLogger(tmp_path)]
    trainer = study_trainer(
        tmp_path,
        LoggersCollection(loggers),
        num_samples=1,
        workers_per_trial=2,
        resources_per_worker={"CPU": 0.5},
    )
    run(trainer)
    runs = Runs.of(tmp_path)
    workers = ["trial-0-worker-0", "trial-0-worker-1"]
    assert runs.parents == {
        "small": None,
        "trial-0": "small",
        **dict.fromkeys(workers, "trial-0"),
    }
    assert set(runs.states.values()) == {"FINISHED"}
    for rank, name in enumerate(workers):
        tags = runs.by_name[name].data.tags
        assert (tags["itwinai.worker"], tags["itwinai.trial"]) == (str(rank), "0")
        assert "train_loss_epoch" in runs.by_name[name].data.metrics
    assert [path.name for path in (tmp_path / "tensorboard/small").iterdir()] == ["trial-0"]
