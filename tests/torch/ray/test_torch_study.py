"""Studies of trainers, on one Ray that is started for this file."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MethodType
from typing import Any

import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import train as ray_train
from ray import tune
from small_trainings import MLP, make_data, options
from torch import nn

from itwinai.errors import ConfigurationError
from itwinai.hpo import load_study
from itwinai.hpo.engine import ray_cluster
from itwinai.hpo.errors import (
    StudyInterrupted,
    TrialsFailedError,
    UnusedParameterError,
)
from itwinai.hpo.record import StudyResult
from itwinai.hpo.trial import TrialState
from itwinai.loggers import MLFlowLogger
from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer

DATA = (make_data(60), make_data(35, seed=8), make_data(21, seed=9))
COMPLETED, STOPPED = TrialState.COMPLETED, TrialState.STOPPED
EPOCHS = 4

SPACE = {
    "optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 0.3},
    "optimizer": {"type": "choice", "categories": ["adam", "sgd"]},
    "batch_size": {"type": "choice", "categories": [8, 16]},
    "width": {"type": "randint", "lower": 2, "upper": 9},
    "dropout": {"type": "uniform", "lower": 0.0, "upper": 0.5},
}
LR = {"optim_lr": SPACE["optim_lr"]}
DEFAULT = {"optim_lr": 0.01, "optimizer": "adam", "batch_size": 16, "width": 8, "dropout": 0.0}

#: Of the users' own programs: lives as long as a process.
TRAININGS: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ray_cluster():
        yield


class Looking(RayTorchTrainer):
    """Also tells of the process that it trains in."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        TRAININGS.append(self.name)

    def train_step(self, batch: Any, batch_idx: int) -> tuple[Any, dict[str, Any]]:
        loss, metrics = super().train_step(batch, batch_idx)
        here = {"threads": torch.get_num_threads(), "trainings": len(TRAININGS)}
        return loss, metrics | here


class Recording(TorchTrainer):
    """A training alone that keeps its epochs' metrics."""

    def validation_epoch(self) -> Any:
        loss = super().validation_epoch()
        self.history.append(dict(self.epoch_metrics))
        return loss


def trained_alone(folder: Path, **changes: Any) -> list[dict[str, float]]:
    trainer = Recording(**options(folder, epochs=EPOCHS, **changes))
    trainer.history = []
    trainer.execute(*DATA[:2])
    return trainer.history


def study_trainer(
    folder: Path,
    kind: type[RayTorchTrainer] = RayTorchTrainer,
    space: Mapping[str, Any] = LR,
    study: Mapping[str, Any] | None = None,
    **changes: Any,
) -> RayTorchTrainer:
    """A trainer of small studies, which run one trial at a time."""
    settings = {
        "storage_path": folder / "studies",
        "metric": "validation_loss",
        "mode": "min",
        "num_samples": 2,
        "algorithm": "random",
        "scheduler": "none",
        "seed": 1,
        "max_concurrent_trials": 1,
    }
    changes = {"epochs": EPOCHS, **changes}
    return kind(
        **options(folder, **changes), search_space=space, study=settings | dict(study or {})
    )


def run(trainer: TorchTrainer, *datasets: Any) -> StudyResult:
    trainer.execute(*(datasets or DATA[:2]))
    result: StudyResult = trainer.study_result  # type: ignore[attr-defined]
    return result


def losses(result: StudyResult) -> list[list[float]]:
    return [[metrics["loss"] for metrics in trial.history] for trial in result.trials]


def run_states(folder: Path) -> dict[str, str]:
    """How the trials' runs of MLflow ended, by name."""
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=(folder / "mlflow").as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'default_experiment'")
    runs = client.search_runs([experiment.experiment_id], "tags.`itwinai.trial` != ''")
    states = {run.info.run_name: run.info.status for run in runs}
    assert len(states) == len(runs)
    return states


