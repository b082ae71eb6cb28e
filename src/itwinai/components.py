"""The steps of a pipeline: derive one, write its ``execute``, and name it in the configuration."""

from __future__ import annotations

import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Concatenate, ParamSpec, TypeVar

from itwinai import logger
from itwinai.errors import ConfigurationError
from itwinai.serialization import ModelLoader, Serializable

P = ParamSpec("P")
R = TypeVar("R")
Component = TypeVar("Component", bound="BaseComponent")


def monitor_exec(
    method: Callable[Concatenate[Component, P], R],
) -> Callable[Concatenate[Component, P], R]:
    """Decorate an ``execute``: announce it, measure it (``exec_t``), and clean up in any case."""

    @functools.wraps(method)
    def monitored(self: Component, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self._printout(f"Starting execution of '{self.name}'...")
        start = time.time()
        try:
            result = method(self, *args, **kwargs)
        finally:
            self.cleanup()
        self.exec_t = time.time() - start
        self._printout(f"'{self.name}' executed in {self.exec_t:.3f}s")
        return result

    return monitored


class BaseComponent(ABC, Serializable):
    """A step of a pipeline.

    Args:
        name: Name in messages; the class name if not given.
    """

    #: Seconds the last monitored execution took; None before it.
    exec_t: float | None = None

    def __init__(self, name: str | None = None) -> None:
        self.update_parameters(name=name)
        self.name = name or type(self).__name__

    @abstractmethod
    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Do the step's work; a tuple becomes the positional arguments of the next step."""

    def cleanup(self) -> None:
        """Release what the execution held; called after it, also if it failed."""

    @staticmethod
    def _printout(msg: str) -> None:
        line = f"# {msg} #"
        for text in ("#" * len(line), line, "#" * len(line)):
            logger.info(text)


class DataGetter(BaseComponent):
    """Fetches a data set."""

    @abstractmethod
    def execute(self) -> Any:
        """Return the data set."""


class DataProcessor(BaseComponent):
    """Transforms the three data sets."""

    @abstractmethod
    def execute(
        self, train_dataset: Any, validation_dataset: Any, test_dataset: Any
    ) -> tuple[Any, Any, Any]:
        """Return the three data sets, processed."""


class DataSplitter(BaseComponent):
    """Splits a data set into three.

    Args:
        train_proportion: Share (float in [0, 1]) or number of items (int) to train with.
        validation_proportion: The same for validation.
        test_proportion: The same for the test.
        name: Name in messages.
    """

    def __init__(
        self,
        train_proportion: int | float,
        validation_proportion: int | float,
        test_proportion: int | float,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.save_parameters(**self.locals2params(locals()))
        self.train_proportion = train_proportion
        self.validation_proportion = validation_proportion
        self.test_proportion = test_proportion

    @property
    def train_proportion(self) -> int | float:
        """Share or number of items to train with."""
        return self._train_proportion

    @train_proportion.setter
    def train_proportion(self, value: int | float) -> None:
        self._train_proportion = self._checked("train_proportion", value)

    @property
    def validation_proportion(self) -> int | float:
        """Share or number of items for validation."""
        return self._validation_proportion

    @validation_proportion.setter
    def validation_proportion(self, value: int | float) -> None:
        self._validation_proportion = self._checked("validation_proportion", value)

    @property
    def test_proportion(self) -> int | float:
        """Share or number of items for the test."""
        return self._test_proportion

    @test_proportion.setter
    def test_proportion(self, value: int | float) -> None:
        self._test_proportion = self._checked("test_proportion", value)

    @abstractmethod
    def execute(self, dataset: Any) -> tuple[Any, Any, Any]:
        """Return train, validation and test data sets."""

    def _checked(self, key: str, value: int | float) -> int | float:
        number: Any = value  # whatever YAML gave; None is for a splitter that knows itself
        is_number = isinstance(number, Real) and not isinstance(number, bool)
        if number is not None and not is_number:
            raise ConfigurationError(
                f"'{self.name}', {key}={value!r}: expected a share, such as 0.2, or a whole number "
                "of items"
            )
        if is_number and not isinstance(number, Integral) and not 0.0 <= float(number) <= 1.0:
            raise ConfigurationError(
                f"'{self.name}', {key}={value}: a share lies between 0.0 and 1.0; "
                "give a number of items as an integer."
            )
        if is_number and number < 0:
            raise ConfigurationError(
                f"'{self.name}', {key}={value}: a number of items is at least 0"
            )
        return value


class Trainer(BaseComponent):
    """Trains a model."""

    @abstractmethod
    def execute(
        self, train_dataset: Any, validation_dataset: Any, test_dataset: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Return the three data sets and the trained model."""


class Predictor(BaseComponent):
    """Applies a model to unseen data.

    Args:
        model: The model, or what loads it: when it is needed, as a step before may write it.
        name: Name in messages.
    """

    def __init__(self, model: Any, name: str | None = None) -> None:
        super().__init__(name)
        self.save_parameters(model=model, name=name)
        self._source = model

    @property
    def model(self) -> Any:
        """The model, which is loaded at its first use."""
        if isinstance(self._source, ModelLoader):
            self._source = self._source()
        return self._source

    @model.setter
    def model(self, model: Any) -> None:
        self._source = model

    @abstractmethod
    def execute(self, predict_dataset: Any, model: Any | None = None) -> Any:
        """Return the predictions of ``model``, or of the constructor's model."""


class Saver(BaseComponent):
    """Keeps an artifact."""

    @abstractmethod
    def execute(self, artifact: Any) -> Any:
        """Save ``artifact`` and return it."""


class Adapter(BaseComponent):
    """Reorders, repeats or drops what flows from one step to the next, and adds constants.

    Args:
        policy: The items of the output: ``"INPUT_ARG#<index>"`` is an input (negative indices
            count from the end), anything else is passed on as it is.
        name: Name in messages.
    """

    INPUT_PREFIX = "INPUT_ARG#"

    def __init__(self, policy: list[Any], name: str | None = None) -> None:
        super().__init__(name)
        self.save_parameters(policy=policy, name=name)
        self.policy = policy
        self._indices = [self._index(item) for item in policy]

    @monitor_exec
    def execute(self, *args: Any) -> tuple[Any, ...]:
        """Return the items that the policy names.

        Raises:
            IndexError: If the policy names inputs that are not there.
        """
        used = [index for index in self._indices if index is not None]
        needed = max((index + 1 if index >= 0 else -index for index in used), default=0)
        if needed > len(args):
            raise IndexError(
                f"The args received as input by '{self.name}' are not consistent with the given "
                f"adapter policy because input args are too few! Input args are {len(args)} "
                f"but the policy foresees at least {needed} items."
            )
        return tuple(
            item if index is None else args[index]
            for item, index in zip(self.policy, self._indices, strict=True)
        )

    def _index(self, item: Any) -> int | None:
        if not (isinstance(item, str) and item.startswith(self.INPUT_PREFIX)):
            return None
        try:
            return int(item.removeprefix(self.INPUT_PREFIX))
        except ValueError:
            raise ConfigurationError(
                f"'{self.name}', policy item '{item}': write a whole number after "
                f"'{self.INPUT_PREFIX}', such as '{self.INPUT_PREFIX}0'."
            ) from None
