"""What happens between the steps of an epoch, and what is refused because it cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_trainings import MemoryLogger, make_data, options
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import itwinai
from itwinai.errors import CheckpointError, ConfigurationError
from itwinai.torch.checkpoints import files
from itwinai.torch.trainer import TorchTrainer

#: 60 samples make four steps of 16.
DATA = make_data(60), make_data(35)


def train(folder: Path, kind: type[TorchTrainer] = TorchTrainer, **changes: Any) -> TorchTrainer:
    trainer = kind(**options(folder, **changes))
    trainer.execute(*DATA)
    return trainer


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("epoch_*"))


# -- checkpoints ---------------------------------------------------------------------------------


def test_checkpoints_have_epoch_and_step_in_their_names(tmp_path):
    trainer = train(tmp_path, checkpoint_every_steps=3)
    assert saved(tmp_path) == [
        "epoch_0_step_3",
        "epoch_1_step_2",
        "epoch_2_step_1",
        "epoch_2_step_4",
    ]
    assert trainer.optimizer_steps == 12
    manifest = json.loads((tmp_path / "checkpoints/epoch_1_step_2/manifest.json").read_text())
    # Earlier versions, which would begin the next epoch with it, refuse the format.
    assert (manifest["epoch"], manifest["step"], manifest["format"]) == (1, 2, 2)


class Slow(TorchTrainer):
    """Takes ten seconds for each step, by its own clock."""

    now = 0.0

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        type(self).now += 10
        return super().train_step(batch, batch_idx)


def test_checkpoints_are_due_by_the_clock_after_the_one_before(tmp_path, monkeypatch):
    clock = SimpleNamespace(monotonic=lambda: Slow.now)
    monkeypatch.setattr("itwinai.torch.training.step_watch.time", clock)
    monkeypatch.setattr(Slow, "now", 0.0)
    # It is looked at after every other step, and what is found then is heard after the next one.
    train(tmp_path, Slow, checkpoint_every_seconds=35)
    assert saved(tmp_path) == ["epoch_1_step_2", "epoch_2_step_4"]
    monkeypatch.setattr(Slow, "now", 0.0)
    train(tmp_path / "both", Slow, checkpoint_every_seconds=35, checkpoint_every_steps=3)
    assert saved(tmp_path / "both") == [
        *("epoch_0_step_3", "epoch_1_step_2", "epoch_2_step_1", "epoch_2_step_4")
    ]


def test_the_newest_of_both_kinds_are_kept(tmp_path):
    train(tmp_path, checkpoint_every=1, checkpoint_every_steps=3, checkpoint_last=2)
    assert saved(tmp_path) == ["epoch_2", "epoch_2_step_4"]
    manifest = json.loads((tmp_path / "checkpoints/epoch_2/manifest.json").read_text())
    assert (manifest["epoch"], manifest["format"], "step" in manifest) == (2, 1, False)


def test_the_newest_of_a_folder_is_taken_and_the_one_before_a_damaged_one(tmp_path):
    config = {"batch_size": 4}
    train(tmp_path, checkpoint_every=1, checkpoint_every_steps=3, epochs=1, config=config)
    location = tmp_path / "checkpoints"
    names = []
    for _ in range(len(saved(tmp_path))):
        newest, *_ = files.load(location, or_earlier=True)
        names.append(newest.name)
        (newest / files.STATE).write_bytes(b"")
    assert names == [
        *("epoch_0", "epoch_0_step_15", "epoch_0_step_12", "epoch_0_step_9"),
        *("epoch_0_step_6", "epoch_0_step_3"),
    ]


def test_a_checkpoint_after_the_last_step_leaves_the_evaluation_of_its_epoch(tmp_path):
    whole = train(tmp_path / "whole", epochs=2)
    train(tmp_path, checkpoint_every_steps=4, epochs=1)
    assert saved(tmp_path) == ["epoch_0_step_4"]
    resumed = train(tmp_path, from_checkpoint=tmp_path / "checkpoints", epochs=2)
    assert resumed.epoch_metrics == whole.epoch_metrics
    assert resumed.train_glob_step == 8


def test_another_schedule_and_batch_size_reach_the_end_of_the_epochs(tmp_path):
    config = {"lr_scheduler": "cosine", "optimizer": "sgd", "optim_momentum": 0.0}
    train(tmp_path, checkpoint_every_steps=2, epochs=1, config=config)
    start = tmp_path / "checkpoints/epoch_0_step_2"  # of 32 samples
    resumed = train(tmp_path, from_checkpoint=start, epochs=2, config={**config, "batch_size": 7})
    assert resumed.optimizer_steps == 2 + 4 + 9
    assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)


# -- evaluations ---------------------------------------------------------------------------------


def test_the_rest_of_an_epoch_has_no_time_of_an_epoch(tmp_path):
    train(tmp_path, checkpoint_every_steps=3)
    checkpoint, logger = tmp_path / "checkpoints/epoch_1_step_2", MemoryLogger()
    train(tmp_path, from_checkpoint=checkpoint, logger=logger)
    assert [step for name, _, step in logger.logged if name == "epoch_time_s"] == [2]
    assert [step for name, _, step in logger.logged if name == "train_loss_epoch"] == [1, 2]


class Frozen(TorchTrainer):
    """Keeps a part of its model as in evaluation, and notes what is so while it trains."""

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        dropout = self.model.layers[2]
        if self.train_glob_step == 0:
            dropout.eval()
        self.modes = [*getattr(self, "modes", []), (self.model.training, dropout.training)]
        return super().train_step(batch, batch_idx)


def test_evaluations_in_the_middle_are_logged_and_nothing_goes_by_them(tmp_path):
    logger, config = MemoryLogger(), {"dropout": 0.5, "early_stopping_patience": 1}
    plain = train(tmp_path / "plain", config=config)
    trainer = train(tmp_path, config=config, logger=logger, validate_every_steps=3)
    assert logger.steps("validation_loss_step") == [3, 6, 9, 12]
    assert logger.steps("validation_accuracy_step") == [3, 6, 9, 12]
    assert logger.steps("validation_loss_epoch") == [0, 1, 2]
    assert trainer.epoch_metrics == plain.epoch_metrics
    assert trainer.best_validation_metric == plain.best_validation_metric


def test_the_modes_of_a_models_parts_are_as_before(tmp_path):
    trainer = train(tmp_path, Frozen, validate_every_steps=1, epochs=1, config={"dropout": 0.5})
    assert trainer.modes == [(True, False)] * 4


# -- loops of the user's own ---------------------------------------------------------------------


class Whole(TorchTrainer):
    """Goes over the loader itself."""

    def train_epoch(self) -> Any:
        for batch in self.train_dataloader:
            self.train_step(batch, 0)


class Rest(TorchTrainer):
    """Goes over what is left of an epoch."""

    def train_epoch(self) -> Any:
        self.model.train()
        losses = [self.train_step(batch, 0)[0].item() for batch in self.remaining_batches()]
        return sum(losses) / len(losses)


@pytest.mark.parametrize(
    "argument", ["checkpoint_every_steps", "checkpoint_every_seconds", "validate_every_steps"]
)
def test_a_loop_whose_steps_nothing_hears_of_is_refused(tmp_path, argument):
    with pytest.raises(ConfigurationError, match=rf"{argument}: .* self\.remaining_batches\(\)"):
        train(tmp_path, Whole, **{argument: 2})
    train(tmp_path, Whole)


def test_a_training_of_ones_own_whose_steps_nothing_hears_of_is_told_so(
    tmp_path, caplog, monkeypatch
):
    class Own(TorchTrainer):
        def train(self) -> None:
            for batch in self.train_dataloader:
                self.train_step(batch, 0)

    monkeypatch.setattr(itwinai.logger, "propagate", True)
    train(tmp_path, Own, validate_every_steps=2)
    assert "validate_every_steps has had no effect: nothing went over self.rem" in caplog.text


def test_such_a_loop_does_not_go_on_in_the_middle_of_an_epoch(tmp_path):
    train(tmp_path, checkpoint_every_steps=3, epochs=1)
    with pytest.raises(ConfigurationError, match="from_checkpoint, which is in the middle"):
        train(tmp_path, Whole, from_checkpoint=tmp_path / "checkpoints")


def test_a_loop_of_ones_own_accumulates_saves_and_goes_on(tmp_path):
    config = {"batch_size": 8, "gradient_accumulation_steps": 2, "dropout": 0.2}
    own, trainers = {"config": config, "epochs": 2}, train(tmp_path / "a", config=config, epochs=2)
    whole = train(tmp_path, Rest, checkpoint_every_steps=3, **own)
    assert same(whole.model, trainers.model), "the steps are not those of the trainer's own loop"
    assert saved(tmp_path) == ["epoch_0_step_3", "epoch_1_step_2"]
    start = tmp_path / "checkpoints/epoch_1_step_2"
    assert same(train(tmp_path, Rest, from_checkpoint=start, **own).model, whole.model)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# -- what is refused -----------------------------------------------------------------------------


class Endless(IterableDataset[Any]):
    """Nothing tells how far it was read."""

    def __iter__(self) -> Iterator[Any]:
        return iter(DATA[0])


class Knowing(Endless):
    """Something does."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Listed(TorchTrainer):
    """Its batches stand in a list."""

    def create_dataloaders(self, *datasets: Any) -> None:
        super().create_dataloaders(*datasets)
        self.train_dataloader = list(self.train_dataloader)


