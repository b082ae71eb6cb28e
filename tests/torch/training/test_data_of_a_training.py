"""What a training sees of its data: nothing, too little, in another order, noise of its own."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import make_data, options
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    get_worker_info,
)

import itwinai
from itwinai.errors import CheckpointError, ConfigurationError, NotANumberError
from itwinai.torch.trainer import TorchTrainer
from itwinai.torch.type import HookError

DATA = make_data(60), make_data(35)


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(itwinai.logger, "propagate", True)
    caplog.set_level(logging.INFO)
    return caplog


def trained(folder: Path, kind: type[TorchTrainer] = TorchTrainer, **changes: Any) -> Any:
    data = changes.pop("data", DATA)
    trainer = kind(**options(folder, **changes))
    trainer.execute(*data)
    return trainer


# -- nothing, and not a number -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "words"),
    [((0, 5), "the training set is empty"), ((5, 0), "the validation set is empty. Pass None")],
)
def test_an_empty_set_is_refused(tmp_path, sizes, words):
    data = [Subset(make_data(9), range(size)) for size in sizes]
    with pytest.raises(ConfigurationError, match=words):
        trained(tmp_path, data=data)


class Stream(IterableDataset[Any]):
    """Deals itself out to the loading processes; says how long it is."""

    deals_to_workers = True

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Any:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for index in range(first, self.samples, step):
            yield torch.full((4,), index / self.samples), torch.tensor(index % 2)


class Unmeasured(Stream):
    __len__ = None  # type: ignore[assignment]


def test_a_stream_that_gives_nothing_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="the train set gave no batch"):
        trained(tmp_path, data=(Unmeasured(0), None))


def test_dropping_the_only_batch_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="smaller than a batch that drop_last"):
        trained(tmp_path, data=(make_data(5), None), config={"drop_last": True})


def test_a_smaller_last_batch_is_dropped_if_asked(tmp_path):
    class Counting(TorchTrainer):
        sizes: list[int]

        def train_step(self, batch: Any, batch_idx: int) -> Any:
            self.sizes = [*getattr(self, "sizes", []), len(batch[0])]
            return super().train_step(batch, batch_idx)

    kinds = {"epochs": 1, "kind": Counting}
    assert trained(tmp_path / "a", **kinds).sizes == [16, 16, 16, 12]
    assert trained(tmp_path / "b", config={"drop_last": True}, **kinds).sizes == [16, 16, 16]


class Exploding(TorchTrainer):
    """Its loss is not a number from the third step of the second epoch on."""

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        loss, metrics = super().train_step(batch, batch_idx)
        return (loss * float("nan") if self.train_glob_step >= 6 else loss), metrics


def test_a_loss_that_is_no_number_ends_a_training_with_its_place(tmp_path):
    with pytest.raises(NotANumberError, match=r"the loss became NaN in epoch 2, step 3\."):
        trained(tmp_path, kind=Exploding)


def test_a_training_goes_on_without_numbers_if_told_so(tmp_path):
    trainer = trained(tmp_path, kind=Exploding, config={"stop_on_nan": False})
    assert trainer.current_epoch == 2


def test_a_validation_loss_that_is_no_number_is_said(tmp_path, messages):
    class Invalid(TorchTrainer):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            loss, metrics = super().validation_step(batch, batch_idx)
            return loss * float("nan"), metrics

    config = {"early_stopping_patience": 2}
    assert trained(tmp_path, kind=Invalid, config=config, epochs=9).current_epoch == 1
    assert "the validation loss of epoch 1 is not a number" in messages.text


# -- streams, whose length is not known ----------------------------------------------------------


class Plain(IterableDataset[Any]):
    """Knows nothing of loading processes."""

    def __iter__(self) -> Any:
        return iter(make_data(8))


@pytest.mark.parametrize("workers", [0, 4])
def test_each_sample_of_a_stream_is_trained_on_once(tmp_path, messages, workers):
    config = {"batch_size": 2, "num_workers_dataloader": workers}
    trainer = trained(tmp_path, data=(Plain(), None), config=config, epochs=1)
    assert trainer.optimizer_steps == 4
    assert ("one process reads Plain, and not 4" in messages.text) is (workers == 4)


def test_the_length_of_a_stream_with_several_loaders_is_not_trusted(tmp_path):
    config = {"num_workers_dataloader": 3, "lr_scheduler": "cosine"}
    with pytest.raises(ConfigurationError, match="the training data has no length"):
        trained(tmp_path, data=(Stream(40), None), config=config)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_stream_that_is_not_shuffled_is_said(tmp_path, messages, shuffle):
    config = {"shuffle_train": shuffle, "num_workers_dataloader": 0}
    trained(tmp_path, data=(Plain(), Plain()), config=config, epochs=2)
    said = [r.getMessage() for r in messages.records if "warning: shuffle" in r.getMessage()]
    expected = "warning: shuffle has no effect on Plain, which is read from front to back: "
    assert [text.startswith(expected) for text in said] == [True] * shuffle


@pytest.mark.parametrize("workers", [0, 3])
def test_the_last_step_of_a_stream_is_made_in_its_epoch(tmp_path, workers):
    class Turns(TorchTrainer):
        def optimize(self, loss: torch.Tensor) -> None:
            super().optimize(loss)
            self.turns = [*getattr(self, "turns", []), (self.turn.share, self.turn.is_last)]

    config = {
        "batch_size": 4,
        "gradient_accumulation_steps": 4,
        "num_workers_dataloader": workers,
        "shuffle_train": False,
    }
    turns = trained(tmp_path, kind=Turns, data=(Stream(37), None), config=config, epochs=1).turns
    assert sum(share for share, _ in turns) == pytest.approx(sum(last for _, last in turns))
    assert turns[-1][1]


# -- counting ------------------------------------------------------------------------------------


class Images(Dataset[Any]):
    """Images of various sizes, whose loss is their number."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> Any:
        image, boxes = torch.ones(3, 4 + index, 5), torch.zeros(index + 1, 4)
        return image, {"boxes": boxes, "y": torch.tensor(float(index))}


