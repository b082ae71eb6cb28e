"""A trial between its begin and its end: what is known of it, and what it writes in the record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import optuna

from itwinai.hpo.objectives import Objective
from itwinai.hpo.record import attributes
from itwinai.hpo.trial import Assignment, TrialResult, TrialState, epochs_as_kept

#: How a trial ends, and why.
Ending = tuple[TrialState, str]


@dataclass
class RunningTrial:
    """What the study knows of a trial that has not ended.

    It begins where its assignment says.
    """

    assignment: Assignment
    #: What was known of it before it was asked for.
    plan: attributes.Plan
    optuna: optuna.Trial
    epochs: float = field(init=False)
    #: Optimizer steps made, where the training tells them.
    steps: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    checkpoint: Path | None = field(init=False)
    #: Epochs that the checkpoint holds.
    checkpoint_epochs: float = field(init=False)
    #: Set once the study has decided how the trial ends; the engine then only confirms.
    ending: Ending | None = None
    #: Whether it runs again in this run of the study, because its machine lacked something.
    again: bool = False
    #: Epochs after which its scheduler would have stopped it, and hears no more of it.
    spared: float | None = field(init=False)
    #: Seconds that it trained before this attempt.
    earlier: float = 0.0
    started: float = field(default_factory=lambda: time.monotonic())
    #: Seconds from then to its begin in its process, which may have had to start; None: unknown.
    waited: float | None = None
    #: Joules that each of its processes has used, by source, and by when the process began it.
    energy: dict[float, Mapping[str, float]] = field(default_factory=dict)
    #: Epochs that were trained again because a process was lost.
    repeated: float = 0
    #: Epochs that the process has come to, which may be one that took a lost one's place.
    _reached: float = field(init=False)
    #: Names of the nodes that it runs on, once they are known.
    nodes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checkpoint = self.assignment.checkpoint
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.epochs = self.checkpoint_epochs = self._reached = self.assignment.epochs
        self.spared = self.plan.spared

    @property
    def seconds(self) -> float:
        """Seconds that it has trained in all; that its process had to start does not count."""
        return self.earlier + time.monotonic() - self.started - (self.waited or 0.0)

    @property
    def node(self) -> str | None:
        """The node that it runs on, if it is one alone."""
        return self.nodes[0] if len(self.nodes) == 1 else None

    def trained_for(self, seconds: float) -> None:
        """Hear from its process for how long that has trained it."""
        if self.waited is None:  # what a lost process costs later is the trial's own time
            self.waited = time.monotonic() - self.started - seconds

    def ran_on(self, nodes: Sequence[str]) -> None:
        """Write in the record where it runs, if that is new."""
        if self.nodes != tuple(nodes):
            self.nodes = tuple(nodes)
            self.optuna.set_user_attr(attributes.RAN_ON, list(nodes))

    def came_to(self, epochs: float) -> None:
        """Hear how far its process is; what it trains again is written in the record."""
        if epochs <= self._reached:  # another one: from the checkpoint, unless it reads none
            self._reached = self.checkpoint_epochs if self.checkpoint_epochs < epochs else 0
        repeated = min(epochs, self.epochs) - self._reached
        self._reached = epochs
        if repeated > 0:
            self.repeated = epochs_as_kept(self.repeated + repeated)
            self.optuna.set_user_attr(attributes.REPEATED, self.repeated)

    def trained(
        self,
        epochs: float,
        metrics: Mapping[str, float],
        checkpoint: tuple[str, float] | None,
        objectives: Sequence[Objective],
    ) -> None:
        """Write a report in the record, and the checkpoint with its epochs if it is a new one."""
        self.epochs, self.metrics = epochs, dict(metrics)
        entry = [self.metrics, round(self.seconds, 3)]
        if self.steps is not None:
            entry.append(self.steps)
        self.optuna.set_user_attr(attributes.epoch_key(epochs), entry)
        self.saved(checkpoint)
        value = objectives[0].value(self.metrics)
        if value is None or not math.isfinite(value):
            return
        # Optuna's tools show the curve, by whole steps; with several objectives it takes none.
        if len(objectives) == 1 and epochs == int(epochs):
            self.optuna.report(value, int(epochs))

    def saved(self, checkpoint: tuple[str, float] | None) -> None:
        """Write its newest checkpoint in the record, and the epochs that it holds, if it is new."""
        if checkpoint is not None and Path(checkpoint[0]) != self.checkpoint:
            self.checkpoint, self.checkpoint_epochs = Path(checkpoint[0]), checkpoint[1]
            self.optuna.set_user_attr(attributes.CHECKPOINT, [*reversed(checkpoint)])

    def spare(self) -> None:
        """Let it train on although its scheduler stops it, and write so in the record."""
        if self.spared is None:
            self.spared = self.epochs
            self.optuna.set_user_attr(attributes.SPARED, self.spared)

    def continuation(self) -> Assignment:
        """How it goes on if its worker is lost: from its newest checkpoint."""
        if self.checkpoint is None:
            return self.assignment
        return replace(
            self.assignment, checkpoint=str(self.checkpoint), epochs=self.checkpoint_epochs
        )

    def ended(self, state: TrialState, reason: str) -> None:
        """Write in the record how it ended."""
        joules = attributes.summed(self.energy.values())
        if joules:
            self.optuna.set_user_attr(attributes.ENERGY, joules)
        end = attributes.End(state.value, reason, round(time.monotonic() - self.started, 6))
        self.optuna.set_user_attr(attributes.END, vars(end))

    def shelved(self) -> TrialResult:
        """What is needed of a trial that pauses, to let it go on."""
        return TrialResult(
            number=self.assignment.number,
            state=TrialState.PAUSED,
            params=self.assignment.params,
            history=(self.metrics,),
            checkpoint=self.checkpoint,
            checkpoint_epochs=self.checkpoint_epochs,
            is_default=self.plan.is_default,
            is_audited=self.plan.is_audited,
            spared=self.spared,
            parent=self.plan.parent,
        )


Listener = Callable[[RunningTrial, TrialState], None]