@pytest.mark.parametrize(
    ("kind", "data", "workers", "message"),
    [
        (TorchTrainer, Endless(), 0, r"an Endless, .* Give it state_dict\(\) and load_state_dict"),
        (TorchTrainer, Knowing(), 2, "read by loading processes, .* Set num_workers_dataloader: 0"),
        (Listed, DATA[0], 0, r"given by a list of 4, .* Give it state_dict\(\)"),
    ],
)
def test_data_that_do_not_tell_their_place_are_refused(tmp_path, kind, data, workers, message):
    changes = {"checkpoint_every_steps": 2, "config": {"num_workers_dataloader": workers}}
    with pytest.raises(ConfigurationError, match=rf"checkpoint_every_steps: the .* {message}"):
        kind(**options(tmp_path, **changes)).execute(data)
    assert not (tmp_path / "checkpoints").exists()


def test_evaluations_need_a_validation_set(tmp_path):
    trainer = TorchTrainer(**options(tmp_path, validate_every_steps=2))
    with pytest.raises(ConfigurationError, match="validate_every_steps: there is no validation"):
        trainer.execute(DATA[0])


@pytest.mark.parametrize("value", [0, -1.5, "often", True, float("inf"), float("nan")])
def test_seconds_are_a_number_above_0(tmp_path, value):
    with pytest.raises(ConfigurationError, match=r"checkpoint_every_seconds=.* of seconds above 0"):
        TorchTrainer(**options(tmp_path, checkpoint_every_seconds=value))


