"""Studies of trainings by Lightning, on a real Ray: by a callback, and by a configuration."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from itwinai.errors import ConfigurationError
from itwinai.hpo import StudyResult, Trial, TrialState, load_checkpoint, rerun, tune
from itwinai.hpo.engine import Place, ray_cluster
from itwinai.hpo.functions import FunctionProgram
from itwinai.hpo.trial import Assignment
from itwinai.pipeline import Pipeline
from itwinai.reporting import NullReporter, TrialStopped
from itwinai.testing.integrations import check_integration
from itwinai.torch.ray.lightning.training import LightningTraining
from itwinai.torch.trainer import TorchLightningTrainer

#: What users write; trials import it by its name.
_MODULES = '''
import os
import signal
from pathlib import Path

import lightning
import torch
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset, random_split


class Line(lightning.LightningModule):
    def __init__(self, lr: float = 0.1, width: int = 4, plateau: bool = False):
        super().__init__()
        self.save_hyperparameters()
        hidden = torch.nn.Linear(2, width), torch.nn.Dropout(0.2)
        self.layers = torch.nn.Sequential(*hidden, torch.nn.Linear(width, 1))

    def training_step(self, batch, batch_idx):
        inputs, target = batch
        return mse_loss(self.layers(inputs), target)

    def validation_step(self, batch, batch_idx):
        inputs, target = batch
        self.log("validation_loss", mse_loss(self.layers(inputs), target))

    def on_train_epoch_end(self):
        self.log("lr", self.optimizers().param_groups[0]["lr"])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        if not self.hparams.plateau:
            return optimizer
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
        found = {"scheduler": schedule, "monitor": "validation_loss"}
        return {"optimizer": optimizer, "lr_scheduler": found}


class Parted(Line):
    """Is dealt out to the processes of a trial, as Lightning wants it."""

    def configure_model(self):
        fully_shard(self.layers, mesh=self.device_mesh["data_parallel"])


class Wavy(Line):
    """Is validated as it is told to be."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches == 16  # which has the data loaded
        return super().configure_optimizers()

    def validation_step(self, batch, batch_idx):
        self.log("validation_loss", [1.0, 0.4, 0.5, 0.1][self.current_epoch])


class Points(lightning.LightningDataModule):
    def __init__(self, batch_size: int = 8):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage):
        inputs = torch.rand(48, 2)
        points = TensorDataset(inputs, inputs.sum(1, keepdim=True))
        self.train, self.validation = random_split(points, [32, 16])

    def train_dataloader(self):
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.validation, self.batch_size)


class Killed(lightning.Callback):
    """Has its process killed in the third epoch, once."""

    def __init__(self, mark: str):
        self.mark = Path(mark)

    def on_train_batch_end(self, trainer, *args):
        if trainer.current_epoch == 2 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
