"""A pipeline: components in a row, each fed with what the one before returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itwinai.components import BaseComponent, DataProcessor, DataSplitter, monitor_exec
from itwinai.errors import ConfigurationError, ItwinaiError
from itwinai.utils import SignatureInspector


class StepError(ItwinaiError, TypeError):
    """A step cannot take what the step before it returned, or returned what cannot go on."""


class Pipeline(BaseComponent):
    """Executes its steps one after the other.

    A step that returns a tuple gives the next one its positional arguments; None gives none.

    Args:
        steps: The components, in a list or by name.
        name: Name in messages.

    Raises:
        ConfigurationError: If a step is no component.
    """

    #: The step that is executed, or was last.
    running: BaseComponent | None = None

    def __init__(
        self, steps: dict[str, BaseComponent] | list[BaseComponent], name: str | None = None
    ) -> None:
        super().__init__(name)
        self.save_parameters(steps=steps, name=name)
        self.steps = steps
        self._check_steps()

    def __getitem__(self, subscript: int | str | slice) -> Any:
        """Return one step by position or name, or a pipeline of some of them."""
        if isinstance(subscript, slice):
            return type(self)(self._slice(subscript), name=self.name)
        if isinstance(subscript, int):
            return self._components()[subscript]
        if isinstance(self.steps, dict):
            return self.steps[subscript]
        raise TypeError(
            f"'{self.name}', step '{subscript}': the steps are a list; give a position instead."
        )

    def __len__(self) -> int:
        return len(self.steps)

    @monitor_exec
    def execute(self, *args: Any) -> Any:
        """Execute all steps.

        Args:
            *args: Arguments of the first step.

        Returns:
            What the last step returned.

        Raises:
            StepError: If a step cannot take what the step before it returned, or returned one value
                where several data sets are to go on.
        """
        output: Any = args
        before = None
        for component in self._components():
            self.running = component
            inputs = self._pack_args(output)
            self.validate_args(inputs, component, before)
            output = component.execute(*inputs)
            _check_returned(component, inputs, output)
            before = component.name
        return output

    @staticmethod
    def _pack_args(args: Any) -> tuple[Any, ...]:
        if args is None:
            return ()
        return args if isinstance(args, tuple) else (args,)

    @staticmethod
    def validate_args(
        input_args: Sequence[Any], component: BaseComponent, before: str | None = None
    ) -> None:
        """Check that ``component`` can be executed with this many arguments.

        Args:
            input_args: The arguments.
            component: What is to be executed.
            before: Name of the step that returned them, if one did.

        Raises:
            StepError: If they are too few or too many.
        """
        signature = SignatureInspector(component.execute)
        received = f"{len(input_args)} ({', '.join(type(arg).__name__ for arg in input_args)})"
        if before is not None:
            received += f", which '{before}' returned"
        if len(input_args) < signature.min_params_num:
            raise StepError(
                f"Component '{component.name}' received too few input arguments: {received}; "
                f"it requires {signature.min_params_num}: {', '.join(signature.required_params)}."
            )
        if len(input_args) > signature.max_params_num:
            raise StepError(
                f"Component '{component.name}' received too many input arguments: {received}; "
                f"it takes at most {signature.max_params_num}."
            )

    def _check_steps(self) -> None:
        named = self.steps.items() if isinstance(self.steps, dict) else enumerate(self.steps)
        for name, step in named:
            if not callable(getattr(step, "execute", None)):
                raise ConfigurationError(
                    f"'{self.name}', step '{name}': a {type(step).__name__} is no component, it "
                    "has no execute(); derive its class from one of itwinai.components"
                )

    def _components(self) -> list[BaseComponent]:
        return list(self.steps.values()) if isinstance(self.steps, dict) else self.steps

    def _slice(self, part: slice) -> dict[str, BaseComponent] | list[BaseComponent]:
        if isinstance(self.steps, dict):
            return dict(list(self.steps.items())[part])
        return self.steps[part]


def _check_returned(component: BaseComponent, inputs: Sequence[Any], returned: Any) -> None:
    """Refuse one value, such as a list, where several data sets are to go on."""
    splits = isinstance(component, DataSplitter)
    processes = isinstance(component, DataProcessor) and len(inputs) > 1
    if (splits or processes) and not isinstance(returned, tuple):
        came = "None" if returned is None else f"one {type(returned).__name__}"
        raise StepError(
            f"'{component.name}': execute() returned {came}; expected a tuple of the training, "
            "validation and test set"
        )
