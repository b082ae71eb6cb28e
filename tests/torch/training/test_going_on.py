"""Going on from a checkpoint with another configuration, and with all that has a state."""

from __future__ import annotations

import json
import logging
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ranks import run_ranks
from small_trainings import MLP, make_data, options
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau
from torch.utils.data import TensorDataset

import itwinai
from itwinai.errors import CheckpointError
from itwinai.torch.trainer import TorchTrainer

DATA = make_data(60), make_data(35)
PROGRAM = Path(__file__).with_name("network_program.py")


class Rates(TorchTrainer):
    """Notes the learning rate, or another setting, before each epoch and after the last."""

    def train_epoch(self) -> Any:
        self.noted = [*getattr(self, "noted", []), self.setting()]
        return super().train_epoch()

    def setting(self, name: str = "lr") -> Any:
        return [group[name] for group in self.optimizer.param_groups]


class TwoRates(Rates):
    """Its own optimizer, with a rate for each layer."""

    def create_model_loss_optimizer(self) -> None:
        model, rate = MLP(), self.config.optim_lr
        self.loss = nn.CrossEntropyLoss()
        first, last = model.layers[0].parameters(), model.layers[3].parameters()
        optimizer = torch.optim.SGD([{"params": first, "lr": rate / 10}, {"params": last}], lr=rate)
        self.model, self.optimizer, _ = self.strategy.distributed(model, optimizer)


class Reduced(Rates):
    """Its rate falls by a factor of ten after each epoch."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.lr_scheduler = ReduceLROnPlateau(
            self.optimizer, factor=0.1, patience=0, threshold=1e9, threshold_mode="abs"
        )


def trained(kind: type[TorchTrainer], folder: Path, **changes: Any) -> Any:
    trainer = kind(**options(folder, checkpoint_every=1, **changes))
    trainer.execute(*DATA)
    return trainer


def continued(kind: type[TorchTrainer], folder: Path, epochs: int = 4, **changes: Any) -> Any:
    """Two epochs in one configuration, and the rest in that of ``changes``."""
    base = changes.pop("base", {})
    trained(kind, folder, epochs=2, config=base)
    config = {**base, **changes}
    return trained(
        kind, folder, epochs=epochs, config=config, from_checkpoint=folder / "checkpoints"
    )


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(itwinai.logger, "propagate", True)
    caplog.set_level(logging.INFO)
    return caplog


# -- the configuration rules over the checkpoint -----------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "setting"),
    [
        ("optim_lr", 0.3, "lr"),
        ("optim_weight_decay", 0.2, "weight_decay"),
        ("optim_betas", (0.5, 0.6), "betas"),
    ],
)
def test_a_setting_of_this_run_takes_effect(tmp_path, messages, key, value, setting):
    trainer = continued(Rates, tmp_path, **{key: value})
    assert trainer.setting(setting) == [value]
    (line,) = [r.getMessage() for r in messages.records if "rules over" in r.getMessage()]
    assert line.startswith(f"the configuration rules over the checkpoint: {setting} ")


def test_momentum_of_this_run_takes_effect(tmp_path):
    base = {"optimizer": "sgd"}
    assert continued(Rates, tmp_path, base=base, optim_momentum=0.1).setting("momentum") == [0.1]


def test_settings_that_are_the_same_stay_and_nothing_is_said(tmp_path, messages):
    assert continued(Rates, tmp_path).setting() == [0.01]
    assert "rules over" not in messages.text


def test_rates_of_groups_take_effect(tmp_path):
    assert continued(TwoRates, tmp_path, optim_lr=0.5).noted[0] == [0.05, 0.5]


def test_a_schedule_goes_on_from_the_new_base(tmp_path):
    base = {"lr_scheduler": "exponential", "lr_scheduler_gamma": 0.5}
    trainer = continued(Rates, tmp_path, base=base, optim_lr=0.4)
    assert [rate for (rate,) in trainer.noted] == pytest.approx([0.1, 0.05])
    assert trainer.lr_scheduler.get_last_lr() == pytest.approx([0.025])


def test_a_schedules_own_settings_take_effect(tmp_path):
    base = {"lr_scheduler": "exponential", "lr_scheduler_gamma": 0.5}
    trainer = continued(Rates, tmp_path, base=base, lr_scheduler_gamma=0.1)
    assert [rate for (rate,) in trainer.noted] == pytest.approx([0.0025, 0.00025])


def test_a_rate_that_was_reduced_keeps_its_proportion(tmp_path):
    trainer = continued(Reduced, tmp_path, optim_lr=0.1)
    assert [rate for (rate,) in trainer.noted] == pytest.approx([1e-2, 1e-3])  # from 0.1


class Waiting(Rates):
    """Its rate falls by a factor of ten after an epoch that is no better than any before."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.lr_scheduler = ReduceLROnPlateau(self.optimizer, factor=0.1, patience=0)