'''

LR = {"type": "loguniform", "lower": 1e-6, "upper": 0.1}
STUDY = {
    "metric": "validation_loss",
    "mode": "min",
    "num_samples": 3,
    "seed": 3,
    "scheduler": "none",
    "algorithm": "random",
    "max_concurrent_trials": 1,
    "resources_per_worker": {"CPU": 0.5},
}
ASHA = {"scheduler": {"name": "asha", "grace_period": 1, "reduction_factor": 2}}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One Ray for the whole module."""
    with ray_cluster():
        yield


@pytest.fixture(scope="module", autouse=True)
def _modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "my_points.py").write_text(_MODULES)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def train(config: Any, trial: Trial) -> None:
    """What a user writes who keeps their own ``Trainer``."""
    import lightning
    import my_points

    from itwinai.torch.lightning import TrialCallback, trainer_options

    module = my_points.Line(config["lr"], plateau=config["plateau"])
    callbacks: list[Any] = [TrialCallback(trial)]
    if config["mark"] and trial.number == 1:
        callbacks.append(my_points.Killed(config["mark"]))
    options = trainer_options(trial) | {"val_check_interval": config["checks"]}
    trainer = lightning.Trainer(max_epochs=4, callbacks=callbacks, **options)
    trainer.fit(module, datamodule=my_points.Points(), ckpt_path=callbacks[0].ckpt_path)
    weights = [weight.tolist() for weight in module.parameters()]
    after = {"epochs": trainer.current_epoch, "world": trainer.world_size, "weights": weights}
    (trial.folder / f"after-{trial.rank}.json").write_text(json.dumps(after))


def train_together(config: Any, trial: Trial) -> None:
    """The same over several processes, by DDP or by FSDP2."""
    import lightning
    import my_points
    from lightning.pytorch.strategies import ModelParallelStrategy

    from itwinai.torch.lightning import TrialCallback, trainer_options

    kinds = {"ddp": my_points.Line, "fsdp2": my_points.Parted}
    options = trainer_options(trial)
    if config["by"] == "fsdp2":
        options |= {"strategy": ModelParallelStrategy(save_distributed_checkpoint=False)}
    callbacks = [my_points.Killed(config["mark"])] if config["mark"] else []
    callbacks.append(TrialCallback(trial))
    trainer = lightning.Trainer(max_epochs=4, callbacks=callbacks, **options)
    points, begin = my_points.Points(), callbacks[-1].ckpt_path
    trainer.fit(kinds[config["by"]](config["lr"]), datamodule=points, ckpt_path=begin)


def after(folder: Path, trial: int, rank: int = 0) -> Any:
    """What a trial has written after its training."""
    return json.loads((folder / f"study/trials/{trial:05d}/after-{rank}.json").read_text())


def by_callback(folder: Path, config: dict[str, Any] | None = None, **study: Any) -> StudyResult:
    config = {"lr": 0.05, "plateau": False, "mark": "", "checks": 1.0} | (config or {})
    study = STUDY | {"storage_path": folder} | study
    return tune(train, {"lr": LR}, config=config, epochs=4, study=study)


def content(**trainer: Any) -> dict[str, Any]:
    """A configuration of Lightning's command line."""
    return {
        "trainer": {"max_epochs": 4, **trainer},
        "model": {"class_path": "my_points.Line", "init_args": {"lr": 0.05}},
        "data": {"class_path": "my_points.Points"},
    }


def by_config(folder: Path, config: dict[str, Any], **study: Any) -> TorchLightningTrainer:
    space = {"lr": LR, "data.init_args.batch_size": {"type": "choice", "categories": [4, 8]}}
    study = STUDY | {"storage_path": folder} | study
    return TorchLightningTrainer(config, search_space=space, study=study)


def histories(result: StudyResult | None) -> list[Any]:
    assert result is not None
    assert [trial.state for trial in result.trials] == [TrialState.COMPLETED] * 3
    return [trial.history for trial in result.trials]


# -- a callback ------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_the_callback_keeps_all_rules_of_an_integration() -> None:
    config = {"lr": 0.05, "plateau": False, "mark": "", "checks": 1.0}
    assert check_integration(train, config, epochs=4)


@pytest.mark.exhaustive
def test_a_configuration_keeps_all_rules_of_an_integration() -> None:
    training = LightningTraining(content(), {"lr": "model.init_args.lr"}, "my_model")
    assert check_integration(training, {"lr": 0.05}, epochs=4)


@pytest.mark.exhaustive
def test_a_lost_trial_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    expected = histories(by_callback(tmp_path / "a", {"plateau": True}))
    mark = tmp_path / "killed"
    found = by_callback(tmp_path / "b", {"plateau": True, "mark": str(mark)})
    assert mark.exists()
    assert histories(found) == expected
    assert [len(history) for history in expected] == [4] * 3
    assert len({epoch["lr"] for epoch in expected[1]}) > 1
    assert not list(tmp_path.glob("b/study/trials/*/*.ckpt"))


def test_a_stopped_trial_ends_as_lightning_ends_one(tmp_path: Path) -> None:
    points = [{"lr": lr} for lr in (0.05, 1e-4, 1e-5)]
    result = by_callback(tmp_path, num_samples=4, points=points, **ASHA)
    assert [trial.state for trial in result.trials[2:]] == [TrialState.STOPPED] * 2
    for trial in result.trials:
        assert after(tmp_path, trial.number)["epochs"] == trial.epochs
    logs = [path.read_text() for path in tmp_path.glob("study/trials/*/log.txt")]
    assert not any("Traceback" in log or "TrialStopped" in log for log in logs)
    assert not (Path.cwd() / "lightning_logs").exists()


def test_a_validation_in_the_middle_of_an_epoch_is_a_report(tmp_path: Path) -> None:
    half = {"scheduler": {"name": "asha", "grace_period": 0.5, "reduction_factor": 2}}
    points = [{"lr": 1e-5}]
    result = by_callback(tmp_path, {"checks": 0.5}, num_samples=2, points=points, **half)
    assert result.trials[0].at == (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)
    assert (result.trials[1].state, result.trials[1].epochs) == (TrialState.STOPPED, 0.5)
    log = (tmp_path / "study/trials/00001/log.txt").read_text()
    assert "Traceback" not in log
    first = result.trials[0]  # whose rate is logged when an epoch ends
    told = zip(first.at, first.history, strict=True)
    assert all(("lr" in metrics) == (at == int(at)) for at, metrics in told)


class Listener(NullReporter):
    """Hears the reports of a trial, and has it end after some of them."""

    def __init__(self, heard: int) -> None:
        self.heard = heard
        self.reports: list[Any] = []
        self.at: list[float] = []
        self.checkpoint: Path | None = None

    def report(self, metrics: Any, checkpoint: Any = None, progress: Any = None) -> bool:
        self.reports.append(metrics)
        self.at.append(progress.epochs)
        self.checkpoint = checkpoint
        return len(self.reports) >= self.heard


def in_parts(function: Any, config: Any, folder: Path, heard: int) -> tuple[Listener, list[Any]]:
    """A training of four epochs, and the reports of one that was interrupted after some."""
    program = FunctionProgram(function, config, epochs=4)
    undisturbed, first, second = Listener(99), Listener(heard), Listener(99)
    program(Assignment(0, {}, str(folder / "whole"), seed=1), Place(), undisturbed)
    parts = str(folder / "parts")
    program(Assignment(0, {}, parts, seed=1), Place(), first)
    rest = Assignment(0, {}, parts, str(first.checkpoint), first.at[-1], seed=1)
    program(rest, Place(), second)
    return undisturbed, [*first.reports, *second.reports]


def wavy(config: Any, trial: Trial) -> None:
    import lightning
    import my_points
    from lightning.pytorch.callbacks import EarlyStopping

    from itwinai.torch.lightning import TrialCallback, trainer_options

    early = EarlyStopping("validation_loss", patience=config["patience"])
    callbacks = [TrialCallback(trial), early]
    trainer = lightning.Trainer(max_epochs=4, callbacks=callbacks, **trainer_options(trial))
    module = my_points.Wavy(plateau=True)
    trainer.fit(module, datamodule=my_points.Points(), ckpt_path=callbacks[0].ckpt_path)


@pytest.mark.parametrize(("patience", "heard", "whole"), [(9, 2, 4), (0, 3, 3)])
def test_a_trial_of_lightnings_goes_on_with_what_its_last_epoch_was_followed_by(
    tmp_path: Path, patience: int, heard: int, whole: int
) -> None:
    """That are the step of a schedule by its metric, an end, and the order of the data."""
    undisturbed, reports = in_parts(wavy, {"patience": patience}, tmp_path, heard)
    assert reports == undisturbed.reports
    assert len(reports) == whole


def trained_otherwise(config: Any, trial: Trial) -> None:
    import lightning
    import my_points
    from lightning.pytorch.callbacks import StochasticWeightAveraging

    from itwinai.torch.lightning import TrialCallback, trainer_options

    module = my_points.Line(plateau=config["plateau"])
    callbacks: list[Any] = [TrialCallback(trial)]
    if config["averages"]:
        module.layers.append(torch.nn.BatchNorm1d(1))
        callbacks.append(StochasticWeightAveraging(0.01, swa_epoch_start=2))
    options = {"max_epochs": 4, **trainer_options(trial), **config["options"]}
    trainer = lightning.Trainer(callbacks=callbacks, **options)
    trainer.fit(module, datamodule=my_points.Points(), ckpt_path=callbacks[0].ckpt_path)


USUAL = {"plateau": False, "averages": False, "options": {}}


@pytest.mark.parametrize("plateau", [False, True])
def test_a_training_that_counts_steps_goes_on_after_its_last_epoch(
    tmp_path: Path, plateau: bool
) -> None:
    """Lightning would end that epoch once more, and shuffle the data for nothing."""
    config = {**USUAL, "plateau": plateau, "options": {"max_steps": 16, "max_epochs": -1}}
    undisturbed, reports = in_parts(trained_otherwise, config, tmp_path, 2)
    assert reports == undisturbed.reports
    assert undisturbed.at == [1, 2, 3, 4]


def test_an_epoch_that_is_validated_before_its_end_has_a_report_and_a_checkpoint(
    tmp_path: Path,
) -> None:
    config = {**USUAL, "options": {"val_check_interval": 0.75}}
    undisturbed, reports = in_parts(trained_otherwise, config, tmp_path, 4)
    assert undisturbed.at == [0.75, 1, 1.75, 2, 2.75, 3, 3.75, 4]
    assert undisturbed.checkpoint is not None
    assert reports == undisturbed.reports
    losses = [epoch["validation_loss"] for epoch in reports]
    assert losses[::2] == losses[1::2]


def test_the_epoch_that_averaging_adds_is_no_report(tmp_path: Path) -> None:
    config = {**USUAL, "averages": True}
    undisturbed, reports = in_parts(trained_otherwise, config, tmp_path, 2)
    assert undisturbed.at == [1, 2, 3, 4]
    assert reports == undisturbed.reports


def test_a_trial_that_is_stopped_before_its_min_epochs_goes_on(tmp_path: Path) -> None:
    """The end that its study asks for is none that the training asks for."""
    config = {**USUAL, "options": {"min_epochs": 3}}
    undisturbed, first = Listener(99), Listener(1)
    program = FunctionProgram(trained_otherwise, config, epochs=4)
    program(Assignment(0, {}, str(tmp_path / "whole"), seed=1), Place(), undisturbed)
    with pytest.raises(TrialStopped):
        program(Assignment(0, {}, str(tmp_path / "parts"), seed=1), Place(), first)
    assert first.at == [1, 2]
    rest = Assignment(0, {}, str(tmp_path / "parts"), str(first.checkpoint), 2, seed=1)
    second = Listener(99)
    program(rest, Place(), second)
    assert [*first.reports, *second.reports] == undisturbed.reports


@pytest.mark.exhaustive
def test_the_processes_of_a_trial_train_together(tmp_path: Path) -> None:
    points = [{"lr": 1e-5}]
    result = by_callback(tmp_path, workers_per_trial=2, num_samples=2, points=points, **ASHA)
    ends = [TrialState.COMPLETED, TrialState.STOPPED]
    assert [trial.state for trial in result.trials] == ends
    for trial in result.trials:
        first, second = (after(tmp_path, trial.number, rank) for rank in range(2))
        assert first == second
        assert (first["epochs"], first["world"]) == (trial.epochs, 2)


def test_a_model_in_parts_trains_as_a_whole_one_and_goes_on(tmp_path: Path) -> None:
    """By FSDP2, whose checkpoint is in one piece; one of its processes is killed."""
    results = {}
    for by, mark in (("ddp", ""), ("fsdp2", ""), ("fsdp2", str(tmp_path / "mark"))):
        config = {"lr": 0.05, "by": by, "mark": mark}
        study = STUDY | {"storage_path": tmp_path / f"{by} {bool(mark)}", "num_samples": 1}
        results[by, bool(mark)] = tune(
            train_together, {"lr": LR}, config=config, epochs=4, study=study, workers_per_trial=2
        )
    assert (tmp_path / "mark").exists()
    best = {way: result.best for way, result in results.items()}
    histories = [trial.history for trial in best.values() if trial is not None]
    assert histories == [histories[0]] * 3
    states = [
        load_checkpoint(trial.checkpoint)["state_dict"]
        for trial in best.values()
        if trial is not None and trial.checkpoint is not None
    ]
    assert [name for name in states[0] if not torch.equal(states[0][name], states[2][name])] == []
    assert len(states) == 3


# -- a configuration -------------------------------------------------------------------------------


def test_a_step_runs_a_study_and_returns_the_best_module(tmp_path: Path) -> None:
    trainer = by_config(tmp_path, content())
    module = Pipeline([trainer]).execute()
    result = trainer.study_result
    assert result is not None
    assert result.default is not None
    assert result.default.params == {"lr": 0.05, "data.init_args.batch_size": 8}
    assert result.best is not None
    assert module.hparams.lr == result.best.params["lr"]
    inputs = torch.rand(100, 2)
    loss = torch.nn.functional.mse_loss(module.layers(inputs), inputs.sum(1, keepdim=True))
    assert float(loss.detach()) < 0.3


def test_a_trial_of_a_configuration_is_repeated_and_trained_from_fresh_seeds(
    tmp_path: Path,
) -> None:
    trainer = by_config(tmp_path, {**content(), "seed_everything": 5}, num_samples=2)
    assert trainer.plan(epoch_seconds=1.0).trials == 2
    trainer.execute()
    result = trainer.study_result
    assert result is not None
    assert rerun(trainer, (), result, trial=1).differing == ()
    runs = rerun(trainer, (), result, trial=1, seeds=2).runs
    assert runs[0].history != runs[1].history
    with pytest.raises(ConfigurationError, match=r"Change trainer\.max_epochs"):
        rerun(trainer, (), result, trial=1, epochs=9)


@pytest.mark.exhaustive
def test_a_lost_trial_of_a_configuration_goes_on(tmp_path: Path) -> None:
    mark = tmp_path / "killed"
    killed = {"class_path": "my_points.Killed", "init_args": {"mark": str(mark)}}
    mark.touch()
    undisturbed = by_config(tmp_path / "a", content(callbacks=[killed]))
    undisturbed.execute()
    mark.unlink()
    disturbed = by_config(tmp_path / "b", content(callbacks=[killed]))
    disturbed.execute()
    assert mark.exists()
    assert histories(disturbed.study_result) == histories(undisturbed.study_result)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"lrr": LR}, "search_space.lrr: neither the module nor the data module takes it; did"),
        ({"model.init_args.widht": LR}, "did you mean 'model.init_args.width'?"),
        ({"momentum": LR}, "They take lr, width, plateau, batch_size"),
        ({"trainer.max_epochs": {"type": "int", "lower": 1, "upper": 9}}, "of one length"),
    ],
)
def test_a_name_that_nothing_takes_is_refused(
    tmp_path: Path, space: dict[str, Any], message: str
) -> None:
    study = STUDY | {"storage_path": tmp_path}
    trainer = TorchLightningTrainer(content(), search_space=space, study=study)
    with pytest.raises(ConfigurationError) as refused:
        trainer.execute()
    assert message in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"trainer": {"max_epochs": -1}}, "config.trainer.max_epochs=-1"),
        ({"trainer": {"max_epoch": 3}}, "max_epoch"),
    ],
)
def test_a_configuration_without_a_study_in_it_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        by_config(tmp_path, content() | config).execute()
    assert message in str(refused.value)
    assert not list(tmp_path.iterdir())
