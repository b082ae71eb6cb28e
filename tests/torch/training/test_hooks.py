"""What users' hooks return and leave: an error names the hook, what came, and what should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import MLP, make_data, options
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from itwinai.errors import ConfigurationError
from itwinai.torch.trainer import TorchTrainer
from itwinai.torch.type import HookError

DATA = make_data(20)


def trained(folder: Path, hooks: dict[str, Any], **changes: Any) -> TorchTrainer:
    """Train a little with hooks of the user's own."""
    kind = type("Own", (TorchTrainer,), hooks)
    trainer = kind(**options(folder, metrics=None, epochs=2, **changes))
    trainer.execute(DATA, DATA)
    return trainer


def message(folder: Path, hooks: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(HookError) as caught:
        trained(folder, hooks, **changes)
    return str(caught.value)


def returning(value: Any) -> Callable[..., Any]:
    return lambda self, *args: value


def loading(make: Callable[[], Any]) -> dict[str, Any]:
    """An own ``create_dataloaders()``."""

    def create_dataloaders(self: Any, *datasets: Any) -> None:
        self.train_dataloader = make()

    return {"create_dataloaders": create_dataloaders}


def building(**attributes: Any) -> dict[str, Any]:
    """An own ``create_model_loss_optimizer()``, which forgets what it is not told."""

    def create_model_loss_optimizer(self: Any) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)

    return {"create_model_loss_optimizer": create_model_loss_optimizer}


def batches() -> list[Any]:
    return [DATA[:10], DATA[10:]]


def a_model() -> Any:
    return {"model": MLP(), "optimizer": torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)}


# -- the loss of an epoch ------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["train_epoch", "validation_epoch"])
@pytest.mark.parametrize(
    ("returned", "came"),
    [
        ("done", "a str"),
        ((1.0, {}), "a tuple of 2"),
        (torch.ones(2), r"a tensor of shape (2,)"),
        ({"loss": 1.0}, "a dict"),
    ],
)
def test_the_loss_of_an_epoch_is_one_number(tmp_path, hook, returned, came):
    told = message(tmp_path, {hook: returning(returned)})
    assert told == f"{hook}() returned {came}; expected the mean loss, one number, or None"


@pytest.mark.parametrize("returned", [0.5, torch.tensor([0.5])])
def test_an_own_epoch_may_return_its_loss(tmp_path, returned):
    metrics = trained(tmp_path, {"train_epoch": returning(returned)}).epoch_metrics
    assert metrics["train_loss"] == 0.5


def test_a_training_whose_steps_give_no_loss_has_none(tmp_path):
    step = {"train_step": returning((None, {"own": 3.0}))}
    metrics = trained(tmp_path, step).epoch_metrics
    assert "train_loss" not in metrics
    assert metrics["train_own"] == 3.0


# -- loaders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "came"),
    [
        (lambda: (batch for batch in batches()), "to a generator"),
        (lambda: zip(batches(), batches(), strict=True), "to a zip"),
        (lambda: DATA, "to a TensorDataset"),
        (lambda: DataLoader, "to the class DataLoader"),
    ],
)
def test_a_loader_gives_its_batches_in_each_epoch(tmp_path, make, came):
    told = message(tmp_path, loading(make))
    assert told.startswith(f"create_dataloaders() set self.train_dataloader {came}; expected a")