# -- a study from the beginning to the end ---------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[RayTorchTrainer, Any, Path]:
    """A study with everything in it, what it returned, and where it is."""
    pytest.importorskip("mlflow")
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    folder = tmp_path_factory.mktemp("study")
    trainer = study_trainer(
        folder,
        Looking,
        SPACE,
        {
            "name": "small",
            "num_samples": 7,
            "scheduler": {"name": "asha", "grace_period": 1, "reduction_factor": 2},
        },
        config={"width": 8, "dropout": 0.0},
        logger=MLFlowLogger(savedir=folder),
        test_every=1,
    )
    return trainer, trainer.execute(*DATA), folder


def test_a_study_and_its_result(study: Any) -> None:
    trainer, returned, folder = study
    result: StudyResult = trainer.study_result
    assert returned[:3] == DATA
    assert (result.name, result.metric, result.mode) == ("small", "validation_loss", "min")
    assert (result.epochs, len(result.trials)) == (EPOCHS, 7)
    assert result.record == folder / "studies/small/record.log"
    for number, trial in enumerate(result.trials):
        assert trial.number == number
        assert set(trial.params) == set(SPACE)
        assert trial.is_default == (number == 0)
        ends = {
            COMPLETED: (EPOCHS, "trained to the last epoch"),
            STOPPED: (trial.epochs, f"asha after epoch {trial.epochs}"),
        }
        assert (trial.epochs, trial.reason) == ends[trial.state]
    assert {trial.state for trial in result.trials} == {COMPLETED, STOPPED}
    assert result.default is not None
    assert result.default.params == DEFAULT
    assert result.best is not None
    completed = [trial for trial in result.trials if trial.state is COMPLETED]
    assert result.best.metrics["validation_loss"] == min(
        trial.metrics["validation_loss"] for trial in completed
    )
    if result.default.state is COMPLETED:
        default_loss = result.default.metrics["validation_loss"]
        assert result.best.metrics["validation_loss"] <= default_loss
    assert result.cost.epochs == sum(trial.epochs for trial in result.trials)


def test_every_trial_is_a_training_like_one_alone(study: Any, tmp_path: Path) -> None:
    trainer, _, _ = study
    for trial in trainer.study_result.trials:
        told = [dict(metrics) for metrics in trial.history]
        for metrics in told:
            # All trials were trained in one process, and its globals are the user's.
            assert metrics.pop("train_trainings") == trial.number + 1
            assert metrics.pop("train_threads") == len(os.sched_getaffinity(0))
        # To the last bit: no weights, random numbers, values or metrics of an earlier trial.
        alone = trained_alone(tmp_path / str(trial.number), config=dict(trial.params))
        assert told == alone[: trial.epochs]
        assert set(told[0]) == {
            f"{stage}_{name}"
            for stage in ("train", "validation")
            for name in ("loss", "accuracy", "error")
        }


def test_the_model_that_comes_back_is_that_of_the_best_trial(study: Any) -> None:
    trainer, (*_, model), folder = study
    best = trainer.study_result.best
    assert type(model) is MLP
    assert not model.training
    assert (best.checkpoint.name, best.checkpoint_epochs) == (f"epoch_{EPOCHS - 1}", EPOCHS)
    assert best.checkpoint.parent == folder / f"studies/small/trials/{best.number:05d}"
    kept = torch.load(best.checkpoint / "model.pt", weights_only=True)
    assert kept.keys() == model.state_dict().keys()
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    inputs, targets = DATA[1].tensors
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(inputs), targets).item()
    assert loss == pytest.approx(best.metrics["validation_loss"], abs=1e-6)
    # The others' are gone, and so is what Ray wrote.
    assert len(list(folder.glob("studies/small/trials/*/epoch_*"))) == 1
    assert sorted(path.name for path in (folder / "studies/small").iterdir()) == [
        "record.log",
        "trials",
    ]
    # The trainer itself is as it was.
    assert trainer.model is MLP
    assert trainer.config.optim_lr == DEFAULT["optim_lr"]


