"""Which names a training reads from its configuration, so that none is given in vain."""

from __future__ import annotations

from typing import Any

from torch import nn

from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.torch.optimization.factories import CHOOSERS, factory_parameters
from itwinai.utils import accepted_arguments

#: Hooks in which a subclass may read any key of its configuration.
READING_HOOKS = (
    "create_model_loss_optimizer",
    "create_dataloaders",
    "train",
    "train_epoch",
    "train_step",
    "validation_epoch",
    "validation_step",
    "test_epoch",
    "test_step",
    "compute_metrics",
    "get_default_distributed_kwargs",
    "samples_in_batch",
    "terms_in_loss",
    "set_epoch",
)

#: What belongs beside the configuration: an argument of the trainer, or a key of the study.
_ELSEWHERE = {
    **dict.fromkeys(
        (
            *("epochs", "random_seed", "strategy", "test_every", "from_checkpoint"),
            *("checkpoint_every", "checkpoint_every_steps", "checkpoint_every_seconds"),
            "validate_every_steps",
        ),
        "is an argument of the trainer",
    ),
    **dict.fromkeys(
        ("num_samples", "metric", "mode", "scheduler", "algorithm", "max_concurrent_trials"),
        "is a key of the study",
    ),
}


def check_config(trainer: Any) -> None:
    """Refuse keys of the configuration that nothing can read.

    Where a hook of the user's own may read them, that is seen after the first epoch.

    Raises:
        ConfigurationError: For all of them, with what was probably meant.
    """
    if trainer.overrides(*READING_HOOKS):
        return
    known = known_names(trainer)
    unknown = [name for name in own_keys(trainer.config) if name not in known]
    if unknown:
        lines = [
            f"config.{name}: {of_built_model(trainer, name) or _instead(name, known)}"
            for name in unknown
        ]
        raise ConfigurationError("\n".join(lines))


def own_keys(config: Any) -> list[str]:
    """The keys of a configuration that are no fields of it."""
    return [name for name in config.keys() if name not in type(config).model_fields]  # noqa: SIM118


def known_names(trainer: Any) -> set[str]:
    """The names that a training reads, its own hooks aside."""
    fields = set(type(trainer.config).model_fields)
    return fields | set(factory_parameters(trainer.model)) | set(own_arguments(trainer))


def own_arguments(trainer: Any) -> dict[str, Any]:
    """Constructor arguments that a user's subclass adds and keeps under their names."""
    ours = next(c for c in type(trainer).__mro__ if c.__module__.startswith("itwinai.torch."))
    own = set(accepted_arguments(type(trainer))) - set(accepted_arguments(ours))
    return {name: getattr(trainer, name) for name in own if hasattr(trainer, name)}


def suggestion(name: str, known: Any) -> str:
    """What was probably meant by a name that nothing reads; empty if that cannot be told."""
    if name in _ELSEWHERE:
        return f". {name} {_ELSEWHERE[name]}, and the same for all trials."
    return did_you_mean(_torch_names().get(name, name), known)


def of_built_model(trainer: Any, name: str) -> str:
    """What to do about an argument of a model that is an object already; empty if it is none."""
    model = trainer.model
    if not isinstance(model, nn.Module) or name not in accepted_arguments(type(model)):
        return ""
    return (
        f"the model is built already, so its {name!r} cannot change. Pass the class "
        f"(model={type(model).__name__}), or in YAML add _partial_: true to the model."
    )


def _instead(name: str, known: set[str]) -> str:
    if name in _ELSEWHERE:
        return f"nothing reads it there; {name} {_ELSEWHERE[name]}"
    hint = did_you_mean(_torch_names().get(name, name), known)
    return f"nothing reads it{hint or '. Remove it, or read it in a hook of your own'}"


def _torch_names() -> dict[str, str]:
    """Fields by what PyTorch and most people call them."""
    recipes = [recipe for table in CHOOSERS.values() for recipe in table.values()]
    fields = {option: field for recipe in recipes for option, field in recipe.fields.items()}
    return {**fields, "learning_rate": fields["lr"]}
