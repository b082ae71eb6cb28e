"""A training alone: its hooks, what it logs, its checkpoints, and how it goes on from one."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MethodType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from small_trainings import MLP, MemoryLogger, error_rate, make_data, options
from torch import nn
from torch.utils.data import TensorDataset
from torchmetrics.classification import MulticlassF1Score, MulticlassRecall

from itwinai.errors import CheckpointError, ConfigurationError, ItwinaiError
from itwinai.loggers import ConsoleLogger, Logger, LoggersCollection, MLFlowLogger
from itwinai.torch.distributed import NonDistributedStrategy, TorchDDPStrategy
from itwinai.torch.reproducibility import set_seed
from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer
from itwinai.torch.type import DistributedStrategyError, UninitializedStrategyError

STAGES = ("train", "validation", "test")
DATA = (make_data(60), make_data(35), make_data(21))
NAMES = {f"{stage}_{name}" for stage in STAGES[:2] for name in ("loss", "accuracy", "error")}


class Recording(TorchTrainer):
    """Keeps each epoch's metrics, and the calls of its hooks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.history: list[dict[str, float]] = []
        self.calls: list[str] = []

    def validation_epoch(self) -> Any:
        loss = super().validation_epoch()
        self.history.append(dict(self.epoch_metrics))
        return loss


def called(name: str) -> Any:
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(name)
        return getattr(TorchTrainer, name)(self, *args, **kwargs)

    return hook


HOOKS = (
    "load_checkpoint",
    "create_dataloaders",
    "create_model_loss_optimizer",
    "train",
    "set_epoch",
    "train_epoch",
    "train_step",
    "validation_epoch",
    "validation_step",
    "test_epoch",
    "test_step",
    "compute_metrics",
    "save_checkpoint",
)
AllHooks = type("AllHooks", (Recording,), {name: called(name) for name in HOOKS})


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def train(trainer: TorchTrainer, *datasets: Any) -> nn.Module:
    result = trainer.execute(*(datasets or DATA[:2]))
    return result[3]


# -- what happens --------------------------------------------------------------------------------


def test_the_model_learns_and_comes_back_with_the_data_sets(tmp_path: Path) -> None:
    trainer = Recording(**options(tmp_path, epochs=8))
    *datasets, model = trainer.execute(*DATA)
    assert datasets == [*DATA]
    assert isinstance(model, MLP)
    assert [set(epoch) for epoch in trainer.history] == [NAMES] * 8
    first, last = trainer.history[0], trainer.history[-1]
    assert last["train_loss"] < first["train_loss"]
    assert last["validation_accuracy"] > 0.8
    assert last["validation_accuracy"] == pytest.approx(1 - last["validation_error"])
    # The last epoch's metrics are those of the model that came back.
    inputs, targets = DATA[1].tensors
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model.eval()(inputs), targets).item()
    assert last["validation_loss"] == pytest.approx(loss, abs=1e-6)


def test_without_validation_and_test_data_only_training_is_measured(tmp_path: Path) -> None:
    trainer = Recording(**options(tmp_path, test_every=1))
    assert trainer.execute(DATA[0])[1:3] == (None, None)
    assert [set(epoch) for epoch in trainer.history] == [
        {"train_loss", "train_accuracy", "train_error"}
    ] * 3
    assert not (tmp_path / "checkpoints").exists()


def test_the_hooks_in_their_order(tmp_path: Path) -> None:
    trainer = AllHooks(**options(tmp_path, epochs=2, test_every=2, config={"batch_size": 30}))
    train(trainer, *DATA)
    train_part = ["set_epoch", "train_epoch", *["train_step", "compute_metrics"] * 2]
    validation = ["validation_epoch", *["validation_step", "compute_metrics"] * 2]
    assert trainer.calls == [
        *("load_checkpoint", "create_dataloaders", "create_model_loss_optimizer", "train"),
        *(*train_part, *validation, "save_checkpoint"),
        *(*train_part, *validation, "test_epoch", "test_step", "compute_metrics"),
        "save_checkpoint",
    ]


