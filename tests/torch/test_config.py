"""The training's configuration: its values, and what it remembers of being read."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from itwinai.errors import ConfigurationError
from itwinai.torch.config import Configuration, TrainingConfiguration, read_configuration
from itwinai.torch.trainer import TorchTrainer

DEFAULTS = {
    "batch_size": 32,
    "shuffle_train": False,
    "shuffle_validation": False,
    "shuffle_test": False,
    "pin_gpu_memory": False,
    "drop_last": False,
    "num_workers_dataloader": 4,
    "loss": "cross_entropy",
    "label_smoothing": 0.0,
    "optimizer": "adam",
    "optim_lr": 1e-3,
    "optim_momentum": 0.9,
    "optim_betas": (0.9, 0.999),
    "optim_weight_decay": 0.0,
    "lr_scheduler": None,
    "lr_scheduler_step_size": 10,
    "lr_scheduler_gamma": 0.95,
    "lr_warmup_epochs": 0.0,
    "precision": "fp32",
    "gradient_accumulation_steps": 1,
    "gradient_clipping": None,
    "sync_batchnorm": False,
    "stop_on_nan": True,
    "silence_timeout": 120.0,
    "torch_compile": False,
    "ema_decay": None,
    "early_stopping_patience": None,
    "early_stopping_min_delta": 0.0,
    "deepspeed": None,
    "fp16_allreduce": False,
    "use_adasum": False,
    "gradient_predivide_factor": 1.0,
    "dist_backend": "nccl",
}


class Narrow(TrainingConfiguration):
    """A user's own configuration."""

    optimizer: Literal["sgd"] = "sgd"
    model_dim: int = 8
    #: Of the user's own.
    layers: tuple[int, ...] = (1, 2)


def unread_after(read: Any, names: tuple[str, ...] = ("optim_lr", "width")) -> list[str]:
    config = TrainingConfiguration(width=3)
    read(config)
    return config.unread(names)


def test_the_defaults() -> None:
    assert TrainingConfiguration().snapshot() == DEFAULTS
    assert read_configuration(None).snapshot() == DEFAULTS


def test_own_keys_are_kept_beside_the_fields() -> None:
    config = read_configuration({"batch_size": 8, "width": 3, "deep": {"a": [1]}})
    assert (config.batch_size, config["batch_size"]) == (8, 8)
    assert (config.width, config["width"], config.deep) == (3, 3, {"a": [1]})
    assert "width" in config
    assert "height" not in config
    assert config.keys() == [*DEFAULTS, "width", "deep"]


def test_a_key_that_is_not_there() -> None:
    config = TrainingConfiguration()
    with pytest.raises(KeyError, match="height"):
        config["height"]
    with pytest.raises(AttributeError, match="height"):
        config.height  # noqa: B018 - it is the reading that raises
    assert config.get("height") is None
    assert config.get("height", 3) == 3
    assert config.get("batch_size", 3) == 32