@pytest.mark.parametrize("is_other", [True, False])
def test_the_best_loss_is_that_of_its_validation_set(tmp_path, messages, is_other):
    trained(Waiting, tmp_path / "first", epochs=8)
    # The classes change their names: the loss begins anew, higher than it ever was before.
    train, validation = (TensorDataset(one.tensors[0], 1 - one.tensors[1]) for one in DATA)
    changes = {"epochs": 14, "config": {"early_stopping_patience": 3}}
    checkpoint = tmp_path / "first/checkpoints/epoch_7"
    trainer = Waiting(**options(tmp_path / "more", from_checkpoint=checkpoint, **changes))
    trainer.execute(train, validation if is_other else DATA[1])
    assert (tmp_path / "more/checkpoints/best_model").is_dir() == is_other
    assert len(trainer.noted) == (6 if is_other else 3)
    assert (trainer.noted[0] == trainer.noted[-1]) == is_other
    assert messages.text.count("the validation set is another one") == is_other


def test_without_its_schedule_the_rate_is_the_configurations(tmp_path):
    trainer = continued(Rates, tmp_path, base={"lr_scheduler": "exponential"}, lr_scheduler=None)
    assert trainer.setting() == [0.01]


def test_an_optimizer_that_was_loaded_by_hand_is_left_alone(tmp_path):
    class ByHand(Reduced):
        def create_model_loss_optimizer(self) -> None:
            super().create_model_loss_optimizer()
            if self.optimizer_state_dict is not None:
                self.optimizer.load_state_dict(self.optimizer_state_dict)

    assert [rate for (rate,) in continued(ByHand, tmp_path).noted] == pytest.approx([1e-3, 1e-4])


# -- schedules go by progress --------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
@pytest.mark.parametrize(
    "change", [{"batch_size": 5}, {"gradient_accumulation_steps": 3}, {"batch_size": 60}]
)
def test_a_schedule_stands_where_the_epochs_say(tmp_path, schedule, change):
    base = {"lr_scheduler": schedule, "optimizer": "sgd", "lr_warmup_epochs": 1.0}
    trained(Rates, tmp_path / "whole", epochs=4, config=base)
    trained(Rates, tmp_path / "part", epochs=4, config={**base, **change})

    class Cut(Rates):
        def train_epoch(self) -> Any:
            if self.current_epoch == 2:
                raise KeyboardInterrupt
            return super().train_epoch()

    with pytest.raises(KeyboardInterrupt):
        trained(Cut, tmp_path / "cut", epochs=4, config=base)
    start = tmp_path / "cut" / "checkpoints"
    kinds = {"epochs": 4, "config": {**base, **change}}
    whole = trained(Rates, tmp_path / "other", **kinds)
    resumed = trained(Rates, tmp_path / "cut", from_checkpoint=start, **kinds)
    assert resumed.noted == whole.noted[2:]
    assert resumed.setting() == whole.setting()
    assert resumed.setting()[0] < 1e-3 * 0.01


def test_more_epochs_move_the_end_of_a_schedule(tmp_path, messages):
    trainer = continued(Rates, tmp_path, epochs=4, base={"lr_scheduler": "cosine"})
    assert [rate for (rate,) in trainer.noted] == pytest.approx([0.005, 0.0014645], rel=1e-3)
    assert "lr_scheduler goes to the end of 4 epochs" in messages.text


