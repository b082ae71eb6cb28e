"""What the configuration builds: model, loss, optimizer and learning-rate schedule."""

from __future__ import annotations

import functools
import math
from typing import Any, get_args

import pytest
import torch
from torch import nn

from itwinai.errors import ConfigurationError
from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.optimization.factories import (
    build_loss,
    build_lr_scheduler,
    build_model,
    build_optimizer,
    warn_of_options_without_effect,
)
from itwinai.torch.optimization.schedules import Length

EVERY_OPTION = {
    "optim_lr": 0.5,
    "optim_momentum": 0.25,
    "optim_betas": (0.5, 0.75),
    "optim_weight_decay": 0.125,
    "lr_scheduler_step_size": 3,
    "lr_scheduler_gamma": 0.5,
}

PLAIN = {"lr": 0.5, "weight_decay": 0.125}
OPTIMIZERS = {
    "adadelta": (torch.optim.Adadelta, PLAIN),
    "adam": (torch.optim.Adam, PLAIN | {"betas": (0.5, 0.75)}),
    "adamw": (torch.optim.AdamW, PLAIN | {"betas": (0.5, 0.75)}),
    "rmsprop": (torch.optim.RMSprop, PLAIN | {"momentum": 0.25}),
    "sgd": (torch.optim.SGD, PLAIN | {"momentum": 0.25}),
}
LOSSES = {
    "mse": nn.MSELoss,
    "l2": nn.MSELoss,
    "l1": nn.L1Loss,
    "nllloss": nn.NLLLoss,
    "cross_entropy": nn.CrossEntropyLoss,
    "bceloss": nn.BCELoss,
}
#: Learning rates of the first epochs, as PyTorch documents each schedule, from 0.5 on.
SCHEDULES = {
    "step": [0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125],
    "multistep": [0.5, 0.5, 0.25, 0.25, 0.25, 0.125],
    "constant": [0.5 / 3, 0.5 / 3, 0.5 / 3, 0.5, 0.5],
    "linear": [0.5 / 3, 0.5 * 5 / 9, 0.5 * 7 / 9, 0.5, 0.5],
    "exponential": [0.5, 0.25, 0.125],
    "polynomial": [0.5, 0.5 * 2 / 3, 0.5 / 3, 0.0, 0.0],
}

#: Learning rates of the steps of 2 epochs of 4 steps, of which the first is the rise, up to 0.5.
SPANNING = {
    "cosine": [0.1, 0.2, 0.3, 0.4, *(0.25 * (1 + math.cos(math.pi * k / 4)) for k in range(4))],
    "onecycle": [0.02, *(None for _ in range(3)), 0.5, *(None for _ in range(3))],
}


class Net(nn.Module):
    def __init__(self, width: int, depth: int = 2, *, bias: bool = True) -> None:
        super().__init__()
        self.made_with = (width, depth, bias)


def net_function(width: int, depth: int = 2, **options: Any) -> Net:
    return Net(width, depth, **options)


def names_of(field: str) -> set[str]:
    """The names that a field of the configuration allows."""
    annotation = TrainingConfiguration.model_fields[field].annotation
    literals = [annotation, *get_args(annotation)]
    return {name for literal in literals for name in get_args(literal) if isinstance(name, str)}


def test_nothing_that_the_configuration_allows_is_forgotten_here() -> None:
    assert names_of("optimizer") == set(OPTIMIZERS)
    assert names_of("loss") == set(LOSSES)
    assert names_of("lr_scheduler") == {*SCHEDULES, *SPANNING}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_gets_its_options(name: str) -> None:
    kind, options = OPTIMIZERS[name]
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model, TrainingConfiguration(optimizer=name, **EVERY_OPTION))
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert {option: group[option] for option in options} == options
    assert group["params"] == list(model.parameters())


@pytest.mark.parametrize(("dtype", "fused"), [(torch.float32, True), (torch.complex64, None)])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_steps_in_one_kernel_where_it_can(
    name: str, dtype: torch.dtype, fused: bool | None
) -> None:
    model = nn.Linear(2, 1, dtype=dtype)
    optimizer = build_optimizer(model, TrainingConfiguration(optimizer=name))
    assert optimizer.param_groups[0]["fused"] is fused
    before = model.weight.detach().clone()
    model(torch.ones(1, 2, dtype=dtype)).abs().sum().backward()
    optimizer.step()
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name: str) -> None:
    assert type(build_loss(TrainingConfiguration(loss=name))) is LOSSES[name]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_gets_its_options(name: str) -> None:
    options = EVERY_OPTION | ({"lr_scheduler_step_size": [2, 5]} if name == "multistep" else {})
    config = TrainingConfiguration(optimizer="sgd", lr_scheduler=name, **options)
    optimizer = build_optimizer(nn.Linear(2, 2), config)
    schedule = build_lr_scheduler(optimizer, config)
    assert schedule is not None
    rates = []
    for _ in SCHEDULES[name]:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(SCHEDULES[name])