@pytest.mark.parametrize(
    ("data", "came"),
    [
        ((sample for sample in DATA), "a generator, which has no __len__ and no __getitem__"),
        (DataLoader(DATA), "a DataLoader, which has no __getitem__"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path, data, came):
    with pytest.raises(ConfigurationError, match=f"the data set is {came}; expected a"):
        TorchTrainer(**options(tmp_path)).execute(data)


def test_a_list_of_batches_is_a_loader(tmp_path):
    assert trained(tmp_path, loading(batches)).current_epoch == 1


def test_a_loader_that_is_not_set_is_said(tmp_path):
    told = message(tmp_path, {"create_dataloaders": returning(None)})
    assert told == "create_dataloaders() did not set self.train_dataloader; expected a DataLoader"


def test_whoever_needs_no_loader_sets_none(tmp_path):
    hooks = {"create_dataloaders": returning(None), "train_epoch": returning(0.5)}
    assert trained(tmp_path, hooks).epoch_metrics == {"train_loss": 0.5}


@pytest.mark.parametrize(
    ("collate", "came"),
    [
        (lambda samples: None, "None (does its collate_fn lack a return?)"),
        (lambda samples: {"x": samples}, "a dict"),
        (lambda samples: [samples, 1, 2], "a list of 3"),
        (lambda samples: torch.ones(2, 4), "a tensor of shape (2, 4)"),
    ],
)
def test_a_batch_that_the_default_step_cannot_take_apart(tmp_path, collate, came):
    loader = loading(lambda: DataLoader(DATA, batch_size=10, collate_fn=collate))
    told = message(tmp_path, loader)
    assert told.startswith(f"the loader gave {came}; expected a batch of inputs and targets")
    assert came.startswith("None") or "Override train_step()" in told


# -- what is built -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ({"model": None}, "did not set self.model; expected the torch.nn.Module"),
        ({"model": MLP}, "set self.model to the class MLP; expected the torch.nn.Module"),
        ({"optimizer": None}, "did not set self.optimizer; expected an optimizer"),
        ({"optimizer": torch.optim.SGD}, "set self.optimizer to the class SGD; expected an opt"),
        ({"lr_scheduler": "cosine"}, "set self.lr_scheduler to a str; expected a schedule"),
        ({"loss": None}, "did not set self.loss; expected a function loss(prediction, target)"),
        ({"loss": nn.MSELoss}, "set self.loss to the class MSELoss; expected a function"),
        ({"loss": "mse"}, "set self.loss to a str; expected a function"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_built_is_looked_at(tmp_path, left, told):
    hooks = building(**{**a_model(), "loss": nn.CrossEntropyLoss(), **left})
    assert message(tmp_path, hooks).startswith(f"create_model_loss_optimizer() {told}")


def test_a_step_of_ones_own_needs_no_loss_function(tmp_path):
    steps = dict.fromkeys(("train_step", "validation_step"), returning((1.0, {})))
    trainer = trained(tmp_path, {**building(**a_model()), **steps})
    assert trainer.epoch_metrics["validation_loss"] == 1.0


def test_a_factory_returns_a_model(tmp_path):
    def forgotten() -> None:
        MLP()

    told = message(tmp_path, {}, model=forgotten)
    assert told == "model: forgotten() returned None; expected a torch.nn.Module"


# -- dictionaries and counts ---------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["compute_metrics", "get_default_distributed_kwargs"])
def test_what_is_to_be_a_dictionary(tmp_path, hook):
    told = message(tmp_path, {hook: returning(None)})
    assert told.startswith(f"{hook}() returned None; expected a dictionary of ")


@pytest.mark.parametrize(
    ("returned", "came"), [(2.5, "2.5"), (-1, "-1"), (None, "None"), ("3", "a str")]
)
def test_samples_are_a_whole_number(tmp_path, returned, came):
    told = message(tmp_path, {"samples_in_batch": returning(returned)})
    assert told.startswith(f"samples_in_batch() returned {came}; expected the number of samples")


def test_an_epoch_of_no_samples_is_said(tmp_path):
    told = message(tmp_path, {"terms_in_loss": returning(0)})
    assert told.startswith("nothing counts in any batch of an epoch")


def test_a_batch_may_have_no_samples(tmp_path):
    """All of it may be padding, which counts nothing."""

    class Padded(TorchTrainer):
        def terms_in_loss(self, batch: Any) -> float:
            return 0 if self.train_glob_step % 2 else 16

        def train_step(self, batch: Any, batch_idx: int) -> Any:
            return float("nan") if batch_idx else 1.0, {}

    trainer = Padded(**options(tmp_path, metrics=None, epochs=1))
    trainer.execute(TensorDataset(*make_data(32)[:]))
    assert trainer.epoch_metrics["train_loss"] == 1.0