def test_the_hooks_find_the_training_mode_of_their_stage(tmp_path: Path) -> None:
    seen = []

    class Looking(TorchTrainer):
        def train_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(("train", self.model.training, torch.is_grad_enabled()))
            return super().train_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(("validation", self.model.training, torch.is_grad_enabled()))
            return super().validation_step(batch, batch_idx)

    train(Looking(**options(tmp_path, epochs=2, config={"batch_size": 60})))
    assert seen == [("train", True, True), ("validation", False, False)] * 2


def test_own_steps_with_metrics_of_their_own(tmp_path: Path) -> None:
    class Own(Recording):
        def train_step(self, batch: Any, batch_idx: int) -> Any:
            (inputs, target) = batch
            self.optimizer.zero_grad()
            loss = self.loss(self.model(inputs), target)
            loss.backward()
            self.optimizer.step()
            return loss, {"size": len(target), "accuracy": 0.25}

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            return None, {"index": batch_idx}

    trainer = Own(**options(tmp_path))
    train(trainer)
    # Batches of 16, 16, 16, 12 and of 16, 16, 3.
    sizes = (3 * 16**2 + 12**2) / 60
    for epoch in trainer.history:
        assert epoch.pop("train_loss") > 0
        assert epoch == {
            "train_size": pytest.approx(sizes),
            "train_accuracy": 0.25,
            "validation_index": pytest.approx((16 + 2 * 3) / 35),
        }


def test_a_batch_counts_in_the_metrics_of_the_stage_that_runs(tmp_path: Path) -> None:
    class OneForm(TorchTrainer):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            inputs, target = batch
            prediction = self.model(inputs)
            found = self.compute_metrics(target, prediction, self.validation_glob_step, batch_idx)
            return self.loss(prediction, target), found

    f1 = {"f1": MulticlassF1Score(2, average="macro")}
    made = options(tmp_path, metrics=f1, epochs=2, validate_every_steps=1)
    trainers = TorchTrainer(**made), OneForm(**made)
    for trainer in trainers:
        train(trainer)
    assert trainers[1].epoch_metrics == trainers[0].epoch_metrics


def test_own_epochs_that_return_a_loss(tmp_path: Path) -> None:
    class Own(TorchTrainer):
        def train_epoch(self) -> Any:
            return torch.tensor(float(self.current_epoch), requires_grad=True)

        def validation_epoch(self) -> float:
            seen.append(dict(self.epoch_metrics))
            return 2.0 - self.current_epoch

    seen: list[dict[str, float]] = []
    trainer = Own(**options(tmp_path))
    train(trainer)
    assert seen == [{"train_loss": 0.0}, {"train_loss": 1.0}, {"train_loss": 2.0}]
    assert trainer.epoch_metrics == {"train_loss": 2.0, "validation_loss": 0.0}
    assert trainer.best_validation_metric == 0.0
    assert (tmp_path / "checkpoints/best_model").is_dir()


def test_what_own_epochs_make_of_the_loss_is_what_counts(tmp_path: Path) -> None:
    class Penalised(TorchTrainer):
        def validation_epoch(self) -> Any:
            self.found = super().validation_epoch()
            return 2 * self.found + 0.1

    trainer = Penalised(**options(tmp_path, epochs=1))
    train(trainer)
    assert trainer.epoch_metrics["validation_loss"] == 2 * float(trainer.found) + 0.1
    assert trainer.best_validation_metric == trainer.epoch_metrics["validation_loss"]


def test_own_loaders_and_own_model_loss_and_optimizer(tmp_path: Path) -> None:
    class Own(TorchTrainer):
        def create_dataloaders(
            self, train_dataset: Any, validation_dataset: Any = None, test_dataset: Any = None
        ) -> None:
            self.train_dataloader = [train_dataset.tensors] * 2  # type: ignore[assignment]

        def create_model_loss_optimizer(self) -> None:
            self.model = nn.Linear(4, 2)
            self.loss = nn.CrossEntropyLoss(label_smoothing=0.1)
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
            self.lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer, max_lr=0.1, epochs=3, steps_per_epoch=len(self.train_dataloader)
            )
            self.model, self.optimizer, self.lr_scheduler = self.strategy.distributed(
                self.model, self.optimizer, self.lr_scheduler
            )

    trainer = Own(**options(tmp_path, model=None))
    model = train(trainer)
    assert type(model) is nn.Linear
    assert trainer.train_glob_step == 6


