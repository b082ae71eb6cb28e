"""What the options of a training do to its steps: each compared with PyTorch by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import MLP, make_data, options
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from itwinai.torch.reproducibility import set_seed
from itwinai.torch.trainer import TorchTrainer

DATA = make_data(60)
CONFIG = {"optimizer": "sgd", "optim_momentum": 0.0, "optim_lr": 0.1, "shuffle_train": False}


class Recording(TorchTrainer):
    """Keeps each epoch's metrics, and the gradients of each optimizer step."""

    def train(self) -> None:
        self.history: list[dict[str, float]] = []
        self.gradients: list[torch.Tensor] = []
        self.rates: list[float] = []
        step = self.optimizer.step

        def recorded(*args: Any, **kwargs: Any) -> Any:
            self.gradients.append(flat(self.model, gradients=True))
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            return step(*args, **kwargs)

        self.optimizer.step = recorded  # type: ignore[method-assign]
        super().train()

    def validation_epoch(self) -> Any:
        loss = super().validation_epoch()
        self.history.append(dict(self.epoch_metrics))
        return loss


def flat(model: nn.Module, gradients: bool = False) -> torch.Tensor:
    parts = (p.grad if gradients else p for p in model.parameters())
    return torch.cat([part.detach().flatten() for part in parts if part is not None]).clone()


def train(folder: Path, data: Any = DATA, **changes: Any) -> tuple[Recording, nn.Module]:
    config = {**CONFIG, **changes.pop("config", {})}
    validation = changes.pop("validation", make_data(35))
    trainer = Recording(**options(folder, config=config, metrics={}, **changes))
    *_, model = trainer.execute(data, validation)
    return trainer, model


def by_hand(batch_size: int, epochs: int = 3) -> tuple[nn.Module, torch.optim.Optimizer, Any]:
    set_seed(1)
    model = MLP()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [b for _ in range(epochs) for b in DataLoader(DATA, batch_size=batch_size)]
    return model, optimizer, batches


def gradients_of(model: nn.Module, batch: Any, **loss_options: Any) -> None:
    model.zero_grad()
    inputs, target = batch
    nn.functional.cross_entropy(model(inputs), target, **loss_options).backward()


# 60 samples in batches of 8 make 8 batches, the last of 4: two steps of 3 and one of 2.
@pytest.mark.parametrize("batches", [2, 3])
def test_accumulated_batches_make_the_step_of_one_large_batch(tmp_path: Path, batches: int) -> None:
    small = {"batch_size": 8, "gradient_accumulation_steps": batches}
    trainer, model = train(tmp_path, config=small)
    large, expected = train(tmp_path, config={"batch_size": 8 * batches})
    assert len(trainer.gradients) == len(large.gradients) == 3 * -(-60 // (8 * batches))
    for one, other in zip(trainer.gradients, large.gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert torch.allclose(flat(model), flat(expected), atol=1e-6)


class Endless(IterableDataset[Any]):
    """Nobody knows its length."""

    def __iter__(self) -> Any:
        return (DATA[index] for index in range(60))


def test_the_last_step_of_data_without_length_is_made(tmp_path: Path) -> None:
    trainer, _ = train(
        tmp_path, Endless(), config={"batch_size": 8, "gradient_accumulation_steps": 3}, epochs=1
    )
    assert len(trainer.gradients) == 3


def test_clipping_is_that_of_pytorch(tmp_path: Path) -> None:
    trainer, trained = train(tmp_path, config={"gradient_clipping": 0.4})
    model, optimizer, batches = by_hand(16)
    norms = []
    for batch in batches:
        gradients_of(model, batch)
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), 0.4)))
        optimizer.step()
    assert min(norms) < 0.4 < max(norms)  # some are clipped, and some are not
    assert torch.equal(flat(trained), flat(model))
    assert max(float(gradient.norm()) for gradient in trainer.gradients) < 0.4001


def test_label_smoothing_is_that_of_pytorch(tmp_path: Path) -> None:
    _, trained = train(tmp_path, config={"label_smoothing": 0.2})
    model, optimizer, batches = by_hand(16)
    for batch in batches:
        gradients_of(model, batch, label_smoothing=0.2)
        optimizer.step()
    assert torch.equal(flat(trained), flat(model))


def test_bf16_is_autocast(tmp_path: Path) -> None:
    _, trained = train(tmp_path, config={"precision": "bf16"})
    model, optimizer, batches = by_hand(16)
    for inputs, target in batches:
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(model(inputs), target)
        loss.backward()
        optimizer.step()
    assert torch.equal(flat(trained), flat(model))
    assert {p.dtype for p in trained.parameters()} == {torch.float32}


def test_fp16_scales_the_loss(tmp_path: Path) -> None:
    trainer, trained = train(tmp_path, config={"precision": "fp16"})
    assert trainer.optimization.state_dict()["scale"] == 2.0**16
    _, whole = train(tmp_path)
    assert torch.allclose(flat(trained), flat(whole), atol=0.01)
    assert not torch.equal(flat(trained), flat(whole))