def test_a_schedule_that_is_new_stands_where_the_epochs_say(tmp_path):
    trainer = continued(Rates, tmp_path, lr_scheduler="exponential", lr_scheduler_gamma=0.5)
    assert [rate for (rate,) in trainer.noted] == pytest.approx([0.0025, 0.00125])


# -- everything with a state is saved ------------------------------------------------------------


class Adversarial(Rates):
    """A second network with an optimizer and a schedule of its own, and averages kept by hand."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counter = Counter()

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.critic = nn.Linear(2, 1)
        self.weights = [nn.Parameter(torch.ones(1)), *self.critic.parameters()]
        optimizer = torch.optim.Adam(self.weights, lr=self.config.critic_lr)
        self.critic_optimizer = optimizer
        self.schedules = [ExponentialLR(optimizer, 0.5)]
        self.teacher = torch.optim.swa_utils.AveragedModel(self.model)

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        loss, metrics = super().train_step(batch, batch_idx)
        self.counter.count += 1
        self.critic_optimizer.zero_grad()
        judged = (self.critic(self.model(batch[0]).detach()) * self.weights[0] - 1).square().mean()
        judged.backward()
        self.critic_optimizer.step()
        self.teacher.update_parameters(self.model)
        return loss, {**metrics, "critic": judged.detach()}

    def train_epoch(self) -> Any:
        loss = super().train_epoch()
        self.schedules[0].step()
        return loss


class Counter:
    """Anything with a state."""

    count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def test_a_second_network_and_all_of_its_parts_go_on(tmp_path):
    base = {"critic_lr": 0.05}
    whole = trained(Adversarial, tmp_path / "whole", epochs=4, config=base)
    resumed = continued(Adversarial, tmp_path / "cut", base=base)
    assert resumed.epoch_metrics == whole.epoch_metrics
    assert resumed.counter.count == whole.counter.count == 16
    for name in ("critic", "teacher"):
        for one, other in zip(
            getattr(resumed, name).parameters(), getattr(whole, name).parameters(), strict=True
        ):
            assert torch.equal(one, other)
    assert torch.equal(resumed.weights[0], whole.weights[0])
    state = torch.load(tmp_path / "cut/checkpoints/best_model/state.pt", weights_only=True)
    assert [name for name in state["stateful"] if "weights" in name] == ["weights.0"]
    assert resumed.schedules[0].get_last_lr() == whole.schedules[0].get_last_lr()


class Counting(MLP):
    """Counts the batches, and keeps a mask and a cache that is as long as what it saw."""

    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()), persistent=persistent)
        self.register_buffer("mask", torch.ones(4), persistent=False)
        self.register_buffer("cache", torch.zeros(0), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        self.cache = torch.zeros(len(inputs))
        return super().forward(inputs * self.mask)


@pytest.mark.parametrize("persistent", [True, False])
def test_what_of_the_model_no_checkpoint_holds_is_told(tmp_path, messages, persistent):
    trained(Rates, tmp_path, model=Counting, epochs=1, config={"persistent": persistent})
    said = "the training has changed seen of the model, which no checkpoint holds"
    assert (said in messages.text) is not persistent


class MakingItsOwn(Rates):
    """Its own loop makes a schedule and a counter, the counter without use in a later run."""

    def train(self) -> None:
        schedule = ExponentialLR(self.optimizer, 0.5)
        self.lists = [schedule, Counter()] if self.config.counts else [schedule]
        self.patience, self.steps = 0, 4 * self.epochs
        for _ in self.remaining_epochs():
            self.train_epoch()
            self.patience += 1
            schedule.step()
            self.end_epoch({"validation_loss": self.validation_epoch()})


def test_what_an_own_loop_makes_goes_on(tmp_path, messages):
    base = {"counts": True}
    whole = trained(MakingItsOwn, tmp_path / "whole", epochs=4, config=base)
    resumed = continued(MakingItsOwn, tmp_path / "cut", base=base)
    assert resumed.noted == whole.noted[2:] == [[0.0025], [0.00125]]
    assert (resumed.patience, resumed.steps) == (whole.patience, whole.steps) == (4, 16)
    assert resumed.epoch_metrics == whole.epoch_metrics
    assert "the checkpoint holds" not in messages.text
    continued(MakingItsOwn, tmp_path / "other", base=base, counts=False)
    assert "holds the state of lists.1, which this trainer has not" in messages.text


def test_a_second_optimizers_settings_take_effect(tmp_path):
    resumed = continued(Adversarial, tmp_path, base={"critic_lr": 0.05}, critic_lr=0.4)
    assert resumed.schedules[0].get_last_lr() == pytest.approx([0.4 / 2**4])


def test_a_state_that_could_run_code_is_refused_before_the_training(tmp_path):
    class Odd(Rates):
        def create_model_loss_optimizer(self) -> None:
            super().create_model_loss_optimizer()
            self.counter = Counter()
            self.counter.count = Path("x")

    with pytest.raises(CheckpointError, match=r"the trainer's counter: .* object of pathlib"):
        trained(Odd, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


class WithPath(MLP):
    """Keeps a path in its state."""

    def get_extra_state(self) -> Path:
        return Path("x")

    def set_extra_state(self, state: Path) -> None:
        assert state == Path("x")


class FromFile(ExponentialLR):
    """A schedule that has a path as an attribute, which PyTorch takes for its state."""

    def __init__(self, optimizer: Any) -> None:
        self.source = Path("x")
        super().__init__(optimizer, gamma=0.9)


class Scheduled(Rates):
    """With that schedule."""

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.lr_scheduler = FromFile(self.optimizer)


@pytest.mark.parametrize(
    ("name", "kind", "changes"),
    [("model", Rates, {"model": WithPath}), ("lr_scheduler", Scheduled, {})],
)
def test_such_a_state_of_what_is_trained_is_refused_too(tmp_path, name, kind, changes):
    with pytest.raises(CheckpointError, match=rf"the trainer's {name}: .* object of pathlib"):
        trained(kind, tmp_path, **changes)
    assert not (tmp_path / "checkpoints").exists()


def test_another_second_network_is_named(tmp_path):
    class Wider(Adversarial):
        def create_model_loss_optimizer(self) -> None:
            super().create_model_loss_optimizer()
            self.critic = nn.Linear(2, 3)

    base = {"critic_lr": 0.05}
    trained(Adversarial, tmp_path, epochs=1, config=base)
    with pytest.raises(CheckpointError, match="the trainer's critic is another one"):
        trained(Wider, tmp_path, config=base, from_checkpoint=tmp_path / "checkpoints")


@pytest.mark.parametrize(
    "strategy",
    ["ddp", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("fsdp", "deepspeed"))],
)
def test_a_second_network_that_a_strategy_keeps_goes_on_over_two_ranks(tmp_path, strategy):
    if strategy == "deepspeed":
        pytest.importorskip("deepspeed")
    whole = run(tmp_path / "whole", strategy=strategy, epochs=3)
    run(tmp_path / "cut", strategy=strategy, epochs=2)
    resumed = run(tmp_path / "cut", strategy=strategy, epochs=3, resume=True)
    assert resumed["critic"] == pytest.approx(whole["critic"], rel=1e-5)
    assert resumed["metrics"] == pytest.approx(whole["metrics"], rel=1e-5)


def test_a_second_network_that_differs_over_ranks_is_refused(tmp_path):
    refused = run(tmp_path, strategy="ddp", epochs=1, alone=True)["refused"]
    assert refused.startswith("the trainer's critic has other weights on each rank")
    assert "self.critic, self.its_optimizer, _ = self.strategy.distributed(" in refused


def test_a_parameter_of_no_network_that_differs_over_ranks_is_refused(tmp_path):
    refused = run(tmp_path, strategy="ddp", epochs=1, parameter=True)["refused"]
    assert refused == (
        "the trainer's scale has other weights on each rank, as no strategy brings all its "
        "gradients together. Let it be a parameter of the model."
    )


def run(folder: Path, **choices: Any) -> Any:
    """Run the program on two ranks; return what rank 0 wrote."""
    folder.mkdir(exist_ok=True)
    run_ranks(PROGRAM, str(folder), json.dumps(choices))
    return json.loads((folder / "outcome.json").read_text())


def test_an_average_in_shards_is_saved_and_goes_on(tmp_path):
    base = {"ema_decay": 0.8}
    sharded = {"checkpoint_sharded": True, "checkpoint_every": 1, "config": base}
    whole = Rates(**options(tmp_path / "whole", epochs=4, checkpoint_every=1, config=base))
    *_, expected = whole.execute(*DATA)
    Rates(**options(tmp_path / "cut", epochs=2, **sharded)).execute(*DATA)
    start = tmp_path / "cut" / "checkpoints"
    resumed = Rates(**options(tmp_path / "cut", epochs=4, from_checkpoint=start, **sharded))
    *_, model = resumed.execute(*DATA)
    assert resumed.epoch_metrics == whole.epoch_metrics
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True)
    )


class Annealing(TorchTrainer):
    """A weight of its loss grows, one of its numbers is of NumPy, a third one it is given."""

    stage = 0

    def __init__(self, given: float = 1.0, **others: Any) -> None:
        super().__init__(**others)
        self.weight = np.float64(0.0)
        self.given = given
        self.seen: list[tuple[float, int, str, float]] = []

    def train_epoch(self) -> Any:
        self.seen.append((float(self.weight), self.stage, getattr(self, "made", ""), self.given))
        self.weight += 0.25
        self.stage += 1
        self.made = f"in epoch {self.current_epoch}"
        self.given *= 2
        return super().train_epoch()


def test_plain_attributes_that_change_go_on_where_they_were(tmp_path: Path) -> None:
    whole = trained(Annealing, tmp_path / "whole", epochs=4)
    trained(Annealing, tmp_path, epochs=2)
    newest = tmp_path / "checkpoints/epoch_1"
    resumed = trained(Annealing, tmp_path, epochs=4, from_checkpoint=newest)
    assert resumed.seen == whole.seen[2:]
    again = tmp_path / "checkpoints/epoch_2"
    assert trained(Annealing, tmp_path, epochs=4, from_checkpoint=again).seen == whole.seen[3:]


def test_a_plain_attribute_that_begins_otherwise_stays_so(tmp_path: Path) -> None:
    trained(Annealing, tmp_path, epochs=2)
    newest = tmp_path / "checkpoints/epoch_1"
    resumed = trained(Annealing, tmp_path, epochs=3, from_checkpoint=newest, given=5.0)
    assert resumed.seen == [(0.5, 2, "in epoch 1", 5.0)]


@dataclass
class Average:
    """An average of weights kept by hand, as many have one; it gives no state."""

    decay: float
    weights: list[torch.Tensor] = field(default_factory=list)

    def update(self, model: nn.Module) -> None:
        new = [weight.detach() for weight in model.parameters()]
        old = self.weights or new
        self.weights = [
            self.decay * a + (1 - self.decay) * b for a, b in zip(old, new, strict=True)
        ]


class Warming(MLP):
    """A model whose temperature falls with its forward passes in training."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 2.0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.temperature *= 0.9 if self.training else 1
        return super().forward(inputs) / (1 + self.temperature)