def test_own_train_with_reports_outside_a_study(tmp_path: Path) -> None:
    class Own(TorchTrainer):
        def train(self) -> None:
            for epoch in range(self.epochs):
                self.current_epoch = epoch
                loss = self.train_epoch()
                self.ray_report({"loss": loss}, checkpoint_data={"epoch": epoch})
                self.ray_report({"loss": loss, "what": "ever"})

    trainer = Own(**options(tmp_path))
    train(trainer)
    assert (trainer.current_epoch, trainer.train_glob_step) == (2, 12)
    assert list(tmp_path.iterdir()) == []


def test_train_of_one_instance_is_replaced(tmp_path: Path) -> None:
    def own_train(self: TorchTrainer) -> None:
        self.trained_with = (self.config.optim_lr, type(self.optimizer))

    trainer = TorchTrainer(**options(tmp_path))
    trainer.train = MethodType(own_train, trainer)  # type: ignore[method-assign]
    train(trainer)
    assert trainer.trained_with == (0.01, torch.optim.Adam)  # type: ignore[attr-defined]


def test_the_schedule_steps_after_each_epoch(tmp_path: Path) -> None:
    rates = []

    class Looking(TorchTrainer):
        def train_epoch(self) -> Any:
            rates.append(self.optimizer.param_groups[0]["lr"])
            return super().train_epoch()

    config = {"lr_scheduler": "exponential", "lr_scheduler_gamma": 0.5, "optim_lr": 0.5}
    train(Looking(**options(tmp_path, config=config)))
    assert rates == [0.5, 0.25, 0.125]


def test_each_epoch_has_another_order_and_validation_has_the_datas(tmp_path: Path) -> None:
    seen: dict[str, list[list[float]]] = {"train": [], "validation": []}

    class Looking(TorchTrainer):
        def train_step(self, batch: Any, batch_idx: int) -> Any:
            seen["train"].append(batch[0][:, 0].tolist())
            return super().train_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            seen["validation"].append(batch[0][:, 0].tolist())
            return super().validation_step(batch, batch_idx)

    train(Looking(**options(tmp_path, config={"batch_size": 60})))
    first, second, third = seen["train"]
    assert sorted(first) == sorted(second) == sorted(DATA[0].tensors[0][:, 0].tolist())
    assert first != second != third
    assert seen["validation"] == [DATA[1].tensors[0][:, 0].tolist()] * 3


# -- what is logged ------------------------------------------------------------------------------


def test_epochs_are_logged_under_their_names_and_batches_where_asked_for(tmp_path: Path) -> None:
    logger = MemoryLogger(log_freq="batch")
    trainer = Recording(**options(tmp_path, logger=logger, test_every=2))
    train(trainer, *DATA)
    batches = {"train": 4, "validation": 3, "test": 2}
    for stage, number in batches.items():
        epochs = [1] if stage == "test" else [0, 1, 2]
        for name in ("loss", "accuracy", "error"):
            assert logger.steps(f"{stage}_{name}_epoch") == epochs
            assert logger.steps(f"{stage}_{name}") == list(range(number * len(epochs)))
    values = [value for name, value, _ in logger.logged if name == "validation_loss_epoch"]
    assert values == [epoch["validation_loss"] for epoch in trainer.history]
    assert logger.hyper_parameters == trainer.config.snapshot() | {
        "distributed_strategy": "NonDistributedStrategy"
    }
    assert logger.ends == ["FINISHED"]
    assert not logger.is_initialized


@pytest.mark.parametrize(("log_freq", "steps"), [("epoch", []), (2, [0, 2, 4, 6, 8, 10])])
def test_the_logger_decides_how_often(tmp_path: Path, log_freq: Any, steps: list[int]) -> None:
    logger = MemoryLogger(log_freq=log_freq)
    train(TorchTrainer(**options(tmp_path, logger=logger)))
    assert logger.steps("train_loss") == steps
    assert logger.steps("train_loss_epoch") == [0, 1, 2]