@pytest.mark.parametrize("name", [*SCHEDULES, *SPANNING])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_schedule_needs_no_option(name: str, optimizer: str) -> None:
    config = TrainingConfiguration(optimizer=optimizer, lr_scheduler=name)
    built = build_optimizer(nn.Linear(2, 2), config)
    schedule = build_lr_scheduler(built, config, Length(epochs=12, steps=1))
    assert schedule is not None
    rates = set()
    for _ in range(12):
        rates.add(built.param_groups[0]["lr"])
        built.step()
        schedule.step()
    assert len(rates) > 1


def test_one_epoch_is_a_step_of_multistep_too() -> None:
    config = TrainingConfiguration(
        lr_scheduler="multistep", lr_scheduler_step_size=2, lr_scheduler_gamma=0.5, optim_lr=0.5
    )
    optimizer = build_optimizer(nn.Linear(2, 2), config)
    schedule = build_lr_scheduler(optimizer, config)
    assert schedule is not None
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("name", SPANNING)
def test_a_schedule_that_spans_the_training(name: str) -> None:
    config = TrainingConfiguration(
        optimizer="sgd", lr_scheduler=name, optim_lr=0.5, lr_warmup_epochs=1
    )
    optimizer = build_optimizer(nn.Linear(2, 2), config)
    schedule = build_lr_scheduler(optimizer, config, Length(epochs=2, steps=4))
    assert schedule is not None
    rates = []
    for _ in SPANNING[name]:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = SPANNING[name]
    assert len(rates) == 8
    assert [rate for rate, known in zip(rates, expected, strict=True) if known is not None] == (
        pytest.approx([known for known in expected if known is not None])
    )
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert optimizer.param_groups[0]["lr"] < 0.5 / 1000


def test_a_schedule_that_spans_the_training_needs_its_length() -> None:
    config = TrainingConfiguration(lr_scheduler="cosine")
    optimizer = build_optimizer(nn.Linear(2, 2), config)
    with pytest.raises(ConfigurationError, match=r"config\.lr_scheduler='cosine' spans the whole"):
        build_lr_scheduler(optimizer, config)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"optimizer": "sgd", "optim_betas": (0.8, 0.9)},
            ["config.optim_betas=(0.8, 0.9) has no effect with optimizer='sgd'"],
        ),
        (
            {"loss": "mse", "label_smoothing": 0.1, "lr_scheduler_gamma": 0.5},
            [
                "config.label_smoothing=0.1 has no effect with loss='mse'",
                "config.lr_scheduler_gamma=0.5 has no effect with lr_scheduler=None",
            ],
        ),
        ({"optimizer": "sgd", "optim_betas": (0.9, 0.999)}, []),
        ({"optimizer": "adam", "optim_betas": (0.8, 0.9), "own": 1}, []),
    ],
)
def test_an_option_without_effect_is_named(
    values: dict[str, Any], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainingConfiguration(**values)
    warn_of_options_without_effect(config)
    assert capsys.readouterr().out.splitlines() == [f"warning: {line}" for line in told]
    assert config.unread(["optim_betas", "loss"]) == ["optim_betas", "loss"]


def test_label_smoothing_reaches_the_loss() -> None:
    loss = build_loss(TrainingConfiguration(label_smoothing=0.25))
    assert loss.label_smoothing == 0.25


def test_no_schedule_where_none_is_named() -> None:
    config = TrainingConfiguration()
    assert build_lr_scheduler(build_optimizer(nn.Linear(2, 2), config), config) is None


@pytest.mark.parametrize(
    ("factory", "made_with"),
    [
        (Net, (3, 2, False)),
        (net_function, (3, 2, True)),
        (functools.partial(Net, depth=5), (3, 5, False)),
        (functools.partial(Net, 7), (7, 2, False)),
        (lambda width: Net(width), (3, 2, True)),
    ],
    ids=["class", "function", "partial by keyword", "partial by position", "lambda"],
)
def test_a_factory_gets_the_keys_that_are_its_parameters(factory: Any, made_with: Any) -> None:
    config = TrainingConfiguration(width=3, bias=False, height=9)
    assert build_model(factory, config).made_with == made_with


def test_the_configuration_goes_before_a_partials_own_keyword() -> None:
    factory = functools.partial(Net, width=1)
    assert build_model(factory, TrainingConfiguration()).made_with[0] == 1
    assert build_model(factory, TrainingConfiguration(width=3)).made_with[0] == 3


def test_a_model_that_is_built_already_stays_as_it_is() -> None:
    model = Net(1)
    assert build_model(model, TrainingConfiguration(width=3)) is model


@pytest.mark.parametrize(
    "factory", [Net, functools.partial(Net, depth=5)], ids=["class", "partial"]
)
def test_a_required_parameter_that_the_configuration_lacks_is_refused(factory: Any) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^config\.width: \w+ needs it to build the model; set it in the config$",
    ):
        build_model(factory, TrainingConfiguration(bias=False))
