"""Configuration of a training, which remembers what was read from it.

Users put their model's own keys beside the known fields, so a typing mistake cannot be told from a
new key by name alone. A study tells it by use: a key that it samples and that nothing reads is an
error (see :meth:`Configuration.unread`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
)

from itwinai.config.model import CheckedModel, validate


class Configuration(CheckedModel):
    """Keys and values, as attributes or as ``config["key"]``; unknown keys are kept."""

    model_config = ConfigDict(extra="allow", validate_assignment=True, protected_namespaces=())

    _read: set[str] = PrivateAttr(default_factory=set)

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name in ("model_dump", "model_dump_json", "model_extra", "model_copy"):
            self._note(*self.keys())
        elif not name.startswith("_"):
            self._note(name)
        return value

    def __getattr__(self, name: str) -> Any:
        # Pydantic keeps unknown keys elsewhere; only their reading comes this way.
        value = super().__getattr__(name)  # type: ignore[misc]
        if not name.startswith("_"):
            self._note(name)
        return value

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return getattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._note(*self.keys())
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        """Return a key's value, or ``default`` if there is no such key."""
        return getattr(self, name, default)

    def keys(self) -> list[str]:
        """Names of all fields and own keys."""
        extra = object.__getattribute__(self, "__pydantic_extra__") or {}
        return [*type(self).model_fields, *extra]

    def snapshot(self) -> dict[str, Any]:
        """All keys and values, without counting as a reading of them."""
        read = set(self._read)
        values = self.model_dump()
        self._read = read
        return values

    def with_values(self, values: Mapping[str, Any], where: str = "config") -> Configuration:
        """Return a copy with other values, of which nothing has been read yet.

        Raises:
            ConfigurationError: If a value does not fit its field.
        """
        return validate(type(self), {**self.snapshot(), **values}, where)

    def took_effect(self, *names: str) -> None:
        """Count keys as read, whose value was taken before it was known to have an effect."""
        self._note(*names)

    def unread(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that nobody has read."""
        return [name for name in names if name in self and name not in self._read]

    def _note(self, *names: str) -> None:
        private = object.__getattribute__(self, "__pydantic_private__")
        if private is not None and "_read" in private:
            private["_read"].update(names)


_DecayRate = Annotated[float, Field(ge=0, lt=1)]

#: Schedules whose step size is no list.
_OF_ONE_STEP_SIZE = ("step", "constant", "linear", "polynomial")


class TrainingConfiguration(Configuration):
    """Configuration of a training; a user's own keys may stand beside these."""

    #: Samples per batch and process.
    batch_size: int = Field(default=32, ge=1)
    #: Whether the order of the training data is drawn anew each epoch.
    shuffle_train: bool = False
    #: Whether the validation data is shuffled.
    shuffle_validation: bool = False
    #: Whether the test data is shuffled.
    shuffle_test: bool = False
    #: Whether loaders copy to page-locked memory.
    pin_gpu_memory: bool = False
    #: Whether training leaves out an epoch's last, smaller batch.
    drop_last: bool = False
    #: Processes per data loader; 0 loads in the training's own process.
    num_workers_dataloader: int = Field(default=4, ge=0)
    #: Loss function.
    loss: Literal["mse", "nllloss", "cross_entropy", "l1", "l2", "bceloss"] = "cross_entropy"
    #: Share of the target's probability that is spread over all classes, of cross_entropy.
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    #: Optimizer.
    optimizer: Literal["adadelta", "adam", "adamw", "rmsprop", "sgd"] = "adam"
    #: Learning rate.
    optim_lr: float = Field(default=1e-3, gt=0)
    #: Momentum, of sgd and rmsprop.
    optim_momentum: float = Field(default=0.9, ge=0)
    #: Decay rates of the two moments, of adam and adamw.
    optim_betas: tuple[_DecayRate, _DecayRate] = (0.9, 0.999)
    #: Weight decay.
    optim_weight_decay: float = Field(default=0.0, ge=0)
    #: Learning-rate schedule; cosine and onecycle go on with each step, the others with each epoch.
    lr_scheduler: (
        Literal[
            "step",
            "multistep",
            "constant",
            "linear",
            "exponential",
            "polynomial",
            "cosine",
            "onecycle",
        ]
        | None
    ) = None
    #: Epochs between steps, or of the whole way; of multistep, the epoch or epochs of its steps.
    lr_scheduler_step_size: int | list[int] = 10
    #: Factor of a step.
    lr_scheduler_gamma: float = Field(default=0.95, gt=0, allow_inf_nan=False)
    #: Epochs, also in fractions, in which the rate rises to ``optim_lr``, of cosine and onecycle.
    lr_warmup_epochs: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    #: Number format of the forward pass; bf16 and fp16 are autocast, and fp16 scales the loss.
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    #: Batches whose gradients make one optimizer step.
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    #: Largest norm of all gradients together; None leaves them as they are.
    gradient_clipping: float | None = Field(default=None, gt=0)
    #: Whether batch statistics are those of all ranks' batches together; needs GPUs.
    sync_batchnorm: bool = False
    #: Whether a training outside a study ends with an error once its loss is not a number.
    stop_on_nan: bool = True
    #: Seconds without a sign of life of another rank after which a training ends.
    silence_timeout: float = Field(default=120.0, gt=0)
    #: Whether the model is compiled by ``torch.compile``.
    torch_compile: bool = False
    #: Decay per step of the averaged weights that are evaluated and saved; None: no average.
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    #: Epochs without a better validation loss after which the training ends; None: never.
    early_stopping_patience: int | None = Field(default=None, ge=1)
    #: What the validation loss must fall by to be better.
    early_stopping_min_delta: float = Field(default=0.0, ge=0)
    #: Options of DeepSpeed: a mapping, or the path of a JSON file.
    deepspeed: dict[str, Any] | str | None = None
    #: Horovod only.
    fp16_allreduce: bool = False
    #: Horovod only.
    use_adasum: bool = False
    #: Horovod only.
    gradient_predivide_factor: float = 1.0
    #: Communication between processes; without a GPU for each, nccl becomes gloo.
    dist_backend: Literal["nccl", "gloo", "mpi"] = "nccl"

    @field_validator("lr_scheduler_step_size")
    @classmethod
    def _are_epochs(cls, value: int | list[int], info: ValidationInfo) -> int | list[int]:
        name = info.data.get("lr_scheduler")
        if isinstance(value, list) and name in _OF_ONE_STEP_SIZE:
            raise ValueError(f"{name} takes one number of epochs; only multistep takes a list")
        epochs = value if isinstance(value, list) else [value]
        if not epochs or min(epochs) < 1:
            raise ValueError("expected a number of epochs above 0, or for multistep a list of them")
        return value


def read_configuration(
    config: Mapping[str, Any] | TrainingConfiguration | None,
) -> TrainingConfiguration:
    """Return the trainer's configuration; a mapping is checked, an object taken as it is.

    Raises:
        ConfigurationError: If a value does not fit its field.
    """
    if isinstance(config, TrainingConfiguration):
        return config
    return validate(TrainingConfiguration, config or {}, "config")
