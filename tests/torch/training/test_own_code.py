"""A user's own loops and steps give the numbers that they would give without the trainer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_ranks
from small_trainings import MLP, make_data, options
from torch import nn
from torch.utils.data import TensorDataset

from itwinai.errors import ConfigurationError, NotANumberError
from itwinai.torch.trainer import TorchTrainer
from itwinai.torch.type import HookError

PROGRAM = Path(__file__).with_name("own_code_program.py")


def run(folder: Path, case: str) -> list[dict[str, Any]]:
    """Run a case of the program on two ranks; return what each wrote."""
    run_ranks(PROGRAM, str(folder), case)
    return [json.loads((folder / f"outcome-{rank}.json").read_text()) for rank in range(2)]


def test_ranks_agree_whatever_their_share_of_the_data(tmp_path: Path) -> None:
    first, second = run(tmp_path, "agreed")
    # A validation batch that rank 1 has not weighs no later step.
    assert first["shares"] == second["shares"] == [1.0] * len(first["shares"])
    # A schedule is as long as the steps of the longest rank.
    assert first["rates"] == second["rates"]
    assert first["rates"][-1] == pytest.approx(0.0, abs=1e-9)
    # Without a validation set, too, the returned model is one.
    assert first["mean"] == second["mean"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("step", "config.gradient_accumulation_steps: the optimizer makes a step in the middle"),
        pytest.param(
            "unfrozen",
            "the trainer's model has other weights on each rank",
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_ranks_that_would_part_are_refused(tmp_path: Path, case: str, message: str) -> None:
    for rank in run(tmp_path, case):
        assert rank["refused"].startswith(message)


class OwnValidation(TorchTrainer):
    """Evaluates in its own words."""

    def validation_epoch(self) -> Any:
        self.model.eval()
        inputs, targets = next(iter(self.validation_dataloader))
        with torch.no_grad():
            return self.loss(self.model(inputs), targets)


def test_an_own_validation_is_of_the_averaged_weights_that_are_returned(tmp_path: Path) -> None:
    config = {"ema_decay": 0.9, "batch_size": 60, "shuffle_train": False}
    trainer = OwnValidation(**options(tmp_path, config=config))
    data = make_data()
    *_, model = trainer.execute(data, data)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(data.tensors[0]), data.tensors[1])
    assert trainer.epoch_metrics["validation_loss"] == pytest.approx(loss.item(), rel=1e-5)


class Leaving(TorchTrainer):
    """Takes the first batches of each epoch alone."""

    taken = 4

    def train_epoch(self) -> Any:
        for number, (inputs, targets) in enumerate(self.remaining_batches(), 1):
            self.optimize(self.loss(self.model(inputs), targets))
            if number == self.taken:
                break
        self.turns = [*getattr(self, "turns", []), self.turn]


@pytest.mark.parametrize("taken", [4, 5])
def test_a_loop_that_is_left_takes_nothing_into_the_next_step(tmp_path: Path, taken: int) -> None:
    config = {"batch_size": 8, "gradient_accumulation_steps": 2}
    whole, left = (Leaving(**options(tmp_path / name, config=config)) for name in "ab")
    left.taken = taken
    for trainer in (whole, left):
        trainer.execute(make_data())
    for one, other in zip(whole.model.parameters(), left.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert (left.optimizer_steps, {turn.share for turn in left.turns}) == (6, {1.0})


class Skipping(TorchTrainer):
    """Leaves out the second batch of each epoch."""

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx != 1:
            return super().train_step(batch, batch_idx)
        return None, {}


def test_a_step_that_was_not_made_leaves_nothing_to_the_next_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"batch_size": 15, "shuffle_train": False, "gradient_accumulation_steps": 2}
    given = options(tmp_path, epochs=1, config={**config, "optimizer": "sgd"})
    rest = TensorDataset(*(part[30:] for part in make_data().tensors))
    models = []
    for kind, data in ((Skipping, make_data()), (TorchTrainer, rest)):
        models.append(kind(**given).execute(data)[-1])
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
    assert "was not handed to self.optimize()" in caplog.text


class Saving(TorchTrainer):
    """Saves what it has evaluated, at the end of epochs and in the middle of them."""

    def validation_epoch(self) -> Any:
        torch.rand(1)
        loss = super().validation_epoch()
        self.save_checkpoint(f"own_{self.current_epoch}_{self.position.steps}")
        return loss


@pytest.mark.parametrize("saved", ["own_1_2", "own_1_4"])
def test_a_checkpoint_of_ones_own_evaluation_goes_on_to_the_same_bits(
    tmp_path: Path, saved: str, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = {"lr_scheduler": "step", "lr_scheduler_step_size": 1, "lr_scheduler_gamma": 0.5}
    config = {"ema_decay": 0.9, "dropout": 0.2, "early_stopping_patience": 9, **schedule}
    trainers = []
    for checkpoint in (None, tmp_path / "checkpoints" / saved):
        given = options(tmp_path, config=config, validate_every_steps=2, from_checkpoint=checkpoint)
        trainers.append(Saving(**given))
        trainers[-1].execute(make_data(), make_data(30))
    whole, resumed = trainers
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    for name in ("epoch_metrics", "optimizer_steps", "validation_glob_step"):
        assert getattr(whole, name) == getattr(resumed, name)
    assert whole.early_stopping.state_dict() == resumed.early_stopping.state_dict()
    assert "has had no effect" not in caplog.text


class SavingSteps(TorchTrainer):
    """Saves while it trains on a batch."""

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        found = super().train_step(batch, batch_idx)
        self.save_checkpoint("mine")
        return found


class SavingInLoop(TorchTrainer):
    """Saves in a loop of its own."""

    def train(self) -> None:
        for _ in self.remaining_epochs():
            for inputs, targets in self.remaining_batches():
                self.optimize(self.loss(self.model(inputs), targets))
                self.save_checkpoint("mine")


@pytest.mark.parametrize("kind", [SavingSteps, SavingInLoop])
def test_a_checkpoint_within_a_batch_is_refused(tmp_path: Path, kind: type[TorchTrainer]) -> None:
    with pytest.raises(ConfigurationError, match=r"'mine'\) in the middle of epoch 1"):
        kind(**options(tmp_path)).execute(make_data())


class TwoNetworks(TorchTrainer):
    """Its second network normalises batches, and its own epochs set no mode."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.second = nn.BatchNorm1d(4)
        self.modes: list[bool] = []

    def train_epoch(self) -> Any:
        self.modes.append(self.model.training)
        for inputs, targets in self.remaining_batches():
            self.optimize(self.loss(self.model(inputs), targets))

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.second(batch[0])
        return super().validation_step(batch, batch_idx)