def test_a_metric_with_several_values_is_logged_in_parts(tmp_path: Path) -> None:
    logger = MemoryLogger(log_freq="batch")
    metrics = {"recall": MulticlassRecall(num_classes=2, average=None)}
    train(TorchTrainer(**options(tmp_path, logger=logger, metrics=metrics)))
    for part in ("recall_0", "recall_1"):
        assert logger.steps(f"train_{part}") == list(range(12))
        assert logger.steps(f"train_{part}_epoch") == [0, 1, 2]


def test_own_values_can_be_logged_and_without_a_logger_nothing_is(tmp_path: Path) -> None:
    class Own(TorchTrainer):
        def train(self) -> None:
            self.log(1.5, "mine", step=3)
            self.log(2.5, "batch", batch_idx=1)

    logger = MemoryLogger()
    train(Own(**options(tmp_path, logger=logger)))
    assert logger.logged == [("mine", 1.5, 3)]
    train(Own(**options(tmp_path)))


class Abrupt(MemoryLogger):
    """A logger of the user's own whose end takes no status."""

    def destroy_logger_context(self) -> None:  # type: ignore[override]
        self.ends.append("gone")
        super().destroy_logger_context()


@pytest.mark.parametrize(("kind", "ends"), [(MemoryLogger, ["FAILED"]), (Abrupt, ["gone"])])
def test_an_error_ends_the_loggers_run(tmp_path: Path, kind: Any, ends: list[str]) -> None:
    class Failing(TorchTrainer):
        def train_epoch(self) -> Any:
            raise KeyError("own bug")

    logger = kind()
    trainer = Failing(**options(tmp_path, logger=logger))
    with pytest.raises(KeyError, match="own bug"):
        train(trainer)
    assert logger.ends[:1] == ends
    assert not trainer.strategy.is_initialized


def test_a_logger_whose_end_takes_no_status(tmp_path: Path) -> None:
    logger = Abrupt()
    train(TorchTrainer(**options(tmp_path, logger=logger)))
    assert logger.ends == ["gone", "FINISHED"]


def test_checkpoints_are_artifacts_of_the_loggers_that_ask_for_them(tmp_path: Path) -> None:
    class Own(Logger):
        log_checkpoints = True
        seen: ClassVar[dict[str, Any]] = {}

        def log(self, item: Any, identifier: str, kind: str = "metric", *_: Any, **__: Any) -> None:
            if kind == "artifact":
                self.seen[identifier] = Path(item).read_bytes()

    asking = ConsoleLogger(tmp_path, log_checkpoints=True)
    mlflow = MLFlowLogger(tmp_path)
    logger = LoggersCollection([Own(), asking, mlflow])
    location = tmp_path / "checkpoints"
    settings = options(tmp_path, logger=logger, checkpoints_location=location, checkpoint_every=2)
    train(TorchTrainer(**settings))
    checkpoints = {path.name: path for path in location.iterdir()}
    assert set(checkpoints) == {"epoch_1", "best_model"}
    expected = {
        f"{name}_{file.stem}": file.read_bytes()
        for name, path in checkpoints.items()
        for file in (path / "model.pt", path / "state.pt", path / "config.yaml")
    }
    assert Own.seen == expected
    assert asking.run_path is not None
    found = {path.name: path.read_bytes() for path in asking.run_path.iterdir()}
    assert {name: content for name, content in found.items() if name in expected} == expected
    assert not list((tmp_path / "mlflow").rglob("*.pt"))
    assert set(logger.failures.values()) == {0}


def test_mlflow_has_what_a_training_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger(savedir=tmp_path, experiment_name="small", log_freq="batch")
    trainer = Recording(**options(tmp_path, logger=logger, run_name="one", config={"width": 4}))
    train(trainer)
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("small")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("one", "FINISHED")
    assert run.data.params["optim_lr"] == "0.01"
    assert run.data.params["width"] == "4"
    assert run.data.params["distributed_strategy"] == "NonDistributedStrategy"
    assert set(run.data.metrics) == {
        *NAMES,
        *(f"{name}_epoch" for name in NAMES),
        *("epoch_time_s", "global_validation_loss_epoch"),
    }
    history = client.get_metric_history(run.info.run_id, "validation_loss_epoch")
    assert [(entry.step, entry.value) for entry in history] == [
        (step, pytest.approx(epoch["validation_loss"]))
        for step, epoch in enumerate(trainer.history)
    ]


