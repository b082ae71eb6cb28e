"""A study of a training by Lightning: checked, run, and its winner made a module again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from itwinai.config.nesting import nested, value_at
from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.functions.program import FunctionProgram
from itwinai.hpo.functions.states import load_state
from itwinai.hpo.functions.step import FunctionTrainer
from itwinai.hpo.launch import StudyPlan
from itwinai.hpo.record import StudyResult
from itwinai.hpo.space import SearchSpace
from itwinai.torch.lightning_cli import built, parsed
from itwinai.torch.ray.lightning.training import LightningTraining, with_values

#: What says how many reports a full training has, by which a study compares trials.
_LENGTH = ("trainer.max_epochs", "trainer.check_val_every_n_epoch")

#: Sections of the configuration whose constructors' arguments need no path.
_SECTIONS = ("model", "data")


class LightningStudy:
    """A study of what a configuration of ``LightningCLI`` describes.

    Args:
        config: The configuration; its values are the default ones.
        space: Tuned names and their domains. A name is that of an argument of the module's or the
            data module's constructor, or a path in the configuration.
        study: How it is searched.
        saved_model: Name under which loggers get each trial's module.

    Raises:
        ConfigurationError: For whatever cannot work, before anything starts.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        space: SearchSpace,
        study: StudyConfiguration,
        saved_model: str,
    ) -> None:
        self._config = dict(config)
        self._saved_model = saved_model
        for section in _SECTIONS:
            if isinstance(self._config.get(section), str):
                self._config[section] = {"class_path": self._config[section]}
        content = parsed(self._config)
        #: Where each tuned name lies in the configuration.
        self.places = {name: _place(name, content) for name in space}
        default = {name: value_at(content, at)[0] for name, at in self.places.items()}
        self.function = FunctionTrainer(
            LightningTraining(self._config, self.places, saved_model),
            space,
            nested(default, {}),
            _reports(content["trainer"]),
            study,
        )

    @property
    def seed(self) -> int | None:
        """The configuration's ``seed_everything``, if it is a number."""
        seed = self._config.get("seed_everything")
        return seed if type(seed) is int else None

    def program(self, seed: int | None) -> FunctionProgram:
        """What trains a trial's values from a seed; None: from the trial's own."""
        training = LightningTraining(
            {**self._config, "seed_everything": seed}, self.places, self._saved_model
        )
        function = self.function
        return FunctionProgram(training, function.config, function.epochs)

    def run(self, pipeline: str | None) -> StudyResult:
        """Run it; the study's folder keeps the pipeline that it is a step of."""
        self.function.study_pipeline = pipeline
        return self.function.run(None)

    def best_module(self, result: StudyResult) -> Any:
        """The best trial's module on the CPU, or None where it kept no checkpoint."""
        best = result.best
        if best is None or best.checkpoint is None:
            return None
        tuned = with_values(self.function.config, best.params)
        values = {at: value_at(tuned, name)[0] for name, at in self.places.items()}
        content = with_values(self._config, values)
        content.pop("data", None)
        bare = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        module = built({**content, "trainer": bare, "seed_everything": False}).model
        state, _ = load_state(best.checkpoint)
        module.load_state_dict(state["state_dict"])
        return module.eval()


@dataclass(frozen=True)
class LightningSubject:
    """A study of a training by Lightning, for whoever trains its trials again.

    Attributes:
        described: The study.
    """

    described: LightningStudy

    @property
    def study(self) -> StudyConfiguration:
        """The settings of its study."""
        return self.described.function.study

    @property
    def epochs(self) -> int:
        """Reports of a full training."""
        return self.described.function.epochs

    @property
    def seed(self) -> int | None:
        """The configuration's ``seed_everything``, if it is a number."""
        return self.described.seed

    def checked_plan(self) -> StudyPlan:
        """Check all of the study that can be known before anything starts."""
        return self.described.function.checked_plan()

    def checkpoint_bytes(self) -> float | None:
        """Nobody knows before the module is built."""
        return None

    def program(self, seed: int | None, epochs: int, tests: bool = False) -> FunctionProgram:
        """What trains; it does not look at a test set.

        Raises:
            ConfigurationError: For other epochs than the configuration's: ``max_epochs`` may be
                what its schedules go by.
        """
        if epochs != self.epochs:
            raise ConfigurationError(
                f"epochs={epochs}: the configuration says how long it trains, and its schedules "
                "may go by that. Change trainer.max_epochs there."
            )
        return self.described.program(seed)


def _reports(trainer: Mapping[str, Any]) -> int:
    """How often a full training reports, by its trainer's arguments.

    Raises:
        ConfigurationError: If it has no end.
    """
    epochs = trainer["max_epochs"]
    if epochs is None or epochs < 1:
        raise ConfigurationError(
            f"config.trainer.max_epochs={epochs}: a study must know how many epochs a full "
            "training has. Give their number."
        )
    return max(1, int(epochs) // (trainer["check_val_every_n_epoch"] or 1))


def _place(name: str, content: Mapping[str, Any]) -> str:
    """Where a tuned name lies in the configuration.

    Raises:
        ConfigurationError: If nothing takes it, or more than one constructor does, and for what
            says how long a training is.
    """
    if name in _LENGTH:
        raise ConfigurationError(
            f"search_space.{name}: a study compares trainings of one length, which config.{name} "
            "says. Its scheduler stops what is not worth it."
        )
    if value_at(content, name):
        return name
    takers = [s for s in _SECTIONS if value_at(content, f"{s}.init_args.{name}")]
    if len(takers) == 1:
        return f"{takers[0]}.init_args.{name}"
    if takers:
        paths = " or ".join(f"{s}.init_args.{name}" for s in takers)
        raise ConfigurationError(
            f"search_space.{name}: both the module and the data module take it. Write {paths}."
        )
    known = list(_paths(content)) if "." in name else list(_arguments(content))
    hint = did_you_mean(name, known) or f". They take {', '.join(known)}"
    raise ConfigurationError(
        f"search_space.{name}: neither the module nor the data module takes it{hint}"
    )


def _arguments(content: Mapping[str, Any]) -> Iterator[str]:
    for section in _SECTIONS:
        for arguments in value_at(content, f"{section}.init_args"):
            yield from arguments


def _paths(content: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The dotted paths of all values."""
    for key, value in content.items():
        yield f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{before}{key}.")