class Detection(TorchTrainer):
    def create_dataloaders(self, train: Any, validation: Any = None, test: Any = None) -> None:
        self.train_dataloader = self.strategy.create_dataloader(
            train, batch_size=8, collate_fn=lambda batch: tuple(zip(*batch, strict=True))
        )

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        loss = torch.stack([target["y"] for target in batch[1]]).mean()
        self.optimize(loss + 0 * next(self.model.parameters()).sum())
        return loss, {}


def test_samples_in_columns_are_counted(tmp_path):
    trainer = trained(tmp_path, kind=Detection, data=(Images(), None), epochs=1)
    assert trainer.epoch_metrics["train_loss"] == 4.0  # and not 5.75, the mean of the two batches


class Uncountable(TorchTrainer):
    def create_dataloaders(self, train: Any, validation: Any = None, test: Any = None) -> None:
        loader: Any = DataLoader(train, batch_size=8, collate_fn=lambda batch: {8, len(batch)})
        self.train_dataloader = loader

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        return float(min(batch)), {}


def test_what_cannot_be_counted_names_the_hook(tmp_path):
    with pytest.raises(TypeError, match=r"batch of type set\. Override samples_in_batch\(\)"):
        trained(tmp_path, kind=Uncountable, data=(Images(), None), epochs=1)


def test_the_hook_says_how_many_samples_there_are(tmp_path):
    class Told(Uncountable):
        def samples_in_batch(self, batch: Any) -> int:
            return min(batch)

    trainer = trained(tmp_path, kind=Told, data=(Images(), None), epochs=1)
    assert trainer.epoch_metrics["train_loss"] == pytest.approx((8 * 8 + 1 * 1) / 9)


