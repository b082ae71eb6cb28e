"""Model, loss, optimizer and schedule from a configuration: tables with one entry each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler as schedules

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.torch.config import Configuration, TrainingConfiguration
from itwinai.torch.optimization.schedules import Length, OneCycle, WarmupCosine
from itwinai.torch.type import HookError, described

ModelFactory = Callable[..., nn.Module]


@dataclass(frozen=True)
class Recipe:
    """How to build something from a configuration.

    Attributes:
        build: Called with what it works on (parameters, an optimizer, nothing) and the options.
        fields: Configuration field for each option.
    """

    build: Callable[..., Any]
    fields: Mapping[str, str] = field(default_factory=dict)


#: Devices for which PyTorch has an optimizer's step as one kernel.
_FUSED_DEVICES = ("cpu", "cuda")


def _fused(optimizer: Callable[..., torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """Let an optimizer make its step in one kernel, several times as fast, wherever it can."""

    def build(parameters: Iterable[nn.Parameter], **options: Any) -> torch.optim.Optimizer:
        parameters = list(parameters)
        can = all(p.is_floating_point() and p.device.type in _FUSED_DEVICES for p in parameters)
        return optimizer(parameters, fused=can or None, **options)

    return build


def _multistep(
    optimizer: torch.optim.Optimizer, milestones: int | list[int], gamma: float
) -> schedules.MultiStepLR:
    epochs = [milestones] if isinstance(milestones, int) else milestones
    return schedules.MultiStepLR(optimizer, epochs, gamma)


LOSSES: dict[str, Recipe] = {
    "mse": Recipe(nn.MSELoss),
    "l2": Recipe(nn.MSELoss),
    "l1": Recipe(nn.L1Loss),
    "nllloss": Recipe(nn.NLLLoss),
    "cross_entropy": Recipe(nn.CrossEntropyLoss, {"label_smoothing": "label_smoothing"}),
    "bceloss": Recipe(nn.BCELoss),
}

_COMMON = {"lr": "optim_lr", "weight_decay": "optim_weight_decay"}
_MOMENTUM = {**_COMMON, "momentum": "optim_momentum"}
_BETAS = {**_COMMON, "betas": "optim_betas"}

OPTIMIZERS: dict[str, Recipe] = {
    "adadelta": Recipe(torch.optim.Adadelta, _COMMON),
    "adam": Recipe(_fused(torch.optim.Adam), _BETAS),
    "adamw": Recipe(_fused(torch.optim.AdamW), _BETAS),
    "rmsprop": Recipe(torch.optim.RMSprop, _MOMENTUM),
    "sgd": Recipe(torch.optim.SGD, _MOMENTUM),
}

_STEP, _GAMMA = "lr_scheduler_step_size", "lr_scheduler_gamma"
_WARMUP = {"warmup_epochs": "lr_warmup_epochs"}

LR_SCHEDULERS: dict[str, Recipe] = {
    "step": Recipe(schedules.StepLR, {"step_size": _STEP, "gamma": _GAMMA}),
    "multistep": Recipe(_multistep, {"milestones": _STEP, "gamma": _GAMMA}),
    "constant": Recipe(schedules.ConstantLR, {"total_iters": _STEP}),
    "linear": Recipe(schedules.LinearLR, {"total_iters": _STEP}),
    "exponential": Recipe(schedules.ExponentialLR, {"gamma": _GAMMA}),
    "polynomial": Recipe(schedules.PolynomialLR, {"total_iters": _STEP}),
    "cosine": Recipe(WarmupCosine, _WARMUP),
    "onecycle": Recipe(OneCycle, _WARMUP),
}

#: All that a schedule is built from.
SCHEDULE_KEYS = ("lr_scheduler", _STEP, _GAMMA, *_WARMUP.values())

#: Configuration field that chooses an entry, and the table it chooses from.
CHOOSERS: dict[str, Mapping[str, Recipe]] = {
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "lr_scheduler": LR_SCHEDULERS,
}


def build_model(model: nn.Module | ModelFactory, config: Configuration) -> nn.Module:
    """Return the model, built from the configuration if it is a class or function.

    A factory gets those keys of the configuration that are its parameters, and all of the mapping
    ``model``, if the configuration has one.

    Raises:
        ConfigurationError: If a parameter without default is not in the configuration.
        HookError: If the factory returns no model.
    """
    if isinstance(model, nn.Module):
        return model
    own = config.get("model")
    values = {name: config[name] for name in factory_parameters(model) if name in config}
    given = values | dict(own if isinstance(own, Mapping) else {})
    missing = [
        name
        for name, parameter in _parameters(model).items()
        if parameter.default is parameter.empty and name not in given
    ]
    if missing:
        raise ConfigurationError(
            f"config.{missing[0]}: {_name(model)} needs it to build the model; set it in the config"
        )
    built = model(**given)
    if not isinstance(built, nn.Module):
        raise HookError(
            f"model: {_name(model)}() returned {described(built)}; expected a torch.nn.Module"
        )
    return built


def synchronised(model: nn.Module, device: str) -> nn.Module:
    """Return the model with batch normalisation over the batches of all ranks.

    Raises:
        ConfigurationError: If the device is no GPU, on which alone PyTorch has it.
    """
    if not device.startswith("cuda"):
        raise ConfigurationError(
            f"config.sync_batchnorm: PyTorch has it on GPUs alone, and this process is on "
            f"{device}. Set it to false."
        )
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return converted


def factory_parameters(model: Any) -> dict[str, Any]:
    """Names and defaults (``inspect.Parameter.empty`` for none) of what a model factory takes."""
    if isinstance(model, nn.Module) or not callable(model):
        return {}
    return {name: parameter.default for name, parameter in _parameters(model).items()}


def build_loss(config: TrainingConfiguration) -> nn.Module:
    """Build the loss function that the configuration names."""
    loss: nn.Module = _cook(LOSSES, config.loss, config)
    return loss


def build_optimizer(model: nn.Module, config: TrainingConfiguration) -> torch.optim.Optimizer:
    """Build the optimizer that the configuration names."""
    optimizer: torch.optim.Optimizer = _cook(
        OPTIMIZERS, config.optimizer, config, model.parameters()
    )
    return optimizer


def build_lr_scheduler(
    optimizer: torch.optim.Optimizer, config: TrainingConfiguration, length: Length | None = None
) -> schedules.LRScheduler | None:
    """Build the learning-rate schedule that the configuration names, if any.

    Args:
        optimizer: Whose rate it sets.
        config: The configuration.
        length: The training's, for a schedule that spans all of it.

    Raises:
        ConfigurationError: If the schedule needs a length and there is none.
    """
    values = config.snapshot()  # they count as read once the schedule goes on
    name = values["lr_scheduler"]
    if name is None:
        config.took_effect(*SCHEDULE_KEYS)
        return None
    subjects: list[Any] = [optimizer]
    if name in _SPANNING:
        if length is None:
            raise ConfigurationError(
                f"config.lr_scheduler={name!r} spans the whole training, but the training data "
                "has no length. Use a schedule that goes by epochs, such as 'exponential'."
            )
        subjects.append(length)
    schedule: schedules.LRScheduler = _cook(LR_SCHEDULERS, name, values, *subjects)
    return schedule


_SPANNING = ("cosine", "onecycle")


def warn_of_options_without_effect(config: TrainingConfiguration) -> None:
    """Name the options that were set and that nothing chosen reads, such as betas of sgd."""
    values, fields = config.snapshot(), type(config).model_fields
    for chooser, table in CHOOSERS.items():
        chosen = values[chooser]
        read = table[chosen].fields.values() if chosen in table else ()
        # Each once, in the table's order.
        for name in dict.fromkeys(name for one in table.values() for name in one.fields.values()):
            if name not in read and values[name] != fields[name].default:
                itwinai.logger.warning(
                    "warning: config.%s=%r has no effect with %s=%r",
                    *(name, values[name], chooser, chosen),
                )


def _cook(
    table: Mapping[str, Recipe],
    name: str,
    config: Configuration | Mapping[str, Any],
    *subjects: Any,
) -> Any:
    # All options count as read: where the name itself is tuned, another trial uses the others.
    options = {
        field: config[field] for recipe in table.values() for field in recipe.fields.values()
    }
    recipe = table[name]
    return recipe.build(*subjects, **{key: options[field] for key, field in recipe.fields.items()})


def _parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(factory).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in named}


def _name(factory: Any) -> str:
    return getattr(factory, "__name__", type(factory).__name__)