def test_an_overflow_of_fp16_skips_the_step_and_lowers_the_scale(tmp_path: Path) -> None:
    class Overflowing(Recording):
        def train_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 1 and self.current_epoch == 0:
                self.before = flat(self.model)
                inputs, target = batch
                result = super().train_step([inputs * float("inf"), target], batch_idx)
                self.after = flat(self.model)
                return result
            return super().train_step(batch, batch_idx)

    trainer = Overflowing(**options(tmp_path, config={**CONFIG, "precision": "fp16"}))
    trainer.execute(DATA, None)
    assert torch.equal(trainer.before, trainer.after)
    assert trainer.optimization.state_dict()["scale"] == 2.0**15


def test_a_compiled_model_trains_alike_and_keeps_its_names(tmp_path: Path) -> None:
    _, plain = train(tmp_path / "plain", epochs=1)
    _, compiled = train(tmp_path / "compiled", epochs=1, config={"torch_compile": True})
    assert compiled._compiled_call_impl is not None
    assert torch.allclose(flat(plain), flat(compiled), atol=1e-5)
    saved = torch.load(tmp_path / "compiled/checkpoints/best_model/model.pt", weights_only=True)
    MLP().load_state_dict(saved)


def test_the_average_of_16_bit_weights_follows_them(tmp_path: Path) -> None:
    def trained(kind: torch.dtype, decay: float | None) -> torch.Tensor:
        set_seed(1)
        data = TensorDataset(DATA.tensors[0].to(kind), DATA.tensors[1])
        config = {**CONFIG, "ema_decay": decay}
        given = options(tmp_path, config=config, metrics={}, model=MLP().to(kind), epochs=10)
        *_, model = TorchTrainer(**given).execute(data, data)
        assert flat(model).dtype == kind
        return flat(model).float()

    exact, average = trained(torch.float32, 0.999), trained(torch.bfloat16, 0.999)
    set_seed(1)
    begin, end = flat(MLP()), trained(torch.bfloat16, None)
    assert torch.norm(average - exact) < 0.2 * torch.norm(exact - begin)
    assert torch.norm(end - begin) > 5 * torch.norm(exact - begin)  # the evaluations left it alone


def test_the_average_is_what_is_evaluated_and_saved(tmp_path: Path) -> None:
    trainer, trained = train(tmp_path, epochs=2, config={"ema_decay": 0.7}, checkpoint_every=1)
    model, optimizer, batches = by_hand(16, epochs=2)
    average = copy.deepcopy(model)
    for batch in batches:
        gradients_of(model, batch)
        optimizer.step()
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), model.parameters(), strict=True):
                mean.copy_(0.7 * mean + 0.3 * weight)
    assert torch.allclose(flat(trained), flat(average), atol=1e-6)
    saved = MLP()
    folder = tmp_path / "checkpoints/epoch_1"
    saved.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    assert torch.allclose(flat(saved), flat(average), atol=1e-6)
    inputs, target = make_data(35).tensors
    loss = nn.functional.cross_entropy(average(inputs), target).item()
    assert trainer.history[-1]["validation_loss"] == pytest.approx(loss, abs=1e-5)
    state = torch.load(folder / "state.pt", weights_only=True)
    saved.load_state_dict(state["trained_model_state_dict"])
    assert torch.allclose(flat(saved), flat(model), atol=1e-6)


@pytest.mark.parametrize(("patience", "epochs"), [(1, 4), (2, 5), (9, 6)])
def test_early_stopping_ends_after_its_patience(tmp_path: Path, patience: int, epochs: int) -> None:
    class Scripted(Recording):
        def validation_epoch(self) -> float:
            self.history.append({})
            return [5.0, 4.0, 3.0, 2.95, 2.9, 2.85][self.current_epoch]

    stopping = {"early_stopping_patience": patience, "early_stopping_min_delta": 0.5}
    trainer = Scripted(**options(tmp_path, epochs=6, config={**CONFIG, **stopping}))
    trainer.execute(DATA, make_data(35))
    assert len(trainer.history) == epochs


def test_a_schedule_by_steps_counts_optimizer_steps(tmp_path: Path) -> None:
    config = {"batch_size": 8, "gradient_accumulation_steps": 3, "lr_scheduler": "cosine"}
    trainer, _ = train(tmp_path, config=config)
    assert len(trainer.rates) == 9
    assert trainer.rates[0] == 0.1
    assert trainer.rates == sorted(trainer.rates, reverse=True)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)


