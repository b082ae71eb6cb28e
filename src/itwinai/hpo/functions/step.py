"""A function as a step of a pipeline, which runs its study, or trains once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import itwinai
from itwinai.components import BaseComponent, monitor_exec
from itwinai.config.model import validate
from itwinai.config.nesting import value_at
from itwinai.config.values import is_numpy_number, plain
from itwinai.errors import ConfigurationError, did_you_mean
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.functions.program import Function, FunctionProgram
from itwinai.hpo.launch import StudyPlan, plan_study, run_study
from itwinai.hpo.record import StudyResult
from itwinai.hpo.space import SearchSpace

if TYPE_CHECKING:
    from itwinai.hpo.planning import PlannedCost


class FunctionTrainer(BaseComponent):
    """Runs a study in which every trial calls a function, or calls it once.

    Args:
        function: Called as ``function(config, trial)`` in each process of a trial.
        search_space: Tuned names and their domains; None trains once, in this process.
        config: Default configuration, which the first trial runs; the gain is measured from it.
        epochs: Reports of a full training.
        study: A :class:`StudyConfiguration` or a mapping of its fields.
        name: Name in messages.
        random_seed: Of a training without a study; a study has a ``seed`` of its own.
        checkpoints_location: Of a training without a study: its ``trial.folder``.

    Raises:
        ConfigurationError: For a wrong or unknown key of ``study`` or ``search_space``, and for a
            function that cannot be called so.
    """

    #: The pipeline it is a step of, as a study's folder keeps it; set by the command line.
    study_pipeline: str | None = None
    #: The study that ``execute`` ran.
    study_result: StudyResult | None = None

    def __init__(
        self,
        function: Function,
        search_space: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        epochs: int = 1,
        study: StudyConfiguration | Mapping[str, Any] | None = None,
        name: str | None = None,
        random_seed: int | None = None,
        checkpoints_location: str | Path = "checkpoints",
    ) -> None:
        super().__init__(name)
        self.save_parameters(**self.locals2params(locals()))
        _check_function(function)
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise ConfigurationError(f"epochs={epochs!r}: a whole number, 1 or more")
        self.function = function
        self.search_space = None if search_space is None else SearchSpace.parse(search_space)
        self.config = dict(config or {})
        self.epochs = epochs
        self.random_seed = random_seed
        self.checkpoints_location = Path(checkpoints_location)
        _check_purpose(self.search_space, bool(study), random_seed)
        self.study = (
            study
            if isinstance(study, StudyConfiguration)
            else validate(StudyConfiguration, study or {}, "study")
        )

    @monitor_exec
    def execute(self, *data: Any) -> Any:
        """Run the study, and return its result; without one return what the function returns.

        Args:
            data: What the steps before have made: ``trial.data``, a single value as it is.

        Raises:
            ConfigurationError: For whatever cannot work, before anything starts.
            StudyError: As of :func:`itwinai.hpo.launch.run_study`.
        """
        if self.search_space is not None:
            return self.run(_as_one(data))
        from itwinai.hpo.functions.once import train_once

        how = self.config, self.epochs, _as_one(data), self.random_seed
        return train_once(self.function, *how, self.checkpoints_location)

    def run(self, data: Any) -> StudyResult:
        """Run the study over some data.

        Raises:
            ConfigurationError: For whatever cannot work, before anything starts.
            StudyError: As of :func:`itwinai.hpo.launch.run_study`.
        """
        _check_import(self.function)
        plan = self.checked_plan()
        program = FunctionSubject(self, data).program(None, self.epochs)
        self.study_result = run_study(plan, program, pipeline=self.study_pipeline)
        return self.study_result

    def plan(
        self,
        *data: Any,
        epoch_seconds: float | None = None,
        probe: bool = False,
        like: str | Path | None = None,
        limit: float | None = None,
    ) -> PlannedCost:
        """Say what the study will cost; see :func:`itwinai.hpo.retraining.planned_cost`."""
        from itwinai.hpo.retraining import planned_cost

        return planned_cost(self.subject(*data), epoch_seconds, probe, like, limit)

    def subject(self, *data: Any) -> FunctionSubject:
        """The function with its data, for whoever trains trials of its study again."""
        return FunctionSubject(self, _as_one(data))

    def checked_plan(self) -> StudyPlan:
        """Check all of the study that can be known before anything starts.

        Raises:
            ConfigurationError: For whatever cannot work.
        """
        if self.search_space is None:
            raise ConfigurationError(
                "search_space: there is none, so this trains once, and has no trials"
            )
        for name in self.search_space:
            _check_name(name, self.config)
        default = self._default(self.search_space)
        plan = plan_study(self.study, self.search_space, self.epochs, default)
        return replace(plan, alike=dict(_values(self.config, self.search_space)))

    @property
    def study_places(self) -> dict[str, str]:
        """Where each tuned name lies in ``config``, whatever the arguments are called."""
        return {name: name for name in self.search_space or ()}

    def _default(self, space: SearchSpace) -> dict[str, Any] | None:
        """The configuration's own values of the tuned names; None if it lacks one."""
        found = {n: value_at(self.config, n) for n in space if n not in space.defaults}
        lacking = [name for name, values in found.items() if not values]
        if lacking and self.study.default_first:
            itwinai.logger.warning(
                "warning: config has no value for %s, so there is no default configuration to "
                "compare with. Give it one, or set default_first=False in the study.",
                ", ".join(lacking),
            )
        return None if lacking else {name: value for name, (value,) in found.items()}