def test_a_training_that_stops_early_leaves_the_model_of_its_last_epoch(tmp_path: Path) -> None:
    after_two = {"early_stopping_patience": 1, "early_stopping_min_delta": 100.0}
    one = {"num_samples": 1}
    trainer = study_trainer(tmp_path, study=one, config=after_two, checkpoint_every=3)
    *_, model = trainer.execute(*DATA[:2])
    best = trainer.study_result.best
    assert (best.epochs, best.checkpoint_epochs) == (2, 2)
    inputs, targets = DATA[1].tensors
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(inputs), targets).item()
    assert loss == pytest.approx(best.metrics["validation_loss"], abs=1e-6)


def test_the_study_is_read_back_by_us_and_by_plain_optuna(study: Any) -> None:
    trainer, _, folder = study
    result = trainer.study_result
    assert load_study(folder / "studies/small") == result
    storage = JournalStorage(JournalFileBackend(str(result.record)))
    plain = optuna.load_study(study_name="small", storage=storage)
    assert plain.best_value == result.best.metrics["validation_loss"]
    assert len(plain.trials) == 7
    for trial in result.trials:
        of_optuna = plain.trials[trial.number]
        assert of_optuna.params == trial.params
        expected = optuna.trial.TrialState.COMPLETE
        if trial.state is STOPPED:
            expected = optuna.trial.TrialState.PRUNED
        assert of_optuna.state == expected
        reported = [metrics["validation_loss"] for metrics in trial.history]
        assert list(of_optuna.intermediate_values.values()) == reported


def test_each_trial_has_a_run_of_its_own(study: Any) -> None:
    trainer, _, folder = study
    status = {COMPLETED: "FINISHED", STOPPED: "KILLED"}
    assert run_states(folder) == {
        f"trial-{trial.number}": status[trial.state] for trial in trainer.study_result.trials
    }


def test_the_same_seed_proposes_the_same(study: Any, tmp_path: Path) -> None:
    trainer, _, _ = study
    first = [trial.params for trial in trainer.study_result.trials]
    again = study_trainer(
        tmp_path,
        space=SPACE,
        study={"num_samples": 7},
        config={"width": 8, "dropout": 0.0},
        epochs=1,
    )
    assert [trial.params for trial in run(again).trials] == first
    assert len({trial["optim_lr"] for trial in first}) == 7


# -- the arguments of existing user code -----------------------------------------------------------


def ray_arguments(folder: Path, space: Mapping[str, Any], **tune_options: Any) -> dict[str, Any]:
    return options(folder, epochs=EPOCHS) | {
        "ray_search_space": space,
        "ray_tune_config": tune.TuneConfig(max_concurrent_trials=1, **tune_options),
        "ray_run_config": tune.RunConfig(name="old", storage_path=str(folder / "studies")),
        "ray_scaling_config": ray_train.ScalingConfig(
            num_workers=1, resources_per_worker={"CPU": 1}
        ),
    }


def test_ray_arguments_give_the_same_kind_of_study(tmp_path: Path) -> None:
    trainer = TorchTrainer(
        **ray_arguments(
            tmp_path,
            {"optim_lr": tune.loguniform(1e-4, 0.3), "width": tune.choice([4, 6])},
            metric="validation_accuracy",
            mode="max",
            num_samples=4,
            scheduler=tune.schedulers.ASHAScheduler(
                grace_period=1, reduction_factor=2, max_t=EPOCHS
            ),
        )
    )
    *datasets, model = trainer.execute(*DATA)
    result: StudyResult = trainer.study_result  # type: ignore[attr-defined]
    assert datasets == [*DATA]
    assert load_study(tmp_path / "studies/old") == result
    assert (result.metric, result.mode, len(result.trials)) == ("validation_accuracy", "max", 4)
    assert result.best is not None
    assert {trial.state for trial in result.trials} <= {COMPLETED, STOPPED}
    assert type(model) is MLP
    assert model.layers[0].out_features == result.best.params["width"]
    default, *sampled = result.trials
    # The model's own default counts as one of the configuration.
    assert default.is_default
    assert default.params == {"optim_lr": 0.01, "width": 8}
    for trial in sampled:
        assert trial.params["width"] in (4, 6)
        assert 1e-4 <= trial.params["optim_lr"] <= 0.3
        assert not trial.is_default


