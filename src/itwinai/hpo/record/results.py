"""What a study's record tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from itwinai.hpo.objectives import Objective, losses_of, pareto_front
from itwinai.hpo.record.cost import Cost
from itwinai.hpo.trial import TrialResult, TrialState

if TYPE_CHECKING:
    import pandas as pd

#: States of which the best trial may be.
_RANKED = (
    TrialState.COMPLETED,
    TrialState.STOPPED,
    TrialState.PAUSED,
    TrialState.INTERRUPTED,
    TrialState.RUNNING,
)


@dataclass(frozen=True)
class StudyResult:
    """A study as its record tells it.

    Attributes:
        name: The study's name.
        objectives: The metrics it optimises; the first is the primary one.
        epochs: Epochs of a full training.
        trials: All trials that have started, by number.
        record: The record's file.
        cost: What was spent.
        recommended: Number of the trial that the search algorithm recommends, if it has an opinion.
        total: Trials that it runs in all, copies of a population's members aside.
        threads: Threads of each of a trial's processes, in the last run; None if none has begun.
    """

    name: str
    objectives: tuple[Objective, ...]
    epochs: int
    trials: tuple[TrialResult, ...]
    record: Path
    cost: Cost
    recommended: int | None = None
    total: int = 0
    threads: int | None = None

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.objectives[0].metric

    @property
    def mode(self) -> str:
        """``min`` or ``max``, of the primary metric."""
        return self.objectives[0].mode

    @property
    def best(self) -> TrialResult | None:
        """The trial to use, or None before any report.

        Trials that were trained to the end come first: a good early epoch of a trial that was
        stopped promises nothing about its last one. Among those it is the one that the search
        algorithm recommends, or otherwise the one with the best primary metric at its last epoch.
        """
        scored = [
            t for t in self.trials if t.state in _RANKED and t.metric(self.metric) is not None
        ]
        return max(scored, key=self._rank, default=None)

    @cached_property
    def front(self) -> tuple[TrialResult, ...]:
        """The completed trials that no other is better than in all objectives (Pareto front).

        By the primary metric, the best first.
        """
        complete = [t for t in self.trials if t.state is TrialState.COMPLETED]
        known = [(losses_of(self.objectives, t.metrics), t) for t in complete]
        scored = [(losses, t) for losses, t in known if losses is not None]
        front = [scored[i] for i in pareto_front([losses for losses, _ in scored])]
        return tuple(trial for _, trial in sorted(front, key=lambda pair: pair[0]))

    @property
    def default(self) -> TrialResult | None:
        """The trial that ran the default configuration, or None."""
        return next((trial for trial in self.trials if trial.is_default), None)

    def dataframe(self) -> pd.DataFrame:
        """One row per trial: number, state, epochs, hyper-parameters, last metrics, reason."""
        import pandas as pd

        rows = [
            {"number": t.number, "state": t.state.value, "epochs": t.epochs}
            | {f"params.{name}": value for name, value in t.params.items()}
            | {f"metrics.{name}": value for name, value in t.metrics.items()}
            | {"checkpoint": t.checkpoint, "reason": t.reason}
            for t in self.trials
        ]
        return pd.DataFrame(rows)

    def _rank(self, trial: TrialResult) -> tuple[bool, bool, int, float, int]:
        loss = self.objectives[0].loss(trial.metrics)
        assert loss is not None
        complete = trial.state is TrialState.COMPLETED
        recommended = complete and trial.number == self.recommended
        return complete, recommended, 0 if complete else trial.epochs, -loss, -trial.number