@dataclass(frozen=True)
class FunctionSubject:
    """A function with its data.

    Attributes:
        trainer: The function, and its study.
        data: The data.
    """

    trainer: FunctionTrainer
    data: Any
    #: Each trial has its own.
    seed: int | None = None

    @property
    def study(self) -> StudyConfiguration:
        """The settings of its study."""
        return self.trainer.study

    @property
    def epochs(self) -> int:
        """Reports of a full training."""
        return self.trainer.epochs

    def checked_plan(self) -> StudyPlan:
        """Check all of the study that can be known before anything starts."""
        return self.trainer.checked_plan()

    def checkpoint_bytes(self) -> float | None:
        """Nobody knows before the first checkpoint."""
        return None

    def program(self, seed: int | None, epochs: int, tests: bool = False) -> FunctionProgram:
        """What trains; a test set is the function's own affair."""
        return FunctionProgram(self.trainer.function, self.trainer.config, epochs, self.data)


def _as_one(data: tuple[Any, ...]) -> Any:
    """What ``trial.data`` is of what a step got: a single value as it is."""
    return data[0] if len(data) == 1 else data or None


def _values(
    content: Mapping[str, Any], tuned: Container[str], path: str = ""
) -> Iterator[tuple[str, Any]]:
    """The values of a configuration that are not tuned, by their dotted names."""
    for key, value in content.items():
        name = f"{path}{key}"
        if name not in tuned and isinstance(value, Mapping) and value:
            yield from _values(value, tuned, f"{name}.")
        elif name not in tuned:
            yield name, plain(value) if is_numpy_number(value) else value


def _check_function(function: Any) -> None:
    if not callable(function):
        raise ConfigurationError(
            f"function={function!r}: it cannot be called. Give a function of the configuration and "
            "the trial: def train(config, trial)"
        )
    try:
        inspect.signature(function).bind(object(), object())
    except TypeError as error:
        called = function.func if isinstance(function, functools.partial) else function
        raise ConfigurationError(
            f"function: {getattr(called, '__name__', called)} cannot be called with the "
            f"configuration and the trial, as in train(config, trial): {error}"
        ) from None
    except ValueError:  # of a builtin, which has no signature
        return


def _check_import(function: Any) -> None:
    """Refuse a study that begins with the import of its function's module: trials import it too."""
    module = getattr(getattr(function, "func", function), "__module__", None)
    frame = inspect.currentframe()
    while frame is not None:
        is_import = frame.f_code.co_name == "<module>" and module != "__main__"
        if is_import and frame.f_globals.get("__name__") == module:
            raise ConfigurationError(
                f"{frame.f_code.co_filename}, line {frame.f_lineno}: the study begins while "
                f"'{module}' is imported, and each trial's process would import it and begin it "
                "again. Put this line below if __name__ == '__main__':"
            )
        frame = frame.f_back


def _check_purpose(space: SearchSpace | None, has_study: bool, seed: int | None) -> None:
    """Refuse what is meant for a study in a single training, and the other way round."""
    if space is None and has_study:
        raise ConfigurationError(
            "search_space: there is none, and study says how it would be searched. Give one, such "
            "as {lr: {type: loguniform, lower: 1e-4, upper: 1e-1}}, or leave study out to train "
            "once."
        )
    if space is not None and seed is not None:
        raise ConfigurationError(
            f"random_seed={seed}: with a search space this is the study's: study.seed={seed}"
        )


def _check_name(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a tuned name that is most likely another one, misspelt."""
    if not value_at(config, name) and did_you_mean(name, config):
        raise ConfigurationError(
            f"search_space.{name}: config has no such key{did_you_mean(name, config)} If the "
            "function reads both, give config a value for each."
        )
