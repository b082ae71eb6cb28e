"""A function that uses PyTorch, on a real Ray: states, random numbers, tensors, process groups."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from itwinai.hpo import StudyResult, Trial, TrialState, tune
from itwinai.hpo.engine import ray_cluster
from itwinai.hpo.functions import FunctionTrainer
from itwinai.hpo.retraining import rerun

SPACE = {"lr": {"type": "loguniform", "lower": 1e-3, "upper": 1e-1}}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One Ray for the whole module."""
    with ray_cluster():
        yield


def points(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 4, generator=generator)
    return x, x @ torch.randn(4, 1, generator=generator)


STUDY = {
    "metric": "loss",
    "mode": "min",
    "num_samples": 2,
    "scheduler": "none",
    "algorithm": "random",
    "max_concurrent_trials": 1,
    "resources_per_worker": {"CPU": 0.5},
}


def run(function: Any, folder: Path, **settings: Any) -> StudyResult:
    options = {"config": {"lr": 0.01}, "epochs": 4, "data": points(), "seed": 3} | settings
    return tune(function, SPACE, storage_path=folder, **{**STUDY, **options})


class Train:
    """Trains by Adam, dropout and a shuffled loader; killed once in trial 1, after two epochs."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __call__(self, config: Any, trial: Trial) -> None:
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
        state = trial.load()
        if state is not None:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
        loader = DataLoader(TensorDataset(*trial.data), batch_size=16, shuffle=True)
        for epoch in trial.epochs():
            if trial.number == 1 and epoch == 2 and not self.mark.exists():
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            total = 0.0
            for x, y in loader:
                loss = nn.functional.mse_loss(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
            kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            trial.report({"loss": total, "began": float(state is None)}, checkpoint=kept)


@pytest.mark.exhaustive
def test_a_lost_trial_goes_on_bit_for_bit(tmp_path: Path) -> None:
    (tmp_path / "never").touch()
    undisturbed = run(Train(tmp_path / "never"), tmp_path / "a")
    disturbed = run(Train(tmp_path / "once"), tmp_path / "b")
    histories = [
        [[epoch["loss"] for epoch in trial.history] for trial in result.trials]
        for result in (undisturbed, disturbed)
    ]
    assert histories[0] == histories[1]
    assert [epoch["began"] for epoch in disturbed.trials[1].history] == [1, 1, 0, 0]


def test_a_trial_is_repeated_to_the_last_bit(tmp_path: Path) -> None:
    (tmp_path / "never").touch()
    study = {**STUDY, "storage_path": tmp_path, "seed": 3}
    trainer = FunctionTrainer(Train(tmp_path / "never"), SPACE, {"lr": 0.01}, 4, study)
    result = trainer.run(points())
    repeated = rerun(trainer, (points(),), result, trial=1)
    assert repeated.is_repetition
    assert repeated.differing == ()


def test_settings_and_tensors_are_each_trials_own(tmp_path: Path) -> None:
    def train(config: Any, trial: Trial) -> None:
        x, _ = trial.data
        found = {"sum": float(x.sum()), "double": float(torch.get_default_dtype().itemsize)}
        x.fill_(7.0)
        torch.set_default_dtype(torch.float64)
        trial.report({"loss": config["lr"], **found})

    data = points(4096)
    result = run(train, tmp_path, data=data, num_samples=3)
    assert len({trial.metrics["sum"] for trial in result.trials}) == 1
    assert {trial.metrics["double"] for trial in result.trials} == {4.0}


def test_tied_weights_and_odd_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    def train(config: Any, trial: Trial) -> None:
        shared = torch.arange(6.0)
        kept = {"a": shared, "b": shared[2:], "bf16": torch.ones(2, dtype=torch.bfloat16)}
        kept |= {"scalar": torch.tensor(3), "array": np.ones(2), "size": shared.shape}
        state = trial.load()
        for epoch in trial.epochs():
            mark = trial.folder / "killed"
            if epoch == 1 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            same = -1.0
            if state is not None:
                state["a"][2] = 9.0
                same = float(
                    state["b"][0] == 9.0
                    and state["bf16"].dtype == torch.bfloat16
                    and state["scalar"].item() == 3
                    and state["size"] == (6,)
                )
            trial.report({"loss": config["lr"], "same": same}, checkpoint=kept)

    result = run(train, tmp_path, num_samples=1, epochs=2)
    assert [epoch["same"] for epoch in result.trials[0].history] == [-1.0, 1.0]


def test_two_processes_train_together_trial_after_trial(tmp_path: Path) -> None:
    def train(config: Any, trial: Trial) -> None:
        dist.init_process_group("gloo")
        model = nn.parallel.DistributedDataParallel(nn.Linear(4, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
        x, y = (part[trial.rank :: trial.world_size] for part in trial.data)
        for _ in trial.epochs():
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            dist.all_reduce(value := loss.detach().clone())
            state = model.module.state_dict()
            trial.report({"loss": value.item() / 2}, checkpoint=state)

    result = run(train, tmp_path, workers_per_trial=2, num_samples=2)
    assert [trial.state for trial in result.trials] == [TrialState.COMPLETED] * 2
    for trial in result.trials:
        losses = [epoch["loss"] for epoch in trial.history]
        assert losses == sorted(losses, reverse=True)
