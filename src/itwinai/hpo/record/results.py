"""What a study's record tells of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from itwinai.hpo.objectives import Objective, losses_of, pareto_front
from itwinai.hpo.record.attempts import Attempt
from itwinai.hpo.record.attributes import Setup, Start
from itwinai.hpo.record.cost import Cost, room_of
from itwinai.hpo.record.nodes import NodeVerdict
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import TrialResult, TrialState
from itwinai.reporting import rounded

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


@dataclass(frozen=True, repr=False)
class StudyResult:
    """A study as its record tells it.

    Attributes:
        name: The study's name.
        objectives: The metrics it optimises; the first is the primary one.
        epochs: Epochs of a full training.
        trials: All trials that have started, by number.
        record: The record's file.
        cost: What was spent.
        recommended: Number of the trial that the search algorithm recommends, if it has an opinion
            of all that are complete; None once another one has been completed.
        total: Trials that it runs in all, copies of a population's members aside.
        threads: Threads of each of a trial's processes, in the last run; None if none has begun.
        space: What was searched, without its constraints.
        constraints: These, as they were written.
        attempts: When each trial was in a slot, the earliest first.
        setup: Who decided in the last run and what its trials got; None in older records.
        held_before: What trials of earlier runs held, by resource, where that was something else:
            each until a time in seconds since 1970, the earliest first.
        seconds_early: Seconds by which the last run ended before its time was over, because no
            trial could have come anywhere in them; None if it did not.
        starts: How each run was started, the first one first; empty in older records.
        nodes: What was found out about nodes, the first one first.
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
    space: SearchSpace = field(default_factory=lambda: SearchSpace({}))
    constraints: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    setup: Setup | None = None
    held_before: tuple[tuple[float, Mapping[str, float]], ...] = ()
    seconds_early: float | None = None
    starts: tuple[Start, ...] = ()
    nodes: tuple[NodeVerdict, ...] = ()

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.objectives[0].metric

    @property
    def mode(self) -> str:
        """``min`` or ``max``, of the primary metric."""
        return self.objectives[0].mode

    @cached_property
    def best(self) -> TrialResult | None:
        """The trial to use, or None before any report.

        Completed trials come first, those included that ended themselves: a good early epoch of a
        trial that was stopped promises nothing about its last one. Among those it is the one that
        the search algorithm recommends, or otherwise the one with the best primary metric at its
        last epoch; between equals the other objectives decide, so that it is on the front.
        """
        known = [(trial, trial.metric(self.metric)) for trial in self.trials]
        scored = [
            trial
            for trial, value in known
            if trial.state in _RANKED and value is not None and isfinite(value)
        ]
        return max(scored, key=self._rank, default=None)

    @property
    def why_best(self) -> str:
        """Why :attr:`best` is called so, in a few words; empty if there is none."""
        best = self.best
        if best is None:
            return ""
        if best.state is not TrialState.COMPLETED:
            return "it came furthest; no trial trained to the end"
        values = {t.number: t.metric(self.metric) for t in self.trials if t.state is best.state}
        known = {number: value for number, value in values.items() if value is not None}
        if len(known) == 1:
            return "the only one completed"
        word, choose = ("lowest", min) if self.mode == "min" else ("highest", max)
        top = choose(known.values())
        ties = [number for number, value in known.items() if value == top]
        if best.number not in ties:
            return f"by the model's mean; the {word} is {rounded(top)}, of trial {ties[0]}"
        if len(ties) == 1:
            return f"the {word} of {len(known)} completed"
        chosen = "the first" if len(self.objectives) == 1 else "one"
        if best.number == self.recommended:
            chosen = "by the model's mean, one"
        return f"{chosen} of {len(ties)} with the {word} of {len(known)} completed"

    def __repr__(self) -> str:
        """Name, best trial and record, in three lines."""
        best, states = self.best, Counter(trial.state.value for trial in self.trials)
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        found = "none" if best is None else f"trial {best.number}, {dict(best.metrics)}"
        return (
            f"<study {self.name!r}: {len(self.trials)} of {self.total + self.copies} trials "
            f"({counts})\n"
            f"  best: {found}\n  record: {self.record}>"
        )

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

    @property
    def copies(self) -> int:
        """Trials that have begun as copies of others; :attr:`total` does not count them."""
        return sum(trial.parent is not None for trial in self.trials)

    @property
    def slot_seconds(self) -> float:
        """Seconds of all slots that there were while any trial ran, idle ones included."""
        return room_of(self.attempts, self.starts)

    def lead(self, trial: TrialResult) -> float | None:
        """By how much a trial's recorded value of the primary metric is better than the default's.

        Returns:
            The difference, negative if it is worse; None unless both have trained to their end,
            because an early value compares with no late one.
        """
        default = self.default
        ended = default is not None and default.state is trial.state is TrialState.COMPLETED
        if default is None or not ended:
            return None
        new, old = trial.metric(self.metric), default.metric(self.metric)
        if new is None or old is None:
            return None
        return new - old if self.mode == "max" else old - new

    def curve(self, trial: TrialResult) -> dict[int, float]:
        """A trial's objective after each whole epoch, as Optuna takes it: none of several ones."""
        if len(self.objectives) > 1:
            return {}
        reports = zip(trial.at, trial.history, strict=True)
        values = (
            (int(at), self.objectives[0].value(metrics)) for at, metrics in reports if at == int(at)
        )
        return {epoch: v for epoch, v in values if v is not None and isfinite(v)}

    def dataframe(self) -> pd.DataFrame:
        """One row per trial: number, state, epochs, hyper-parameters, last metrics, reason.

        Where energy was measured, that too.
        """
        import pandas as pd

        rows = [
            {"number": t.number, "state": t.state.value, "epochs": t.epochs}
            | {f"params.{name}": value for name, value in t.params.items()}
            | {f"metrics.{name}": value for name, value in t.metrics.items()}
            | {f"joules.{source}": joules for source, joules in t.energy.items()}
            | {"checkpoint": t.checkpoint, "reason": t.reason}
            for t in self.trials
        ]
        table = pd.DataFrame(rows)
        for name in table.columns:
            values = [row.get(name) for row in rows]
            # Of numbers that not all trials have, or are None, NumPy would make real ones.
            if {type(value) for value in values} == {int, type(None)}:
                table[name] = pd.array(values, dtype="Int64")
        return table

    def _rank(self, trial: TrialResult) -> tuple[bool, bool, float, tuple[float, ...], int]:
        losses = [objective.loss(trial.metrics) for objective in self.objectives]
        gains = tuple(-inf if loss is None else -loss for loss in losses)
        complete = trial.state is TrialState.COMPLETED
        recommended = complete and trial.number == self.recommended
        return complete, recommended, 0 if complete else trial.epochs, gains, -trial.number
