"""DeepSpeed's configuration: what follows from a training's, and what a training demands of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itwinai.errors import ConfigurationError

if TYPE_CHECKING:
    from itwinai.torch.config import TrainingConfiguration

#: DeepSpeed takes any optimizer of PyTorch only if told so.
_ANY_OPTIMIZER = {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
#: DeepSpeed would clip to a norm of 1.
_UNCLIPPED = {"gradient_clipping": 0.0}
_BATCH_SIZES = ("train_batch_size", "train_micro_batch_size_per_gpu")


def from_training(config: TrainingConfiguration) -> dict[str, Any]:
    """DeepSpeed's configuration for a training, whose key ``deepspeed`` wins.

    Raises:
        ConfigurationError: If that key is a file that cannot be read, or has a schedule.
    """
    own = read(config.get("deepspeed"))
    if own.get("scheduler"):
        raise ConfigurationError(
            "config.deepspeed.scheduler: the schedule is the training's, whose checkpoints hold "
            "it. Remove this section, and set lr_scheduler in the training's configuration."
        )
    options: dict[str, Any] = {"zero_optimization": {"stage": 1}}
    if not any(name in own for name in _BATCH_SIZES):
        options["train_micro_batch_size_per_gpu"] = config.batch_size
    precision = config.get("precision", "fp32")
    if precision == "bf16":
        # No layer's gradients are summed in bf16, as under the other strategies.
        autocast = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
        options["torch_autocast"] = autocast
    elif precision == "fp16":
        options["fp16"] = {"enabled": True, "auto_cast": True}
    steps = config.snapshot()["gradient_accumulation_steps"]
    if own.get("gradient_accumulation_steps", "auto") in ("auto", steps):
        own.pop("gradient_accumulation_steps", None)  # the training does it
    return options | own


def without_effect(config: TrainingConfiguration) -> list[str]:
    """Say what DeepSpeed's own configuration asks for and does not get."""
    own, values = read(config.snapshot()["deepspeed"]), config.snapshot()
    told = []
    if own.get("optimizer"):
        told.append(
            "config.deepspeed.optimizer has no effect: the optimizer is the training's, "
            f"optimizer={values['optimizer']!r} with optim_lr={values['optim_lr']:g}"
        )
    size = own.get("train_micro_batch_size_per_gpu", "auto")
    if size not in ("auto", values["batch_size"]):
        told.append(
            f"config.deepspeed.train_micro_batch_size_per_gpu={size!r} makes no batches of this "
            f"size: they are the training's, batch_size={values['batch_size']}"
        )
    return told


def read(config: Mapping[str, Any] | str | Path | None) -> dict[str, Any]:
    """Read a configuration: a mapping, or the path of a JSON file.

    Raises:
        ConfigurationError: If the file cannot be read, or holds no mapping.
    """
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    try:
        content = json.loads(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"deepspeed: {str(config)!r} is no readable JSON file: {error}"
        ) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"deepspeed: {str(config)!r} does not hold a mapping")
    return content


def complete(config: dict[str, Any]) -> dict[str, Any]:
    """Complete a configuration, so that each ``step()`` is a step, of whole gradients.

    Raises:
        ConfigurationError: If gradients are to be accumulated by DeepSpeed.
    """
    if config.pop("gradient_accumulation_steps", 1) not in (1, "auto"):
        raise ConfigurationError(
            "deepspeed.gradient_accumulation_steps: the training accumulates gradients itself. "
            "Set gradient_accumulation_steps in the training's configuration instead."
        )
    sizes: dict[str, Any] = (
        {} if "train_batch_size" in config else {"train_micro_batch_size_per_gpu": 1}
    )
    own = {"gradient_accumulation_steps": 1, "managed_gradient_accumulation": False}
    return {**_ANY_OPTIMIZER, **_UNCLIPPED, **sizes, **config, **own}