def test_a_users_own_plateau_schedule_hears_the_validation_loss(tmp_path: Path) -> None:
    class Own(Recording):
        def create_model_loss_optimizer(self) -> None:
            super().create_model_loss_optimizer()
            self.lr_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimizer, factor=0.5, patience=0, threshold=10.0, threshold_mode="abs"
            )

    trainer = Own(**options(tmp_path, config=CONFIG, metrics={}))
    trainer.execute(DATA, make_data(35))
    assert trainer.optimizer.param_groups[0]["lr"] == 0.1 / 4  # no epoch is better by 10


class Stepping(TorchTrainer):
    """Has one of PyTorch's schedules, which goes on where its own code says so, if it does."""

    where, schedule = "", CosineAnnealingLR
    spans = 12

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.lr_scheduler = self.schedule(self.optimizer, self.spans)

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        result = super().train_step(batch, batch_idx)
        if self.where == "step":
            self.lr_scheduler.step()
        return result

    def train_epoch(self) -> Any:
        loss = super().train_epoch()
        if self.where == "epoch":
            self.lr_scheduler.step()
        return loss


@pytest.mark.parametrize("at", [None, "epoch_1", "epoch_1_step_4"])
@pytest.mark.parametrize(("where", "steps"), [("", 3), ("epoch", 3), ("step", 12)])
def test_a_schedule_goes_on_once_whoever_steps_it(
    tmp_path: Path, where: str, steps: int, at: str | None
) -> None:
    kind = type("Placed", (Stepping,), {"where": where})
    saving = {"checkpoint_every": 1, "checkpoint_every_steps": 4}
    made = options(tmp_path, config=CONFIG, metrics={}, **saving)
    trainer = kind(**made)
    trainer.execute(DATA)
    if at is not None:
        trainer = kind(**made, from_checkpoint=tmp_path / "checkpoints" / at)
        trainer.execute(DATA)
    assert trainer.lr_scheduler.last_epoch == steps


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"spans": 12}, True),
        ({"spans": 12, "where": "step"}, False),
        ({"spans": 3}, False),
        ({"schedule": StepLR, "spans": 9}, True),
        ({"schedule": lambda _, optimizer, spans: MultiStepLR(optimizer, [2, spans])}, True),
        ({"schedule": lambda _, optimizer, spans: warmed_up(optimizer, spans)}, True),
    ],
)
def test_a_schedule_that_is_meant_for_steps_and_goes_by_epochs_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], told: bool
) -> None:
    kind = type("Placed", (Stepping,), changes)
    kind(**options(tmp_path, config=CONFIG, metrics={})).execute(DATA)
    assert (
        "each of the 3 epochs here, and seems meant for steps" in capsys.readouterr().out
    ) is told


@pytest.mark.parametrize("is_own_value", [False, True])
def test_a_plateau_that_waits_for_a_rise_hears_a_value_that_rises_or_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_own_value: bool
) -> None:
    class Rising(TorchTrainer):
        def create_model_loss_optimizer(self) -> None:
            super().create_model_loss_optimizer()
            self.lr_scheduler = ReduceLROnPlateau(self.optimizer, mode="max", patience=0)

        def validation_epoch(self) -> Any:
            loss = super().validation_epoch()
            if is_own_value:
                self.lr_scheduler.step(self.current_epoch)
            return loss

    trainer = Rising(**options(tmp_path, config=CONFIG, metrics={}))
    trainer.execute(DATA, make_data(35))
    told = "waits for a rise (mode='max') and hears the validation loss" in capsys.readouterr().out
    assert told is not is_own_value
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 if is_own_value else 1e-3)


def warmed_up(optimizer: torch.optim.Optimizer, steps: int) -> SequentialLR:
    parts = LinearLR(optimizer, total_iters=2), CosineAnnealingLR(optimizer, steps)
    return SequentialLR(optimizer, [*parts], milestones=[2])


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"lr_scheduler": "polynomial", "lr_scheduler_step_size": 2}, "to 0 with 1 of 3 epochs"),
        ({"lr_scheduler": "polynomial", "lr_scheduler_step_size": 3}, None),
        ({"lr_scheduler": "cosine", "lr_warmup_epochs": 3}, "lr_warmup_epochs=3 is all of the 3"),
        ({"lr_scheduler": "cosine", "lr_warmup_epochs": 2.5}, None),
    ],
    ids=str,
)
def test_a_schedule_that_trains_nothing_or_never_falls_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: dict[str, Any], told: str | None
) -> None:
    train(tmp_path, config=config)
    warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(warnings) == (told is not None)
    assert told is None or told in warnings[0]


@pytest.mark.parametrize("size", [1e6, 1.0])
def test_a_training_of_which_every_step_overflows_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: float
) -> None:
    inputs = size * torch.randn(100, 4)
    data = TensorDataset(inputs, size * inputs.sum(1, keepdim=True))
    config = {"precision": "fp16", "loss": "mse", "batch_size": 2}
    train(tmp_path, data, config=config, model=nn.Linear(4, 1), validation=data)
    assert capsys.readouterr().out.count("the gradients overflow in each step") == (size > 1)