def test_a_grid_of_rays_runs_each_point_once_and_loss_means_validation_loss(
    tmp_path: Path,
) -> None:
    space = {"optim_lr": {"grid_search": [0.001, 0.1]}, "width": {"grid_search": [2, 4]}}
    result = run(TorchTrainer(**ray_arguments(tmp_path, space)))
    points = [(trial.params["optim_lr"], trial.params["width"]) for trial in result.trials]
    assert points == [(0.01, 8), (0.001, 2), (0.001, 4), (0.1, 2), (0.1, 4)]
    assert (result.metric, result.mode) == ("loss", "min")
    assert result.best is not None
    assert result.best.metrics["validation_loss"] == min(
        trial.metrics["validation_loss"] for trial in result.trials
    )
    assert result.best.metric("loss") == result.best.metrics["validation_loss"]


# -- hooks of the users' own -----------------------------------------------------------------------


def one_cycle(trainer: TorchTrainer) -> Any:
    """A schedule that must know an epoch's steps."""
    return torch.optim.lr_scheduler.OneCycleLR(
        trainer.optimizer,
        max_lr=trainer.config.optim_lr,
        epochs=EPOCHS,
        steps_per_epoch=len(trainer.train_dataloader),
    )


class OwnTrain(TorchTrainer):
    """A loop of the user's own, which keeps its state with its reports."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.lr_scheduler = one_cycle(self)

    def train(self) -> None:
        begin = 0
        if self.from_checkpoint is not None:
            kept = torch.load(Path(self.from_checkpoint, "data.pt"), weights_only=True)
            self.model.load_state_dict(kept["weights"])
            begin = kept["epochs"]
        for epoch in range(begin, self.epochs):
            interrupt_once(self, epoch)
            loss = self.train_epoch()
            data = {"weights": self.model.state_dict(), "epochs": epoch + 1}
            self.ray_report({"loss": loss, "epoch": epoch}, checkpoint_data=data)


class OwnRay(OwnTrain, RayTorchTrainer):
    """The same, for a study."""


class Interrupting(RayTorchTrainer):
    def train_epoch(self) -> Any:
        interrupt_once(self, self.current_epoch)
        return super().train_epoch()


def interrupt_once(trainer: Any, epoch: int) -> None:
    """Press ctrl-c in the driver's terminal, in the third epoch of trial 1."""
    driver = getattr(trainer, "driver", None)
    if driver is None or epoch != 2 or not trainer.run_name.endswith("-1"):
        return
    process, marker = driver
    if not marker.exists():
        marker.touch()
        os.kill(process, signal.SIGINT)


def test_own_train_reports_under_ray_arguments(tmp_path: Path) -> None:
    arguments = ray_arguments(tmp_path, {"optim_lr": tune.uniform(0.01, 0.1)}, num_samples=2)
    result = run(OwnTrain(**arguments))
    assert [trial.state for trial in result.trials] == [COMPLETED] * 2
    for trial in result.trials:
        assert [metrics["epoch"] for metrics in trial.history] == [0, 1, 2, 3]
        assert trial.metrics["loss"] < trial.history[0]["loss"]
    assert result.best is not None
    assert result.best.checkpoint is not None
    kept = torch.load(result.best.checkpoint / "data.pt", weights_only=True)
    assert (kept["epochs"], result.best.checkpoint_epochs) == (EPOCHS, EPOCHS)


