"""What the trials of a study by Lightning's configuration run.

A trial's process loads this module, and nothing of the study that drives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from itwinai.config.nesting import nested, value_at
from itwinai.torch.lightning_cli import built, keeping_model
from itwinai.torch.ray.lightning.callback import TrialCallback, trainer_options

if TYPE_CHECKING:
    from itwinai.hpo.functions import Trial

#: Arguments of the trainer that say where it runs, which a trial knows better.
_OF_THE_PLACE = ("accelerator", "devices", "num_nodes")


class LightningTraining:
    """A function that trains as a configuration of ``LightningCLI`` says, with a trial's values.

    Args:
        config: The configuration.
        places: Dotted paths in it, by the tuned names whose values go there.
        saved_model: Name under which loggers get the trained module.
    """

    def __init__(
        self, config: Mapping[str, Any], places: Mapping[str, str], saved_model: str
    ) -> None:
        self._config = config
        self._places = places
        self._saved_model = saved_model

    def __call__(self, config: Mapping[str, Any], trial: Trial) -> None:
        """Train in a trial."""
        values = {at: _plain(value_at(config, name)[0]) for name, at in self._places.items()}
        content = with_values(self._config, values)
        if content.get("seed_everything") is None:
            content["seed_everything"] = False if trial.seed is None else trial.seed
        callback, options = TrialCallback(trial), trainer_options(trial)
        content["trainer"] = _in_trial(content.get("trainer", {}), options)
        cli = built(content, [callback, keeping_model(self._saved_model)], options)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=callback.ckpt_path)


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with values at some dotted paths."""
    return {**config, **nested(values, config)}


def _in_trial(trainer: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """A trainer's arguments with those of a trial's place; what is the user's choice stays."""
    given = dict(trainer)
    for name in _OF_THE_PLACE:
        given[name] = options[name]
    given.pop("enable_checkpointing", None)  # the trial's are the checkpoints
    plugins = given.get("plugins") or []
    given["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), *options["plugins"]]
    return given


def _plain(value: Any) -> Any:
    """A mapping as Lightning's parser knows it."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return value
