"""What is different with a GPU. One is enough; without any there is nothing to see here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.train import ScalingConfig
from small_trainings import MLP, make_data, options
from torch import nn

from itwinai.hpo.engine import ray_cluster
from itwinai.hpo.trial import TrialState
from itwinai.testing.strategies import BrokenRuleError, check_strategy
from itwinai.torch.distributed import (
    DeepSpeedStrategy,
    FSDPStrategy,
    NonDistributedStrategy,
    TorchDDPStrategy,
)
from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

DATA = (make_data(60), make_data(35, seed=8))
LR = {"optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 0.3}}


class OnCPU(NonDistributedStrategy):
    """A single process that leaves the GPU alone."""

    def device(self) -> str:
        return "cpu"


class Recording(TorchTrainer):
    """Keeps its epochs' metrics, and where it trained."""

    def validation_epoch(self) -> Any:
        loss = super().validation_epoch()
        self.history.append(dict(self.epoch_metrics))
        self.place = next(self.model.parameters()).device.type
        return loss


def trained(folder: Path, **changes: Any) -> Recording:
    trainer = Recording(**options(folder, **changes))
    trainer.history = []
    trainer.execute(*DATA)
    return trainer


def losses(trainer: Recording) -> list[float]:
    return [float(epoch["train_loss"]) for epoch in trainer.history]


def test_a_training_goes_as_on_the_cpu(tmp_path: Path) -> None:
    here = trained(tmp_path / "gpu", strategy=None)
    there = trained(tmp_path / "cpu", strategy=OnCPU())
    assert (here.place, there.place) == ("cuda", "cpu")
    for ours, theirs in zip(here.history, there.history, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"torch_compile": True},
        {"pin_gpu_memory": True, "num_workers_dataloader": 2},
        {"precision": "fp16", "gradient_accumulation_steps": 2, "gradient_clipping": 0.5},
        {"ema_decay": 0.9},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_options_train_on_the_gpu(tmp_path: Path, changes: dict[str, Any]) -> None:
    exact = trained(tmp_path / "plain", strategy=None)
    trainer = trained(tmp_path / "changed", strategy=None, config=changes)
    assert trainer.place == "cuda"
    assert losses(trainer)[-1] < losses(trainer)[0]
    if "gradient_accumulation_steps" not in changes:
        assert losses(trainer) == pytest.approx(losses(exact), abs=0.02)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "deepspeed"])
def test_a_resumed_training_equals_an_uninterrupted_one(
    tmp_path: Path, strategy: str, precision: str
) -> None:
    if strategy == "deepspeed":
        pytest.importorskip("deepspeed")
    choice = {"schedule": "cosine", "strategy": strategy, "precision": precision}
    whole = run_alone(tmp_path / "whole", choice)
    first = run_alone(tmp_path / "parts", choice | {"stop_at": 3})
    rest = run_alone(
        tmp_path / "rest", choice | {"from": str(tmp_path / "parts" / "checkpoints" / "epoch_2")}
    )
    assert len(whole) == 6
    assert first + rest == whole