class Scaled(nn.Module):
    """A loss that divides by the mean size that it has had, and counts what it has seen."""

    size: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("size", torch.ones(()))
        self.seen = 0

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.cross_entropy(output, target)
        self.size = 0.9 * self.size + 0.1 * loss.detach()
        self.seen += 1
        return loss / self.size + self.seen


class Remembering(TorchTrainer):
    """What is trained next follows from values of all kinds that its steps leave behind."""

    shares: ClassVar[list[float]] = [1.0, 1.0]

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.hidden = torch.zeros(2)
        self.scale = np.ones(2, np.float32)
        self.recent: deque[float] = deque(maxlen=3)
        self.classes: defaultdict[int, int] = defaultdict(int, {0: 0})
        self.average = Average(0.9)
        self.told: list[float] = []

    def create_model_loss_optimizer(self) -> None:
        super().create_model_loss_optimizer()
        self.loss = Scaled()

    def train_step(self, batch: Any, batch_idx: int) -> Any:
        inputs, target = batch
        output = self.model(inputs) * torch.from_numpy(self.scale) + self.hidden
        loss = self.loss(output, target)
        loss = loss * (1 + sum(self.recent) + self.classes[0] / 100)
        self.hidden = 0.5 * (self.hidden + output.mean(0).detach())
        self.scale *= np.float32(0.99)
        loss = loss * self.shares[0]
        self.shares = [0.9 * share for share in self.shares]
        self.recent.append(float(loss.detach()) / 10)
        self.classes[0] += int((target == 0).sum())
        self.told.append(float(loss.detach()))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.average.update(self.model)
        return loss, {}