def test_it_unpacks_like_a_mapping() -> None:
    config = TrainingConfiguration(width=3)
    assert dict(config) == DEFAULTS | {"width": 3}
    assert {**config} == DEFAULTS | {"width": 3}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "config.batch_size=0: Input should be greater than or equal to 1"),
        ({"optim_lr": 0}, "config.optim_lr=0: Input should be greater than 0"),
        (
            {"optimizer": "adan"},
            "config.optimizer='adan': Input should be 'adadelta', 'adam', 'adamw', 'rmsprop' "
            "or 'sgd'",
        ),
        (
            {"num_workers_dataloader": -1},
            "config.num_workers_dataloader=-1: Input should be greater than or equal to 0",
        ),
        (
            {"early_stopping_patience": True},
            "config.early_stopping_patience=True: expected a number, not true or false",
        ),
        (
            {"optim_betas": [0.9, False]},
            "config.optim_betas=[0.9, False]: expected a number, not true or false",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_with_its_key(values: dict[str, Any], message: str) -> None:
    for build in (read_configuration, lambda config: TorchTrainer(config, epochs=1)):
        with pytest.raises(ConfigurationError) as caught:
            build(values)
        assert str(caught.value) == message


def test_of_many_wrong_keys_the_first_eight_are_named() -> None:
    wrong = dict.fromkeys(list(DEFAULTS)[:12], "\n")
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(wrong)
    *named, rest = str(caught.value).split("\n")
    assert [line.partition("=")[0] for line in named] == [f"config.{key}" for key in [*wrong][:8]]
    assert rest == "config: 4 more keys are wrong"


@pytest.mark.parametrize(
    ("schedule", "value", "complaint"),
    [
        ("step", [3, 6], "step takes one number of epochs; only multistep takes a list"),
        ("linear", [], "linear takes one number of epochs; only multistep takes a list"),
        ("step", 0, "expected a number of epochs above 0, or for multistep a list of them"),
        ("multistep", -1, "expected a number of epochs above 0"),
        ("multistep", [], "expected a number of epochs above 0"),
        ("multistep", [3, 0], "expected a number of epochs above 0"),
        (None, 0, "expected a number of epochs above 0"),
    ],
)
def test_a_wrong_step_size_is_refused(schedule: str | None, value: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_configuration({"lr_scheduler": schedule, "lr_scheduler_step_size": value})
    assert str(caught.value).startswith(f"config.lr_scheduler_step_size={value!r}: {complaint}")


@pytest.mark.parametrize(("schedule", "value"), [("multistep", [3, 6]), ("exponential", [3])])
def test_a_list_of_step_sizes_is_taken(schedule: str, value: Any) -> None:
    config = read_configuration({"lr_scheduler": schedule, "lr_scheduler_step_size": value})
    assert config.lr_scheduler_step_size == value


@pytest.mark.parametrize(
    "values",
    [
        {"lr_scheduler_gamma": 0},
        {"lr_scheduler_gamma": -0.5},
        {"lr_scheduler_gamma": float("nan")},
        {"optim_betas": (1.0, 0.9)},
        {"optim_betas": (0.9, -0.1)},
    ],
)
def test_a_factor_that_cannot_work_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"config.{next(iter(values))}"):
        read_configuration(values)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_configuration({"batch_size": "many", "optim_lr": "1e-2", "loss": "l3"})
    lines = str(caught.value).splitlines()
    assert [line.split("=")[0] for line in lines] == ["config.batch_size", "config.loss"]


@pytest.mark.parametrize(
    ("read", "unread"),
    [
        (lambda config: None, ["optim_lr", "width"]),
        (lambda config: config.optim_lr, ["width"]),
        (lambda config: config.width, ["optim_lr"]),
        (lambda config: config["width"], ["optim_lr"]),
        (lambda config: config.get("optim_lr"), ["width"]),
        (lambda config: config.get("width", 4), ["optim_lr"]),
        (lambda config: config.get("height"), ["optim_lr", "width"]),
        (lambda config: getattr(config, "height", None), ["optim_lr", "width"]),
        (lambda config: config.model_dump(), []),
        (lambda config: config.model_dump_json(), []),
        (lambda config: config.model_extra, []),
        (lambda config: dict(config), []),
        (lambda config: {**config}, []),
        (lambda config: list(config), []),
        (lambda config: config.snapshot(), ["optim_lr", "width"]),
        (lambda config: repr(config), ["optim_lr", "width"]),
        (lambda config: "width" in config, ["optim_lr", "width"]),
        (lambda config: config.keys(), ["optim_lr", "width"]),
        (lambda config: config.with_values({"width": 4}), ["optim_lr", "width"]),
        (lambda config: setattr(config, "batch_size", 4), ["optim_lr", "width"]),
    ],
)
def test_what_counts_as_reading(read: Any, unread: list[str]) -> None:
    assert unread_after(read) == unread


@pytest.mark.parametrize("name", ["model_dim", "layers", "optimizer"])
@pytest.mark.parametrize(
    "read", [getattr, Narrow.__getitem__, Narrow.get], ids=["attribute", "item", "get"]
)
def test_reading_a_field_of_a_subclass_is_noticed(name: str, read: Any) -> None:
    config = Narrow()
    assert config.unread([name]) == [name]
    read(config, name)
    assert config.unread([name]) == []


def test_only_known_names_can_be_unread() -> None:
    assert unread_after(lambda config: None, ("height",)) == []


def test_with_values_gives_a_copy_of_the_same_class_that_nobody_has_read() -> None:
    config = Narrow(width=3)
    assert config.model_dim == 8
    copy = config.with_values({"batch_size": 4, "width": 5, "height": 6})
    assert type(copy) is Narrow
    assert copy.unread(["model_dim"]) == ["model_dim"]
    assert copy.snapshot() == config.snapshot() | {"batch_size": 4, "width": 5, "height": 6}
    assert (config.batch_size, config.width) == (32, 3)
    with pytest.raises(ConfigurationError, match=r"config\.batch_size='x'"):
        config.with_values({"batch_size": "x"})


def test_a_subclass_narrows_the_choices() -> None:
    assert read_configuration(Narrow()).optimizer == "sgd"
    with pytest.raises(ConfigurationError, match=r"config\.optimizer='adam': .*'sgd'"):
        Narrow().with_values({"optimizer": "adam"})


def test_attributes_may_be_assigned_after_construction() -> None:
    config = TrainingConfiguration()
    config.batch_size = 8
    config.width = 3
    assert (config["batch_size"], config["width"]) == (8, 3)
    assert config.with_values({}).width == 3
    with pytest.raises(ValueError, match="batch_size"):
        config.batch_size = 0
    assert config.batch_size == 8


def test_a_trainer_takes_a_configuration_object_as_it_is() -> None:
    config = Narrow()
    assert TorchTrainer(config, epochs=1).config is config


def test_a_configuration_of_another_kind_of_thing() -> None:
    class Server(Configuration):
        port: int = 80

    assert Server(host="a").snapshot() == {"port": 80, "host": "a"}
