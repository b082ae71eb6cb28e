"""What a trainer's study will cost, without any Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_trainings import MLP, make_data, options
from torch import nn

from itwinai.errors import ConfigurationError
from itwinai.torch.trainer import RayTorchTrainer

DATA = (make_data(60), make_data(35, seed=8))
SPACE = {"optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 0.3}}


class Counting(RayTorchTrainer):
    """Keeps which epochs of which trainer were trained, in a file."""

    def train_epoch(self) -> Any:
        with Path("epochs.txt").open("a") as file:
            file.write(f"{self.current_epoch} {self.config.optim_lr}\n")
        return super().train_epoch()


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trainer(folder: Path, **changes: Any) -> Counting:
    """A trainer with a study of 12 trials."""
    study = {"storage_path": folder / "studies", "mode": "min", "num_samples": 12}
    study |= changes.pop("study", {})
    return Counting(**options(folder, epochs=9, **changes), search_space=SPACE, study=study)


def test_a_plan_trains_nothing_and_writes_nothing(tmp_path: Path) -> None:
    cost = trainer(tmp_path).plan(*DATA, epoch_seconds=5.0, limit=60.0)
    assert (cost.trials, cost.epochs) == (12, 9)
    assert [rung.level for rung in cost.forecast.rungs] == [3]
    assert cost.jobs is not None
    assert cost.jobs.expected > 1
    assert not list(tmp_path.iterdir())


def test_a_probe_trains_two_epochs_of_the_default_configuration(tmp_path: Path) -> None:
    cost = trainer(tmp_path).plan(*DATA, probe=True)
    assert (tmp_path / "epochs.txt").read_text().splitlines() == ["0 0.01", "1 0.01"]
    assert [path.name for path in tmp_path.iterdir()] == ["epochs.txt"]
    assert cost.epoch_time is not None
    assert 0 < cost.epoch_time.seconds < 60
    assert cost.checkpoint_bytes is not None


def test_the_size_of_a_checkpoint_is_that_of_a_model_that_is_there(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    cost = trainer(tmp_path, model=model).plan(*DATA)
    assert cost.checkpoint_bytes == 3 * (4 * 2 + 2) * 4  # with the two moments of Adam
    assert trainer(tmp_path, model=MLP).plan(*DATA).checkpoint_bytes is None


@pytest.mark.parametrize(
    ("study", "known", "message"),
    [
        ({}, {"probe": True, "epoch_seconds": 1.0}, "give one of them"),
        ({"default_first": False}, {"probe": True}, "no default configuration to train"),
        ({"scheduler": {"name": "asha", "grace_period": 9}}, {}, "could ever be stopped early"),
        ({"resources_per_worker": {"CPU": 4096}}, {}, "no machine here can ever give"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    tmp_path: Path, study: dict[str, Any], known: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        trainer(tmp_path, study=study).plan(*DATA, **known)


def test_a_trial_of_several_processes_is_not_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    with pytest.raises(ConfigurationError, match="2 processes, which one alone says"):
        trainer(tmp_path, study={"workers_per_trial": 2}).plan(*DATA, probe=True)
    cost = trainer(tmp_path, study={"workers_per_trial": 2}).plan(*DATA)
    assert (cost.slots, cost.setup.workers) == (1, 2)


def test_without_a_search_space_there_is_nothing_to_plan(tmp_path: Path) -> None:
    alone = RayTorchTrainer(**options(tmp_path))
    with pytest.raises(ConfigurationError, match="there is no study to plan"):
        alone.plan(*DATA)