# -- checkpoints ---------------------------------------------------------------------------------


class Reading(TorchTrainer):
    """Reads attributes as programs for itwinai 0.4 do."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.read = {
            "mlflow": self.mlflow_logger,
            "run": self.mlflow_worker_run_id,
            "random": self.torch_rng_state,
            "schedule": self.lr_scheduler_state_dict,
        }
        if self.model_state_dict is not None:
            self.model.load_state_dict(self.model_state_dict)
            self.optimizer.load_state_dict(self.optimizer_state_dict)


def test_a_program_reads_what_a_checkpoint_held(tmp_path: Path) -> None:
    config = {"lr_scheduler": "constant"}
    first = Reading(**options(tmp_path, epochs=2, checkpoint_every=1, config=config))
    train(first)
    assert first.read == {"mlflow": None, "run": None, "random": None, "schedule": None}
    logger = MLFlowLogger(savedir=tmp_path)
    second = Reading(
        **options(
            tmp_path, logger=logger, config=config, from_checkpoint=tmp_path / "checkpoints/epoch_1"
        )
    )
    train(second)
    assert second.read["mlflow"] is logger
    assert len(second.read["run"]) == 32
    assert second.read["schedule"]["last_epoch"] == 2
    assert second.read["random"].dtype is torch.uint8
    assert second.model_state_dict is None, "it has been put into the model"


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_a_training_leaves(tmp_path: Path) -> None:
    trainer = TorchTrainer(**options(tmp_path, epochs=5, checkpoint_every=2, config={"width": 4}))
    model = train(trainer)
    folder = tmp_path / "checkpoints"
    assert names_in(folder) == ["best_model", "epoch_1", "epoch_3"]
    for name in names_in(folder):
        assert names_in(folder / name) == ["config.yaml", "manifest.json", "model.pt", "state.pt"]
    state = torch.load(folder / "epoch_3/state.pt", weights_only=True)
    assert set(state) == {
        *("epoch", "best_validation_metric", "optimizer_state_dict", "lr_scheduler_state_dict"),
        *("torch_rng_state", "random_seed", "random_states"),
        *("scaler_state_dict", "early_stopping", "glob_steps"),
        *("built", "stateful", "order_seed", "first_random_state", "samples"),
    }
    assert (state["epoch"], state["random_seed"], state["lr_scheduler_state_dict"]) == (3, 1, None)
    assert "width: 4\n" in (folder / "epoch_3/config.yaml").read_text()
    # It improved until the end, so the best model is the last one.
    best = torch.load(folder / "best_model/state.pt", weights_only=True)
    assert (best["epoch"], best["best_validation_metric"]) == (4, trainer.best_validation_metric)
    plain = MLP(width=4)
    plain.load_state_dict(torch.load(folder / "best_model/model.pt", weights_only=True))
    assert_same(weights(plain), weights(model))


def test_the_best_model_is_that_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    class Scripted(TorchTrainer):
        def validation_epoch(self) -> float:
            return [3.0, 1.0, 2.0, float("nan")][self.current_epoch]

    trainer = Scripted(**options(tmp_path, epochs=4))
    train(trainer)
    state = torch.load(tmp_path / "checkpoints/best_model/state.pt", weights_only=True)
    assert (state["epoch"], state["best_validation_metric"]) == (1, 1.0)
    assert names_in(tmp_path / "checkpoints") == ["best_model"]
    # A bound from before keeps all of it out.
    trainer = Scripted(**options(tmp_path / "b", initial_best_validation_metric="1.0"))
    train(trainer)
    assert not (tmp_path / "b").exists()


def test_a_checkpoint_by_hand(tmp_path: Path) -> None:
    class Own(TorchTrainer):
        def train(self) -> None:
            self.train_epoch()
            self.current_epoch = 7
            paths.append(self.save_checkpoint("mine"))
            paths.append(self.save_checkpoint("mine", 0.5, checkpoints_root=tmp_path / "other"))

    paths: list[Path | None] = []
    model = train(Own(**options(tmp_path)))
    assert paths == [tmp_path / "checkpoints/mine", tmp_path / "other/mine"]
    for path, best in zip(paths, (float("inf"), 0.5), strict=True):
        assert path is not None
        state = torch.load(path / "state.pt", weights_only=True)
        assert (state["epoch"], state["best_validation_metric"]) == (7, best)
        assert_same(torch.load(path / "model.pt", weights_only=True), weights(model))


DROPOUT = {
    "dropout": 0.3,
    "lr_scheduler": "step",
    "lr_scheduler_step_size": 2,
    "lr_scheduler_gamma": 0.1,
    "optim_lr": 0.05,
}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_resumed_training_equals_one_that_was_never_interrupted(
    tmp_path: Path, optimizer: str
) -> None:
    config = DROPOUT | {"optimizer": optimizer}
    whole = Recording(**options(tmp_path / "whole", epochs=5, config=config))
    expected = train(whole)
    first = Recording(**options(tmp_path / "part", epochs=3, config=config, checkpoint_every=1))
    train(first)
    resumed = Recording(
        **options(
            tmp_path / "part",
            epochs=5,
            config=config,
            from_checkpoint=tmp_path / "part/checkpoints/epoch_2",
            checkpoint_every=1,
        )
    )
    torch.rand(3)  # whatever happened in between
    model = train(resumed)
    assert_same(weights(model), weights(expected))
    assert first.history + resumed.history == whole.history
    assert len(resumed.history) == 2
    assert resumed.best_validation_metric == whole.best_validation_metric
    assert names_in(tmp_path / "part/checkpoints") == [
        "best_model",
        *(f"epoch_{epoch}" for epoch in range(5)),
    ]


def test_a_training_that_is_over_already_only_loads(tmp_path: Path) -> None:
    expected = train(TorchTrainer(**options(tmp_path, checkpoint_every=3)))
    again = Recording(**options(tmp_path, from_checkpoint=tmp_path / "checkpoints/epoch_2"))
    assert_same(weights(train(again)), weights(expected))
    assert again.history == []


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def without_manifest(folder: Path) -> Path:
    """A checkpoint whose files only their own check sums vouch for, as those of itwinai 0.4."""
    (folder / "manifest.json").unlink()
    return folder


@pytest.mark.parametrize("file", ["model.pt", "state.pt"])
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not(
    tmp_path: Path, file: str
) -> None:
    train(TorchTrainer(**options(tmp_path)))
    folder = without_manifest(tmp_path / "checkpoints/best_model")
    torch.save({"weights": Evil(tmp_path / "it ran")}, folder / file)
    with pytest.raises(CheckpointError) as caught:
        train(TorchTrainer(**options(tmp_path, from_checkpoint=folder)))
    assert str(caught.value).startswith(
        f"{folder / file}: not a whole checkpoint, or one that holds more than tensors and plain "
        "values ("
    )
    assert not (tmp_path / "it ran").exists()
    # The file does what this test believes.
    torch.load(folder / file, weights_only=False)
    assert (tmp_path / "it ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("file", ["model.pt", "state.pt"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, file: str) -> None:
    train(TorchTrainer(**options(tmp_path)))
    folder = without_manifest(tmp_path / "checkpoints/best_model")
    content = (folder / file).read_bytes()
    generator = random.Random(0)
    noise = [bytes(generator.randrange(256) for _ in range(200)) for _ in range(40)]
    cut = [content[: len(content) * part // 8] for part in range(8)]
    for broken in [*cut, *noise, b"weights", b"\x80\x02]q\x00.", b"\x80\x04K\x01."]:
        (folder / file).write_bytes(broken)
        with pytest.raises(CheckpointError, match=f"{folder / file}: not a whole checkpoint"):
            train(TorchTrainer(**options(tmp_path, from_checkpoint=folder)))
    (folder / file).unlink()
    with pytest.raises(CheckpointError) as caught:
        train(TorchTrainer(**options(tmp_path, from_checkpoint=folder)))
    assert str(caught.value) == f"{folder / file}: this file of the checkpoint is missing"


def test_a_folder_with_the_best_model_alone_says_how_to_go_on(tmp_path: Path) -> None:
    location = tmp_path / "checkpoints"
    TorchTrainer(**options(tmp_path, epochs=1, checkpoints_location=location)).execute(*DATA[:2])
    assert [path.name for path in location.iterdir()] == ["best_model"]
    again = options(tmp_path, epochs=2, checkpoints_location=location)
    best = location / "best_model"
    with pytest.raises(CheckpointError) as caught:
        TorchTrainer(**again, from_checkpoint=location).execute(*DATA[:2])
    assert str(caught.value) == (
        f"{location}: there is no epoch_<n> here, but best_model. Name the one to go on from, as "
        f"in from_checkpoint={str(best)!r}"
    )
    trainer = TorchTrainer(**again, from_checkpoint=best)
    trainer.execute(*DATA[:2])
    assert trainer.current_epoch == 1


def test_a_file_of_another_program_is_no_checkpoint(tmp_path: Path) -> None:
    train(TorchTrainer(**options(tmp_path)))
    folder = without_manifest(tmp_path / "checkpoints/best_model")
    for content, reason in (
        (torch.zeros(3), r"not a whole checkpoint, .* \(a Tensor\)"),
        ({"other": 1}, "not the state of a training"),
    ):
        torch.save(content, folder / "state.pt")
        with pytest.raises(CheckpointError, match=rf"state\.pt: {reason}"):
            train(TorchTrainer(**options(tmp_path, from_checkpoint=folder)))


def test_what_a_crash_between_two_renames_left_is_found(tmp_path: Path) -> None:
    expected = train(TorchTrainer(**options(tmp_path, checkpoint_every=3)))
    folder = tmp_path / "checkpoints/epoch_2"
    folder.rename(folder.with_name("epoch_2.old"))
    model = train(TorchTrainer(**options(tmp_path, from_checkpoint=folder)))
    assert_same(weights(model), weights(expected))


# -- random numbers ------------------------------------------------------------------------------


def test_a_seed_reproduces_and_another_does_not(tmp_path: Path) -> None:
    def trained(seed: int) -> dict[str, torch.Tensor]:
        return weights(train(TorchTrainer(**options(tmp_path, random_seed=seed, config=DROPOUT))))

    one = trained(1)
    torch.rand(5)
    assert_same(one, trained(1))
    other = trained(2)
    assert not torch.equal(one["layers.0.weight"], other["layers.0.weight"])


def test_a_seed_is_of_all_generators() -> None:
    def draws(seed: int) -> tuple[float, ...]:
        generator = set_seed(seed)
        return (
            random.random(),
            float(np.random.rand()),
            float(torch.rand(1)),
            float(torch.rand(1, generator=generator)),
        )

    first = draws(5)
    assert draws(5) == first
    assert all(one != other for one, other in zip(draws(6), first, strict=True))


def test_without_a_seed_nothing_is_seeded() -> None:
    torch.manual_seed(3)
    expected = float(torch.rand(1))
    torch.manual_seed(3)
    set_seed(None)
    assert float(torch.rand(1)) == expected


# -- strategies ----------------------------------------------------------------------------------


def test_a_name_takes_effect_only_where_several_processes_train(tmp_path: Path) -> None:
    for strategy in ("ddp", None):
        trainer = TorchTrainer(**options(tmp_path, strategy=strategy))
        train(trainer)
        assert type(trainer.strategy) is NonDistributedStrategy


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The variables of torchrun for a single process."""
    place = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**place, "MASTER_PORT": 0, "ITWINAI_FORCE_DIST": 1}.items():
        monkeypatch.setenv(name, str(value))
    yield
    assert not torch.distributed.is_initialized()