def run_alone(folder: Path, choice: dict[str, Any]) -> list[dict[str, str]]:
    """Epochs of a training under torchrun with one process, so that every strategy is used."""
    folder.mkdir()
    program = Path(__file__).parent / "checkpoints" / "resume_program.py"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    command = [*launcher, str(program), str(folder), json.dumps(choice)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    epochs: list[dict[str, str]] = json.loads((folder / "epochs-0.json").read_text())
    return epochs


@pytest.mark.parametrize("strategy", [TorchDDPStrategy, FSDPStrategy])
def test_strategies_keep_all_rules_over_nccl(strategy: Any) -> None:
    check_strategy(partial(strategy, "nccl"), world_size=1, tolerance=1e-4)


def test_processes_that_share_a_gpu_talk_over_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")  # nobody has dealt the GPUs out
    check_strategy(TorchDDPStrategy, world_size=_more_than_gpus(), tolerance=1e-4)


def test_processes_that_share_a_gpu_are_refused_by_fsdp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(BrokenRuleError, match="a GPU for each process"):
        check_strategy(FSDPStrategy, world_size=_more_than_gpus())


def _more_than_gpus() -> int:
    return next(size for size in (2, 3, 4, 5, 6) if size > torch.cuda.device_count())


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_keeps_all_rules_over_nccl(stage: int) -> None:
    pytest.importorskip("deepspeed")
    config = {"deepspeed": {"zero_optimization": {"stage": stage}}}
    check_strategy(partial(DeepSpeedStrategy, "nccl"), 1, config, tolerance=1e-4)


class Telling(RayTorchTrainer):
    """Reports whether it trains on a GPU, and how many it sees."""

    def train_step(self, batch: Any, batch_idx: int) -> tuple[Any, dict[str, Any]]:
        loss, metrics = super().train_step(batch, batch_idx)
        here = {"on_gpu": float(loss.is_cuda), "gpus": float(torch.cuda.device_count())}
        return loss, metrics | here


class Hungry(nn.Module):
    """A model that takes the memory it is told to."""

    def __init__(self, gigabytes: float = 0.0) -> None:
        super().__init__()
        self.gigabytes = gigabytes
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        taken = torch.ones(int(self.gigabytes * 2**28), device=inputs.device)
        return self.layer(inputs) + 0 * taken.sum()


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    with ray_cluster():
        yield


def study_of(
    folder: Path, space: dict[str, Any], trainer: Any = Telling, **settings: Any
) -> RayTorchTrainer:
    changes = {"model": settings.pop("model", MLP), "strategy": "ddp", "search_space": space}
    study = {"storage_path": str(folder), "metric": "validation_loss", "mode": "min"}
    study |= {"num_samples": 3, "scheduler": "none", "algorithm": "random", "seed": 1, **settings}
    made = trainer(**options(folder, **changes), study=study)
    made.execute(*DATA)
    return made


def test_one_long_training_by_ray_train(tmp_path: Path) -> None:
    scaling = ScalingConfig(num_workers=1, use_gpu=True)
    trainer = RayTorchTrainer(**options(tmp_path / "ray", ray_scaling_config=scaling))
    *_, model = trainer.execute(*DATA)
    alone = trained(tmp_path / "alone", strategy=None)
    for name, expected in alone.model.state_dict().items():
        assert torch.allclose(model.state_dict()[name].cpu(), expected.cpu(), atol=1e-5)


@pytest.mark.usefixtures("_ray")
@pytest.mark.parametrize(
    ("share", "seen"),
    [(None, 1.0), ({"CPU": 1, "GPU": 0.5}, 1.0), ({"CPU": 1}, 0.0)],
    ids=["default", "half", "none"],
)
def test_a_trial_trains_on_its_share_of_a_gpu(
    tmp_path: Path, share: dict[str, float] | None, seen: float
) -> None:
    settings = {} if share is None else {"resources_per_worker": share}
    trials = study_of(tmp_path, LR, **settings).study_result.trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETED] * 3
    assert {trial.metrics["train_gpus"] for trial in trials} == {seen}
    assert {trial.metrics["train_on_gpu"] for trial in trials} == {seen}


@pytest.mark.usefixtures("_ray")
def test_a_trial_without_enough_memory_is_told_apart_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    sizes = {"gigabytes": {"type": "choice", "categories": [0.0, 1e4]}}
    settings = {"algorithm": "grid", "num_samples": None, "default_first": False, "model": Hungry}
    trials = study_of(tmp_path, sizes, **settings).study_result.trials
    states = {trial.params["gigabytes"]: trial.state for trial in trials}
    assert states == {0.0: TrialState.COMPLETED, 1e4: TrialState.OUT_OF_MEMORY}


def test_the_check_of_the_installation_finds_the_gpu() -> None:
    program = [sys.executable, "-m", "itwinai", "check", "--json"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert any(f["name"] == "cuda:0" for f in findings if f["section"] == "devices")
    assert [f["ok"] for f in findings if (f["section"], f["name"]) == ("all-reduce", "cuda")] == [
        True
    ]
