"""A training by Lightning is a step of a pipeline, and logs to itwinai's loggers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient

from itwinai.loggers import ConsoleLogger, Logger, LoggersCollection, MLFlowLogger
from itwinai.pipeline import Pipeline
from itwinai.torch.loggers import ItwinaiLogger
from itwinai.torch.trainer import TorchLightningTrainer

_MODULES = """
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset


class Line(LightningModule):
    def __init__(self, lr: float = 0.1, fails: bool = False):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        if self.hparams.fails:
            raise ValueError("no luck")
        inputs, target = batch
        loss = torch.nn.functional.mse_loss(self.layer(inputs), target)
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Points(LightningDataModule):
    def train_dataloader(self):
        inputs = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=8)
"""


@pytest.fixture
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "my_line.py").write_text(_MODULES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    mlflow = {"class_path": "itwinai.loggers.MLFlowLogger", "init_args": {"savedir": "logs"}}
    logger = {"itwinai_logger": mlflow, "log_model": True}
    return {
        "seed_everything": 1,
        "trainer": {
            "max_epochs": 3,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {"class_path": "itwinai.torch.loggers.ItwinaiLogger", "init_args": logger},
        },
        "model": {"class_path": "my_line.Line", "init_args": {"lr": 0.2}},
        "data": {"class_path": "my_line.Points"},
    }


def the_run() -> Any:
    client = MlflowClient(MLFlowLogger("logs").tracking_uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    return client, run


@pytest.mark.parametrize("as_file", [False, True])
def test_a_pipeline_trains_and_its_run_has_everything(
    content: dict[str, Any], tmp_path: Path, as_file: bool
) -> None:
    given: Any = content
    if as_file:
        given = tmp_path / "lightning.yaml"
        given.write_text(yaml.safe_dump(content))
    module = Pipeline([TorchLightningTrainer(given, mlflow_saved_model="line")]).execute()
    assert type(module).__name__ == "Line"

    client, run = the_run()
    assert run.info.status == "FINISHED"
    assert run.data.params["lr"] == "0.2"
    losses = [m.value for m in client.get_metric_history(run.info.run_id, "loss")]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"checkpoints", "line"}
    (checkpoint,) = client.list_artifacts(run.info.run_id, "checkpoints")
    file = client.download_artifacts(run.info.run_id, checkpoint.path, str(tmp_path))
    state = torch.load(file, weights_only=True)["state_dict"]
    assert torch.equal(state["layer.weight"], module.layer.weight)


def test_a_training_that_fails_leaves_a_failed_run(content: dict[str, Any]) -> None:
    content["model"]["init_args"]["fails"] = True
    with pytest.raises(ValueError, match="no luck"):
        TorchLightningTrainer(content).execute()
    assert the_run()[1].info.status == "FAILED"


def test_a_script_without_srun_trains_in_one_process(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"JOB_ID": "7", "JOB_NAME": "job", "NTASKS": "2", "NNODES": "2", "PROCID": "0"}
    for name, value in {**job, "NODEID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert TorchLightningTrainer(content).execute().trainer.world_size == 1
    assert os.environ["SLURM_NTASKS"] == "2"


@pytest.mark.parametrize(("skip", "is_open"), [(True, True), (False, False)])
def test_whoever_opened_a_logger_may_close_it(tmp_path: Path, skip: bool, is_open: bool) -> None:
    inner = MLFlowLogger(str(tmp_path))
    logger = ItwinaiLogger(inner, skip_finalize=skip)
    assert (logger.save_dir, logger.version) == (str(tmp_path), None)
    logger.log_metrics({"a": 1.0}, step=2)
    assert (logger.name, logger.version) == (inner.experiment_id, inner.run_id)
    assert logger.version is not None
    logger.finalize("success")
    assert inner.is_initialized is is_open
    if skip:
        inner.destroy_logger_context()


class Own(Logger):
    """One of 0.4: it takes what it was given then, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def destroy_logger_context(self) -> None:  # type: ignore[override]
        super().destroy_logger_context()

    def save_hyperparameters(self, params: Any) -> None:
        self.seen.append(params)

    def log(self, *, item: Any, identifier: str, kind: str, step: Any = None) -> None:  # type: ignore[override]
        self.seen.append((identifier, kind, step, item))


def test_a_users_own_logger_is_called_by_keyword() -> None:
    own = Own()
    logger = ItwinaiLogger(own)
    logger.finalize("success")  # nothing was logged
    logger.log_hyperparams({"lr": 0.1})
    logger.log_metrics({"a": 1.0}, step=2)
    logger.finalize("success")
    assert own.seen == [{"lr": 0.1}, ("a", "metric", 2, 1.0)]
    assert not own.is_initialized


def test_a_collection_of_loggers_gets_everything(
    content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    inner = LoggersCollection([ConsoleLogger("logs"), MLFlowLogger("logs")])
    logger = ItwinaiLogger(inner, log_model=True)
    assert (logger.name, logger.version, logger.save_dir) == (None, None, "logs")
    content["trainer"]["logger"] = logger
    TorchLightningTrainer(content).execute()
    client, run = the_run()
    assert (run.info.status, run.data.params["lr"]) == ("FINISHED", "0.2")
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 3
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"checkpoints", "my_model"}
    assert logger.name == run.info.experiment_id
    assert logger.version == inner.loggers[0].run_id
    assert capsys.readouterr().out.count("ConsoleLogger: loss = ") == 3
    assert inner.failures == {"ConsoleLogger": 0, "MLFlowLogger": 0}
    assert not inner.is_initialized


def test_the_trainer_can_be_written_down(content: dict[str, Any]) -> None:
    written = TorchLightningTrainer(content, mlflow_saved_model="line").to_dict()
    assert written["_target_"] == "itwinai.torch.ray.lightning.trainer.TorchLightningTrainer"
    assert written["config"] == content