@pytest.mark.usefixtures("one_process")
def test_ddp_of_one_process_gives_the_same_and_the_users_own_model(tmp_path: Path) -> None:
    trainer = TorchTrainer(**options(tmp_path))
    model = train(trainer)
    assert type(trainer.strategy) is TorchDDPStrategy
    assert type(model) is MLP
    trained = torch.load(tmp_path / "checkpoints/best_model/model.pt", weights_only=True)
    assert_same(trained, weights(model))


@pytest.mark.usefixtures("one_process")
def test_ddp_wants_its_init_once() -> None:
    strategy = TorchDDPStrategy("gloo")
    for call in (strategy.global_rank, strategy.barrier, strategy.device):
        with pytest.raises(UninitializedStrategyError) as caught:
            call()
        assert str(caught.value) == (
            "TorchDDPStrategy is used before its init(). Call strategy.init() first, in the "
            "process that trains."
        )
    strategy.init()
    try:
        assert (strategy.global_rank(), strategy.global_world_size()) == (0, 1)
        with pytest.raises(DistributedStrategyError, match="called twice"):
            strategy.init()
    finally:
        strategy.clean_up()


# -- refusals ------------------------------------------------------------------------------------


def test_a_trainer_trains_once(tmp_path: Path) -> None:
    trainer = TorchTrainer(**options(tmp_path, config={"width": 5}))
    trainer.execute(*DATA)
    with pytest.raises(ConfigurationError, match="a trainer trains once, and this one has"):
        trainer.execute(*DATA)