@pytest.mark.parametrize(("newest", "steps"), [("epoch_1", 8), ("epoch_1_step_2", 6)])
def test_values_of_all_kinds_that_change_go_on_where_they_were(tmp_path, newest, steps):
    every = {"epochs": 3, "model": Warming}
    whole = trained(Remembering, tmp_path, checkpoint_every_steps=6, **every)
    begin = tmp_path / "checkpoints" / newest
    resumed = trained(Remembering, tmp_path / "b", from_checkpoint=begin, **every)
    assert resumed.told == whole.told[steps:]
    assert Remembering.shares == [1.0, 1.0]
    assert (resumed.recent, resumed.classes) == (whole.recent, whole.classes)
    assert resumed.recent.maxlen == 3
    assert resumed.scale.tolist() == whole.scale.tolist()
    pairs = zip(resumed.average.weights, whole.average.weights, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class Large(TorchTrainer):
    """Has a memory that is too large for each checkpoint, and a table that stays as it is."""

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.memory, self.table = torch.zeros(5_000_000), torch.ones(5_000_000)

    def train_epoch(self) -> Any:
        self.memory[self.current_epoch] = 1
        self.late = torch.ones(5_000_000)
        return super().train_epoch()


def test_a_value_that_is_too_large_for_each_checkpoint_is_told(tmp_path, messages):
    trained(Large, tmp_path, epochs=1)
    newest = tmp_path / "checkpoints/epoch_0"
    assert (newest / "state.pt").stat().st_size < 2**20
    trained(Large, tmp_path, epochs=2, from_checkpoint=newest)
    lines = [r.getMessage() for r in messages.records if "begins anew" in r.getMessage()]
    assert [line.split()[3] for line in lines] == ["memory", "late"]


class OfNumpy(Rates):
    """The settings of its optimizer, and a state of its own, are of other types than Python's."""

    def create_model_loss_optimizer(self) -> None:
        model = MLP()
        self.loss = nn.CrossEntropyLoss()
        rate, decay = np.float64(self.config.optim_lr), np.float32(0.25)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, weight_decay=decay)
        self.model, self.optimizer, _ = self.strategy.distributed(model, optimizer)
        self.counts = Counts()


class Counts:
    """Counts, in a dictionary that makes its entries."""

    def __init__(self) -> None:
        self.of = defaultdict(int, {np.int64(3): np.int64(4)})

    def state_dict(self) -> dict[str, Any]:
        return {"of": self.of, "some": frozenset([1])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.of = state["of"]


def test_numbers_of_numpy_in_a_state_come_back_as_pythons(tmp_path: Path) -> None:
    trained(OfNumpy, tmp_path, epochs=1)
    newest = tmp_path / "checkpoints/epoch_0"
    resumed = trained(OfNumpy, tmp_path, epochs=2, from_checkpoint=newest)
    assert resumed.noted == [[0.01]]
    assert resumed.setting("weight_decay") == [0.25]
    assert resumed.counts.of == {3: 4}
