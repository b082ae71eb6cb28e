"""A trial between its begin and its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import optuna

from itwinai.hpo.trial import Assignment, TrialState


@dataclass
class RunningTrial:
    """What the study knows of a trial that has not ended."""

    assignment: Assignment
    optuna: optuna.Trial
    epochs: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    checkpoint: Path | None = None
    #: Epochs that the checkpoint holds.
    checkpoint_epochs: int = 0
    #: Set once the study has decided how the trial ends; the engine then only confirms.
    ending: tuple[TrialState, str] | None = None
    #: Seconds that it trained before this attempt.
    earlier: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds that it has trained in all."""
        return self.earlier + time.monotonic() - self.started


Listener = Callable[[RunningTrial, TrialState], None]
