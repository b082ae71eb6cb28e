"""One training by Ray Train: its processes, its checkpoints, and a worker that is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import ScalingConfig
from small_trainings import MLP, make_data, options

from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer

DATA = (make_data(61), make_data(35))


class KilledOnce(RayTorchTrainer):
    """Kills rank 1 at the start of epoch 2, once."""

    def train_epoch(self) -> Any:
        mark = Path(self.checkpoints_location) / "killed"
        if self.current_epoch == 2 and self.strategy.global_rank() == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with (Path(self.checkpoints_location) / "epochs").open("a") as file:
            file.write(f"{self.current_epoch} {self.strategy.global_rank()}\n")
        return super().train_epoch()


def train(trainer: TorchTrainer) -> dict[str, torch.Tensor]:
    Path(trainer.checkpoints_location).mkdir(parents=True)
    *_, model = trainer.execute(*DATA)
    return model.state_dict()


def test_two_workers_train_and_a_killed_one_costs_no_finished_epoch(tmp_path: Path) -> None:
    scaling = ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1})
    config = {"batch_size": 8, "dist_backend": "gloo"}
    trainer = KilledOnce(
        **options(tmp_path / "ray", epochs=4, config=config, ray_scaling_config=scaling)
    )
    weights = train(trainer)
    assert not ray.is_initialized()
    location = tmp_path / "ray/checkpoints"
    assert (location / "killed").exists()
    begun = (location / "epochs").read_text().splitlines()
    # Epochs 0 and 1 were trained once by each rank; rank 0 may have begun epoch 2 twice.
    assert sorted(begun)[:4] == ["0 0", "0 1", "1 0", "1 1"]
    assert begun.count("2 1") == begun.count("3 0") == begun.count("3 1") == 1
    assert {"best_model", "epoch_2", "epoch_3"} <= {path.name for path in location.iterdir()}
    MLP().load_state_dict(torch.load(location / "epoch_3/model.pt", weights_only=True))

    # The same in one process with the batch of both; sums differ in their order alone.
    alone = train(TorchTrainer(**options(tmp_path / "alone", epochs=4)))
    for name, expected in alone.items():
        assert torch.allclose(weights[name], expected, atol=1e-5)