class TimeFirst(TorchTrainer):
    """Its inputs are of shape (time, samples, features)."""

    def create_dataloaders(self, train: Any, validation: Any = None, test: Any = None) -> None:
        def collate(samples: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
            inputs, targets = zip(*samples, strict=True)
            return torch.stack(inputs).repeat(7, 1, 1), torch.stack(targets)

        self.train_dataloader = DataLoader(train, batch_size=8, collate_fn=collate)

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        return super().train_step([batch[0][0], batch[1]], batch_idx)


class Told(TimeFirst):
    def samples_in_batch(self, batch: Any) -> int:
        return len(batch[1])


def test_inputs_and_targets_of_different_lengths_are_said_once(tmp_path, messages):
    trained(tmp_path / "a", kind=Told, data=(make_data(20), None), metrics={})
    assert "the inputs of a batch" not in messages.text
    trained(tmp_path / "b", kind=TimeFirst, data=(make_data(20), None), metrics={})
    said = "the inputs of a batch have the length 7 and its targets 8, so it counts as 7 samples"
    assert messages.text.count("the inputs of a batch") == messages.text.count(said) == 1


@pytest.mark.parametrize("loss", ["mse", "l1"])
@pytest.mark.parametrize("end", [nn.Identity, partial(nn.Flatten, 0)], ids=["columns", "alike"])
@pytest.mark.filterwarnings("ignore:Using a target size")  # a trial's goes to its log
def test_predictions_and_targets_of_different_shapes_are_said_once(tmp_path, messages, loss, end):
    inputs = torch.randn(20, 4)
    data = TensorDataset(inputs, inputs.sum(1))
    model = nn.Sequential(nn.Linear(4, 1), end())
    trained(tmp_path, data=(data, data), model=model, config={"loss": loss}, metrics={})
    count = messages.text.count("compares each with several of the others")
    assert count == (end is nn.Identity)


def test_what_goes_by_a_set_that_is_not_there_is_said(tmp_path, messages):
    asked = {"config": {"early_stopping_patience": 1}, "test_every": 1, "epochs": 1}
    trained(tmp_path / "a", data=(*DATA, DATA[1]), **asked)
    assert "no effect" not in messages.text
    trained(tmp_path / "b", data=(DATA[0], None), **asked)
    assert "early_stopping_patience=1 has no effect: there is no validation set" in messages.text
    assert "test_every=1 has no effect: there is no test set" in messages.text


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_loss_that_is_a_sum_is_said(tmp_path, messages, reduction):
    class Own(TorchTrainer):
        def create_model_loss_optimizer(self) -> None:
            super().create_model_loss_optimizer()
            self.loss = nn.CrossEntropyLoss(reduction=reduction)

    trained(tmp_path, kind=Own, epochs=1)
    assert messages.text.count("has reduction='sum'") == (reduction == "sum")


# -- what hooks return ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda loss: loss, r"train_step\(\) returned a tensor of shape \(\); expected its loss"),
        (lambda loss: float(loss), r"train_step\(\) returned a float; expected its loss"),
        (lambda loss: None, r"train_step\(\) returned None; expected"),
        (lambda loss: ({"loss": loss}, {}), "a dict as its loss; expected one number"),
        (lambda loss: (loss, [loss]), "a list of 1 as its metrics; expected a dictionary"),
        (lambda loss: (loss, {"note": "fine"}), "a str as its metric 'note'; expected numbers"),
    ],
)
def test_a_step_that_returns_something_else_is_named(tmp_path, returned, words):
    class Odd(TorchTrainer):
        def train_step(self, batch: Any, batch_idx: int) -> Any:
            loss, _ = super().train_step(batch, batch_idx)
            return returned(loss)

    with pytest.raises(HookError, match=words):
        trained(tmp_path, kind=Odd)


def test_the_parts_of_a_metric_have_names_of_their_own(tmp_path):
    class Parts(TorchTrainer):
        def train_step(self, batch: Any, batch_idx: int) -> Any:
            loss, _ = super().train_step(batch, batch_idx)
            return loss, {"map": {"50": 0.5, "all": {"mean": torch.tensor(0.25)}}}

    metrics = trained(tmp_path, kind=Parts).epoch_metrics
    assert (metrics["train_map_50"], metrics["train_map_all_mean"]) == (0.5, 0.25)


def test_a_schedule_by_the_validation_loss_needs_one(tmp_path):
    class Plateau(TorchTrainer):
        def create_model_loss_optimizer(self) -> None:
            super().create_model_loss_optimizer()
            self.lr_scheduler = ReduceLROnPlateau(self.optimizer)

    with pytest.raises(ConfigurationError, match="ReduceLROnPlateau goes by the validation loss"):
        trained(tmp_path, kind=Plateau, data=(DATA[0], None))