def test_train_of_one_instance_is_replaced_and_save_checkpoint_counts(tmp_path: Path) -> None:
    def own_train(self: TorchTrainer) -> None:
        for epoch in range(self.epochs):
            self.current_epoch = epoch
            loss = self.train_epoch()
            self.save_checkpoint("newest" if epoch % 2 else "other")
            self.save_checkpoint("mine", checkpoints_root=tmp_path / f"mine-{self.run_name}")
            self.ray_report({"loss": loss, "own": 1.0})

    arguments = ray_arguments(tmp_path, {"optim_lr": tune.uniform(0.01, 0.1)}, num_samples=2)
    trainer = TorchTrainer(**arguments)
    trainer.train = MethodType(own_train, trainer)  # type: ignore[method-assign]
    result = run(trainer)
    assert [trial.metrics["own"] for trial in result.trials] == [1.0, 1.0]
    assert result.best is not None
    assert result.best.checkpoint is not None
    assert (result.best.checkpoint.name, result.best.checkpoint_epochs) == ("newest", EPOCHS)
    # What was put elsewhere is the user's.
    for number in (0, 1):
        assert (tmp_path / f"mine-trial-{number}/mine/model.pt").exists()


@pytest.mark.parametrize("kind", [Interrupting, pytest.param(OwnRay, marks=pytest.mark.exhaustive)])
def test_an_interrupted_study_is_resumed_to_the_same_total(tmp_path: Path, kind: Any) -> None:
    metric = {"metric": "loss", "num_samples": 3}
    trainer = study_trainer(tmp_path, kind, study=metric)
    trainer.driver = (os.getpid(), tmp_path / "interrupted")
    with pytest.raises(StudyInterrupted) as caught:
        trainer.execute(*DATA[:2])
    assert str(caught.value) == (
        "study 'study' was interrupted after 1 trials; the same command with study.resume=true "
        "goes on to the same total"
    )
    cut = load_study(tmp_path / "studies/study")
    assert [trial.state for trial in cut.trials] == [COMPLETED, TrialState.INTERRUPTED]
    assert cut.trials[1].epochs in (2, 3)
    assert cut.trials[1].checkpoint_epochs == cut.trials[1].epochs

    resumed = study_trainer(tmp_path, kind, study=metric | {"resume": True})
    result = run(resumed)
    assert [trial.state for trial in result.trials] == [COMPLETED] * 3
    assert [trial.params for trial in result.trials[:2]] == [t.params for t in cut.trials]
    assert [trial.epochs for trial in result.trials] == [EPOCHS] * 3
    assert result.trials[1].history[: cut.trials[1].epochs] == cut.trials[1].history
    # No epoch that was on record was trained twice.
    assert result.cost.epochs == 3 * EPOCHS
    assert len(list((tmp_path / "studies/study/trials").glob("*/*_*"))) == 1
    if kind is OwnRay:
        assert [metrics["epoch"] for metrics in result.trials[1].history] == [0, 1, 2, 3]
    else:
        # As if it had never been interrupted.
        alone = trained_alone(tmp_path / "alone", config=dict(result.trials[1].params))
        assert list(result.trials[1].history) == alone