def test_no_epochs() -> None:
    with pytest.raises(ConfigurationError) as caught:
        TorchTrainer({}, epochs=0)
    assert str(caught.value) == "epochs=0: expected a whole number of at least 1"


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("dpp", "strategy='dpp': unknown; did you mean 'ddp'?"),
        ("tpu", "strategy='tpu': unknown; known names: ddp, fsdp, deepspeed"),
    ],
)
def test_an_unknown_strategy(strategy: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TorchTrainer({}, epochs=1, strategy=strategy)
    assert str(caught.value) == message


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ItwinaiError) as caught:
        TorchTrainer({}, epochs=1, from_checkpoint=tmp_path / "none")
    assert str(caught.value) == (f"from_checkpoint='{tmp_path / 'none'}': there is no such folder")


def test_the_name_of_a_checkpoint_that_is_too_long() -> None:
    with pytest.raises(ItwinaiError, match=r"from_checkpoint='ä+': File name too long"):
        TorchTrainer({}, epochs=1, from_checkpoint="ä" * 150)


def test_a_trainer_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        train(TorchTrainer(**options(tmp_path, model=None)))
    assert str(caught.value) == (
        "model: the trainer has none. Pass model=..., or override create_model_loss_optimizer()."
    )


def test_importing_the_trainer_loads_no_package_that_it_does_not_need() -> None:
    check = (
        "import sys, itwinai.torch.trainer\n"
        "print([name for name in ('ray', 'optuna', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_study_without_a_search_space_is_refused(tmp_path: Path) -> None:
    trainer = RayTorchTrainer(**options(tmp_path), study={"mode": "min"})
    with pytest.raises(ConfigurationError, match=r"^search_space: there is none, and study says"):
        train(trainer)


def test_a_study_trainer_without_a_search_space_trains_once(tmp_path: Path) -> None:
    expected = train(TorchTrainer(**options(tmp_path / "a")))
    trainer = RayTorchTrainer(**options(tmp_path / "b"))
    assert_same(weights(train(trainer)), weights(expected))
    assert trainer.study_result is None


def test_a_metric_may_be_any_function(tmp_path: Path) -> None:
    trainer = Recording(**options(tmp_path, metrics={"error": error_rate}))
    train(trainer, DATA[0], TensorDataset(*(part[:1] for part in DATA[1].tensors)))
    assert trainer.history[-1]["validation_error"] in (0.0, 1.0)


def test_a_model_that_is_no_object_needs_a_hook_that_builds_it(tmp_path: Path) -> None:
    class Named(TorchTrainer):
        def create_model_loss_optimizer(self) -> None: ...

    assert Named(**options(tmp_path, model="small")).model == "small"
    with pytest.raises(ConfigurationError, match="model='small': expected an object"):
        TorchTrainer(**options(tmp_path, model="small"))
    with pytest.raises(ConfigurationError, match="logger='mlflow': expected an object"):
        Named(**options(tmp_path, model="small", logger="mlflow"))