@pytest.mark.parametrize("argument", ["checkpoint_every_steps", "validate_every_steps"])
def test_steps_are_whole_numbers_above_0(tmp_path, argument):
    with pytest.raises(ConfigurationError, match=f"{argument}=0: expected a whole number of at"):
        TorchTrainer(**options(tmp_path, **{argument: 0}))


class Reading(TorchTrainer):
    """Has a loader of its own."""

    def create_dataloaders(self, *datasets: Any) -> None:
        super().create_dataloaders(*datasets)
        self.train_dataloader = DataLoader(datasets[0], batch_size=16, shuffle=True)


def test_the_rest_of_another_epoch_is_refused(tmp_path):
    train(tmp_path, checkpoint_every_steps=3, epochs=1)
    again = {"from_checkpoint": tmp_path / "checkpoints"}
    with pytest.raises(CheckpointError, match=r"samples 60, seed 1, and now .* samples 60, seed 2"):
        train(tmp_path, random_seed=2, **again)
    with pytest.raises(CheckpointError, match="another kind of data than a DataLoader"):
        train(tmp_path, Reading, **again)
    more = TorchTrainer(**options(tmp_path, **again))
    with pytest.raises(CheckpointError, match="and now it follows from samples 61, seed 1"):
        more.execute(make_data(61), DATA[1])


def test_data_that_each_rank_knows_alone_need_as_many_ranks(tmp_path):
    train(tmp_path, Reading, checkpoint_every_steps=3, epochs=1)
    folder = tmp_path / "checkpoints/epoch_0_step_3"
    model, state = (torch.load(folder / n, weights_only=True) for n in (files.MODEL, files.STATE))
    files.save(folder, model, {**state, "random_states": state["random_states"] * 2}, {})
    with pytest.raises(CheckpointError, match=r"by 2 processes, .* Start 2 of them"):
        train(tmp_path, Reading, from_checkpoint=folder)