def test_an_evaluation_leaves_all_networks_as_they_were(tmp_path: Path) -> None:
    trainer = TwoNetworks(**options(tmp_path))
    trainer.execute(make_data(), make_data())
    assert trainer.modes == [True, True, True]
    assert trainer.second.training
    assert trainer.second.running_mean.tolist() == [0.0] * 4


def test_a_weight_that_is_unfrozen_later_is_averaged_from_then_on(tmp_path: Path) -> None:
    class Unfreezing(TorchTrainer):
        def train_epoch(self) -> Any:
            self.model.layers[0].requires_grad_(self.current_epoch > 0)
            return super().train_epoch()

    model = MLP()
    model.layers[0].requires_grad_(False)
    trainer = Unfreezing(**options(tmp_path, model=model, config={"ema_decay": 0.99}))
    before = model.layers[0].weight.detach().clone()
    *_, trained = trainer.execute(make_data())
    trainer.optimization.average.exchange()
    raw = trained.layers[0].weight.detach().clone()
    trainer.optimization.average.exchange()
    average = trained.layers[0].weight.detach()
    assert 0 < (average - before).norm() < (raw - before).norm()


def test_an_average_of_lazy_layers_goes_on(tmp_path: Path) -> None:
    def trained(**changes: Any) -> list[torch.Tensor]:
        config = {"ema_decay": 0.9}
        made = options(tmp_path, model=lambda: nn.LazyLinear(2), config=config, **changes)
        *_, model = TorchTrainer(**made).execute(make_data())
        return [weight.detach() for weight in model.parameters()]

    whole = trained(checkpoint_every=1)
    resumed = trained(from_checkpoint=tmp_path / "checkpoints/epoch_0")
    assert all(map(torch.equal, whole, resumed))


@pytest.mark.parametrize("same", [True, False])
def test_a_metric_of_the_name_loss_is_the_loss_or_refused(tmp_path: Path, same: bool) -> None:
    class Returning(TorchTrainer):
        def train_step(self, batch: Any, batch_idx: int) -> Any:
            loss, _ = super().train_step(batch, batch_idx)
            return loss, {"loss": loss.item() if same else 2 * loss}

    trainer = Returning(**options(tmp_path, epochs=1))
    if same:
        plain = TorchTrainer(**options(tmp_path / "plain", epochs=1))
        trainer.execute(make_data())
        plain.execute(make_data())
        assert trainer.epoch_metrics["train_loss"] == plain.epoch_metrics["train_loss"]
        return
    with pytest.raises(HookError, match="its metric 'loss', another than its loss"):
        trainer.execute(make_data())


def test_a_loss_that_is_no_number_is_told_as_such_though_it_is_a_metric_too(tmp_path: Path) -> None:
    class Diverging(TorchTrainer):
        def train_step(self, batch: Any, batch_idx: int) -> Any:
            loss, _ = super().train_step(batch, batch_idx)
            return loss * math.nan, {"loss": math.nan}

    with pytest.raises(NotANumberError, match="the loss became NaN in epoch 1"):
        Diverging(**options(tmp_path, epochs=1)).execute(make_data())


def test_a_rate_that_happens_to_be_the_loaded_one_is_scaled_too(tmp_path: Path) -> None:
    """After two epochs at 0.1, halved each time, the rate is 0.025; the new base is that, too."""
    halving = {"optimizer": "sgd", "lr_scheduler": "exponential", "lr_scheduler_gamma": 0.5}
    rates = []
    for base, epochs, resumed in ((0.1, 2, False), (0.025, 3, True)):
        settings = options(tmp_path, epochs=epochs, config={**halving, "optim_lr": base})
        checkpoint = tmp_path / "checkpoints" if resumed else None
        trainer = TorchTrainer(**settings, checkpoint_every=1, from_checkpoint=checkpoint)
        trainer.execute(make_data())
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.025, 0.025 / 8])
