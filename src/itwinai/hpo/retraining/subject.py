"""What runs studies, as those see it who train one of its trials again."""

from __future__ import annotations

from typing import Any, Protocol

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.engine import Program
from itwinai.hpo.launch import StudyPlan


class Subject(Protocol):
    """A training with its data."""

    @property
    def study(self) -> StudyConfiguration:
        """The settings of its study."""
        ...

    @property
    def epochs(self) -> int:
        """Epochs of a full training."""
        ...

    @property
    def seed(self) -> int | None:
        """Seed of all its trainings; None: each trial has its own."""
        ...

    def checked_plan(self) -> StudyPlan:
        """Check all of the study that can be known before anything starts.

        Raises:
            ConfigurationError: For whatever cannot work.
        """
        ...

    def checkpoint_bytes(self) -> float | None:
        """Size of a checkpoint, as far as it can be known; None: it cannot."""
        ...

    def program(self, seed: int | None, epochs: int, tests: bool = False) -> Program:
        """What trains, without loggers.

        Args:
            seed: Seed of all trainings; None: each trial has its own.
            epochs: Epochs of a full training.
            tests: Whether the last epoch also tells metrics on the test set, if there is one.
        """
        ...


class Studied(Protocol):
    """A trainer, or a function as a step of a pipeline."""

    def subject(self, *data: Any) -> Subject:
        """It and its data: those that ``execute`` gets."""
        ...