def cut_off(checkpoint: Path) -> None:
    content = (checkpoint / "model.pt").read_bytes()
    (checkpoint / "model.pt").write_bytes(content[: len(content) // 2])


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", [cut_off, shutil.rmtree])
def test_a_trial_whose_checkpoint_is_damaged_begins_again(tmp_path: Path, damage: Any) -> None:
    metric = {"metric": "loss", "num_samples": 2}
    trainer = study_trainer(tmp_path, Interrupting, study=metric)
    trainer.driver = (os.getpid(), tmp_path / "interrupted")
    with pytest.raises(StudyInterrupted):
        trainer.execute(*DATA[:2])
    cut = load_study(tmp_path / "studies/study").trials[1]
    assert cut.checkpoint is not None
    damage(cut.checkpoint)

    trial = run(study_trainer(tmp_path, Interrupting, study=metric | {"resume": True})).trials[1]
    assert (trial.state, trial.epochs) == (COMPLETED, EPOCHS)
    assert trial.history[: cut.epochs] == cut.history
    assert list(trial.history) == trained_alone(tmp_path / "alone", config=dict(trial.params))


# -- what goes wrong -------------------------------------------------------------------------------


class Forgetful(RayTorchTrainer):
    """Reads ``temperature`` but not what the study samples."""

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        self.config.get("temperature")
        return super().train_step(batch, batch_idx)


class KilledTwice(RayTorchTrainer):
    """Notes its steps; is killed in the middle of its first epoch, and of its second."""

    def train_step(self, batch: Any, batch_idx: int) -> tuple[Any, dict[str, Any]]:
        mark = self.run_directory / f"killed-{self.train_glob_step}"
        if self.train_glob_step in (2, 6) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.run_directory / "steps").open("a") as file:
            file.write(f"{self.train_glob_step}\n")
        return super().train_step(batch, batch_idx)


@pytest.mark.exhaustive
def test_a_trial_that_is_lost_in_the_middle_of_an_epoch_goes_on_there(tmp_path: Path) -> None:
    study = {"num_samples": 1, "max_failures": 2}
    trainer = study_trainer(tmp_path, KilledTwice, study=study, checkpoint_every_steps=1)
    (trial,) = run(trainer).trials
    folder = tmp_path / "studies/study/trials/00000"
    assert (folder / "steps").read_text().split() == [str(step) for step in range(4 * EPOCHS)]
    assert trial.state is COMPLETED
    config = {"optim_lr": trial.params["optim_lr"]}
    alone = trained_alone(tmp_path / "alone", config=config, random_seed=1)
    assert [dict(metrics) for metrics in trial.history] == alone
    assert [path.name for path in folder.glob("epoch_*")] == [f"epoch_{EPOCHS - 1}"]


def test_a_sampled_key_that_nothing_reads_ends_the_study(tmp_path: Path) -> None:
    space = {"temprature": {"type": "uniform", "lower": 0, "upper": 1}, **LR}
    trainer = study_trainer(
        tmp_path, Forgetful, space, {"num_samples": 5}, config={"temperature": 1.0}
    )
    with pytest.raises(UnusedParameterError) as caught:
        trainer.execute(*DATA[:2])
    assert str(caught.value) == (
        "'temprature' was sampled but never read; did you mean 'temperature'? If only some "
        "configurations need it, read it before the branch."
    )
    (trial,) = load_study(tmp_path / "studies/study").trials
    assert (trial.state, trial.epochs) == (TrialState.FAILED, 0)


class LoadsByHand(RayTorchTrainer):
    """Its optimizer goes on with the state of another one."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        other = torch.optim.Adam(self.model.parameters(), lr=0.5)
        self.optimizer.load_state_dict(other.state_dict())


class ClipsNothing(RayTorchTrainer):
    """Makes its steps by itself."""

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(self.model(batch[0]), batch[1])
        loss.backward()
        self.optimizer.step()
        return loss, {}


@pytest.mark.parametrize(
    ("kind", "space", "words"),
    [
        pytest.param(
            LoadsByHand,
            LR,
            "'optim_lr' was sampled but has no effect: a state that was loaded",
            marks=pytest.mark.exhaustive,
        ),
        (
            ClipsNothing,
            {"gradient_clipping": {"type": "uniform", "lower": 0.1, "upper": 1}},
            "'gradient_clipping' was sampled but had no effect: nothing called self.optimize",
        ),
    ],
)
def test_what_the_training_does_not_use_is_not_tuned(tmp_path, kind, space, words) -> None:
    trainer = study_trainer(tmp_path, kind, space, {"num_samples": 5})
    with pytest.raises(UnusedParameterError, match=words):
        trainer.execute(*DATA[:2])


@pytest.mark.parametrize(
    ("metric", "data", "words"),
    [
        ("validation_acc", DATA, "; did you mean 'validation_accuracy'? It reports "),
        ("test_loss", DATA, "; did you mean 'train_loss'? It reports "),
        ("validation_loss", DATA[:1], ": there is no validation set. It reports train_accuracy"),
        (["loss", "train_los"], DATA, "; did you mean 'train_loss'? It reports "),
    ],
)
def test_a_metric_that_the_training_never_reports_is_refused(
    tmp_path: Path, metric: Any, data: Any, words: str
) -> None:
    study = {"metric": metric, "mode": ["min"] * 2 if isinstance(metric, list) else "max"}
    trainer = study_trainer(tmp_path, study=study, test_every=1)
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        trainer.execute(*data)
    assert not (tmp_path / "studies").exists()


class Talkative(RayTorchTrainer):
    """Reports what is no number, and leaves its metric out once."""

    def train(self) -> None:
        """Report twice."""
        self.ray_report({"validation_loss": 1.0, "phase": "warm-up", "f1": None, "big": 10**400})
        self.ray_report({"phase": "cool-down"})


def test_a_metric_that_is_no_number_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = study_trainer(tmp_path, kind=Talkative, study={"num_samples": 2, "fail_fast": 9})
    with pytest.raises(TrialsFailedError, match=r"is missing in the report of epoch 2, though"):
        trainer.execute(*DATA)
    trials = load_study(tmp_path / "studies/study").trials
    assert [dict(trial.history[0]) for trial in trials] == [{"validation_loss": 1.0}] * 2
    for name, kind in [("phase", "a str"), ("f1", "None"), ("big", "an int")]:
        text = f"warning: the metric {name!r} of a report is {kind}; expected one number"
        assert sum(text in line for line in caplog.messages) == 1


class Troubled(RayTorchTrainer):
    """Meets trouble in its second epoch.

    The kind of trouble is an argument of its own, and tuned like a key of the configuration.
    """

    def __init__(self, *args: Any, trouble: str = "none", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trouble = trouble

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.lr_scheduler = one_cycle(self)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        trouble = self.trouble
        if self.current_epoch == 1 and trouble == "error":
            raise ValueError("own bug")
        if self.current_epoch == 1 and trouble == "exit":
            raise SystemExit(3)
        loss, metrics = super().validation_step(batch, batch_idx)
        bad = self.current_epoch == 1 and trouble == "nan"
        return (loss * float("nan") if bad else loss), metrics


def test_a_trial_that_goes_wrong_is_alone_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    troubles = ["none", "error", "nan", "exit", "no more"]
    trainer = study_trainer(
        tmp_path,
        Troubled,
        {"trouble": {"grid_search": troubles}},
        {"algorithm": "grid", "num_samples": None, "default_first": False},
        logger=MLFlowLogger(savedir=tmp_path),
        run_name="run",
    )
    *_, model = trainer.execute(*DATA[:2])
    result = trainer.study_result
    assert result is not None
    assert type(model) is MLP  # rebuilt with all that its optimizer and schedule need
    ends = [(trial.params["trouble"], trial.state, trial.reason) for trial in result.trials]
    assert ends == [
        ("none", COMPLETED, "trained to the last epoch"),
        ("error", TrialState.FAILED, "ValueError: own bug (traceback: trials/00001/log.txt)"),
        ("nan", TrialState.DIVERGED, "validation_loss became nan in epoch 2"),
        ("exit", TrialState.FAILED, "SystemExit: 3 (traceback: trials/00003/log.txt)"),
        ("no more", COMPLETED, "trained to the last epoch"),
    ]
    assert [trial.epochs for trial in result.trials] == [4, 1, 2, 1, 4]
    # The same training, before the trouble and after it.
    assert result.trials[0].history == result.trials[4].history
    log = (tmp_path / "studies/study/trials/00001/log.txt").read_text()
    assert log.rstrip().endswith("ValueError: own bug")
    assert 'raise ValueError("own bug")' in log
    assert run_states(tmp_path) == {
        "run-0": "FINISHED",
        "run-1": "FAILED",
        "run-2": "KILLED",
        "run-3": "FAILED",
        "run-4": "FINISHED",
    }


# -- several workers, and objects ------------------------------------------------------------------


def test_two_workers_train_as_one_with_the_doubled_batch(tmp_path: Path) -> None:
    trainer = study_trainer(
        tmp_path,
        Looking,
        study={"workers_per_trial": 2, "resources_per_worker": {"CPU": 0.5}},
        config={"batch_size": 8},
        strategy="ddp",
        random_seed=None,  # then the study's seed is that of its trainings: 1
    )
    result = run(trainer)
    assert [trial.state for trial in result.trials] == [COMPLETED] * 2
    for trial in result.trials:
        alone = trained_alone(
            tmp_path / str(trial.number), config={"batch_size": 16, **trial.params}
        )
        for one, both in zip(alone, trial.history, strict=True):
            together = dict(both)
            assert together.pop("train_threads") == 1
            assert together.pop("train_trainings") == trial.number + 1
            # Sums in another order differ in the last bits.
            assert together == pytest.approx(one, abs=1e-5)


def test_objects_of_optuna(tmp_path: Path) -> None:
    sampler = optuna.samplers.GridSampler({"width": [3, 5, 7]}, seed=0)
    trainer = study_trainer(
        tmp_path,
        OwnRay,
        space={"width": SPACE["width"]},
        study={
            "metric": "loss",
            "algorithm": sampler,
            "scheduler": optuna.pruners.ThresholdPruner(upper=0.0),
            "num_samples": 3,
            "default_first": False,
        },
    )
    *_, model = trainer.execute(*DATA[:2])
    result = trainer.study_result
    assert result is not None
    assert sorted(trial.params["width"] for trial in result.trials) == [3, 5, 7]
    assert [trial.epochs for trial in result.trials] == [1, 1, 1]
    assert result.trials[0].reason == "ThresholdPruner after epoch 1"
    # Nobody was trained to the end: the best is the best of those that came furthest.
    assert result.best is not None
    assert result.best.state is STOPPED
    # Checkpoints are kept of those that were trained to the end.
    assert (result.best.checkpoint, model) == (None, None)
    assert not list((tmp_path / "studies/study/trials").glob("*/*_*"))


class TellsRate(RayTorchTrainer):
    """Reports the rate that its optimizer has."""

    def validation_epoch(self) -> Any:
        loss = super().validation_epoch()
        self.epoch_metrics["rate"] = self.optimizer.param_groups[0]["lr"]
        return loss


@pytest.mark.exhaustive
def test_a_successor_in_a_population_trains_with_its_own_rate(tmp_path: Path) -> None:
    result = run(
        study_trainer(
            tmp_path,
            TellsRate,
            study={"scheduler": {"name": "pbt", "interval": 2}, "num_samples": 4}
            | {"algorithm": "pbt", "default_first": False},
            epochs=6,
        )
    )
    copies = [trial for trial in result.trials if trial.parent is not None]
    assert copies
    for trial in copies:
        model = result.trials[trial.parent or 0]
        assert trial.params["optim_lr"] != model.params["optim_lr"]
        own = [row["rate"] for row in trial.history if row not in model.history]
        assert own
        assert set(own) == {trial.params["optim_lr"]}


class Descending(tune.search.Searcher):
    """A searcher of Ray Tune's kind."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[float] = []

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        self.metric_and_mode = (metric, mode, list(config))
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        return {"width": 8 - len(self.heard)}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        self.heard.append(result[self.metric_and_mode[0]])


@pytest.mark.exhaustive
def test_a_searcher_of_rays(tmp_path: Path) -> None:
    searcher = Descending()
    result = run(
        study_trainer(
            tmp_path,
            space={"width": SPACE["width"]},
            study={"algorithm": searcher, "num_samples": 4},
            config={"width": 3},
        )
    )
    assert [trial.params["width"] for trial in result.trials] == [3, 8, 7, 6]
    assert searcher.metric_and_mode == ("validation_loss", "min", ["width"])
    # It did not propose the default, so it does not hear of it.
    expected = [trial.metrics["validation_loss"] for trial in result.trials[1:]]
    assert searcher.heard == expected