def test_batch_norm_over_ranks_needs_gpus(tmp_path):
    with pytest.raises(ConfigurationError, match="sync_batchnorm: PyTorch has it on GPUs alone"):
        trained(tmp_path, config={"sync_batchnorm": True})


# -- random numbers ------------------------------------------------------------------------------


def orders(folder: Path, **changes: Any) -> list[list[int]]:
    """In which order each epoch's samples come."""

    class Numbered(Dataset[Any]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> Any:
            return torch.full((4,), float(index)), torch.tensor(index % 2)

    class Seeing(TorchTrainer):
        def train_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 0:
                self.seen = [*getattr(self, "seen", []), []]
            self.seen[-1] += batch[0][:, 0].int().tolist()
            return super().train_step(batch, batch_idx)

    found: list[list[int]] = trained(
        folder, kind=Seeing, data=(Numbered(), None), checkpoint_every=1, **changes
    ).seen
    return found


def test_without_a_seed_each_training_has_an_order_of_its_own(tmp_path):
    assert orders(tmp_path / "a", random_seed=None) != orders(tmp_path / "b", random_seed=None)
    assert orders(tmp_path / "c", random_seed=3) == orders(tmp_path / "d", random_seed=3)


def test_an_order_without_a_seed_survives_a_resume(tmp_path):
    whole = orders(tmp_path / "a", random_seed=None, epochs=4)
    start = tmp_path / "a" / "checkpoints" / "epoch_1"
    assert orders(tmp_path / "b", random_seed=None, epochs=4, from_checkpoint=start) == whole[2:]


class Noisy(Dataset[Any]):
    """Each reading of a sample is another one."""

    def __init__(self, samples: int) -> None:
        self.samples = make_data(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        inputs, target = self.samples[index]
        return inputs + torch.randn(4), target


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_does_not_depend_on_how_often_it_is_evaluated(tmp_path, workers):
    def weights(name: str, *data: Any, **changes: Any) -> list[Any]:
        config = {"num_workers_dataloader": workers}
        trainer = trained(tmp_path / name, data=data, config=config, **changes)
        return [weight.tolist() for weight in trainer.model.parameters()]

    alone = weights("alone", Noisy(40))
    assert weights("validated", Noisy(40), Noisy(9)) == alone
    assert weights("tested", Noisy(40), None, Noisy(9), test_every=2) == alone


# -- a checkpoint belongs to a run ---------------------------------------------------------------


def test_an_older_runs_checkpoints_are_not_taken_for_this_runs(tmp_path, messages):
    trained(tmp_path, epochs=4, checkpoint_every=1)
    trained(tmp_path, epochs=2, checkpoint_every=1)
    assert "holds checkpoints of an earlier training (epoch_0, epoch_1, epoch_2, epoch_3)" in (
        messages.text
    )
    start = tmp_path / "checkpoints"
    with pytest.raises(CheckpointError) as caught:
        trained(tmp_path, epochs=5, from_checkpoint=start)
    told = "checkpoints of 2 trainings, of one epoch_2, epoch_3; of one epoch_0, epoch_1. Name"
    assert told in str(caught.value)
    resumed = trained(tmp_path, epochs=3, checkpoint_every=1, from_checkpoint=start / "epoch_1")
    assert resumed.current_epoch == 2


def test_a_run_that_goes_on_is_one(tmp_path, messages):
    start = tmp_path / "checkpoints"
    trained(tmp_path, epochs=1, checkpoint_every=1)
    for epochs in (2, 3):
        trained(tmp_path, epochs=epochs, checkpoint_every=1, from_checkpoint=start)
    assert "earlier training" not in messages.text
    assert sorted(path.name for path in start.glob("epoch_*")) == ["epoch_0", "epoch_1", "epoch_2"]


def test_a_model_without_data_to_evaluate_trains(tmp_path):
    assert isinstance(trained(tmp_path, data=(DATA[0], None)).model, nn.Module)
