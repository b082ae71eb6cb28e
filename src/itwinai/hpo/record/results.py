"""Results of a study, read from its record alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from itwinai.environ import paused_collection
from itwinai.hpo.errors import StudyError
from itwinai.hpo.objectives import Objective, losses_of, pareto_front
from itwinai.hpo.record import attributes
from itwinai.hpo.record.attempts import attempts_of
from itwinai.hpo.record.journal import FILE_NAME, ReadRecord
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import TrialResult, TrialState

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Cost:
    """What a study has spent.

    Attributes:
        epochs: Epochs run, over all trials.
        seconds: Seconds of training, added up over all trials (two at once count twice).
        full_epochs: Epochs that the same trials would have run without early stopping.
        elapsed: Seconds in which at least one trial ran.
    """

    epochs: int
    seconds: float
    full_epochs: int
    elapsed: float


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


_RANKED = (
    TrialState.COMPLETED,
    TrialState.STOPPED,
    TrialState.PAUSED,
    TrialState.INTERRUPTED,
    TrialState.RUNNING,
)


def load_study(path: str | Path) -> StudyResult:
    """Read a study's result from its folder, also while the study runs.

    Args:
        path: The study's folder, ``<storage_path>/<name>``, or its ``record.log``.

    Raises:
        StudyError: If there is no record, or it is not one of ours.
    """
    record = Path(path).absolute()
    record = record if record.name == FILE_NAME else record / FILE_NAME
    with paused_collection():
        return read_result(load_optuna_study(record), record)


def load_optuna_study(record: Path) -> optuna.Study:
    """Open a record as a plain Optuna study, to be read only.

    Raises:
        StudyError: If there is no record, or no study in it.
    """
    if not record.is_file():
        raise StudyError(
            f"{record}: no such record. Give the study's folder, <storage_path>/<name>."
        )
    storage = JournalStorage(ReadRecord(record))
    names = optuna.get_all_study_names(storage)
    if not names:
        raise StudyError(f"{record}: the record holds no study yet")
    return optuna.load_study(study_name=names[0], storage=storage)


def read_result(study: optuna.Study, record: Path) -> StudyResult:
    """Put a result together from an Optuna study that itwinai wrote.

    Raises:
        StudyError: If the study was written by another program, or another version of this one.
    """
    attrs = study.user_attrs
    facts = attrs.get(attributes.FACTS)
    if facts is None:
        raise StudyError(f"{record}: this Optuna study was not written by itwinai")
    if facts.get("format") != attributes.FORMAT:
        raise StudyError(
            f"{record}: written in format {facts.get('format')}, but this version of itwinai reads "
            f"format {attributes.FORMAT}. Use the version that wrote it."
        )
    space = SearchSpace.parse(facts["space"])
    seeds = attributes.Seeds(*attrs.get(attributes.SEEDS, (0, True)))
    attempts = attempts_of(study)
    trials: dict[int, TrialResult] = {}
    for number in sorted(attempts):
        trials[number] = _merge(number, attempts[number], space, trials, seeds, record.parent)
    return StudyResult(
        name=study.study_name,
        objectives=tuple(Objective(**objective) for objective in facts["objectives"]),
        epochs=facts["epochs"],
        trials=tuple(trials.values()),
        record=record,
        cost=_cost(attempts.values(), trials.values(), facts["epochs"]),
        recommended=attrs.get(attributes.RECOMMENDED),
        total=attrs.get(attributes.TOTAL, 0),
        threads=attrs.get(attributes.THREADS),
    )


def _merge(
    number: int,
    attempts: list[FrozenTrial],
    space: SearchSpace,
    earlier: dict[int, TrialResult],
    seeds: attributes.Seeds,
    folder: Path,
) -> TrialResult:
    """Make one trial of its attempts: the last one's end, everybody's epochs.

    A trial that began with another one's checkpoint has that one's epochs as well.
    """
    last = attempts[-1]
    plan = attributes.Plan.read(last.user_attrs)
    history: dict[int, Any] = {}
    if plan.parent in earlier:
        model = earlier[plan.parent]
        history = dict(enumerate(zip(model.history, model.seconds, strict=True), start=1))
    for attempt in attempts:
        begin = attributes.Plan.read(attempt.user_attrs).epochs
        history = {epoch: entry for epoch, entry in history.items() if epoch <= begin}
        history |= attributes.history_of(attempt.user_attrs)
    epochs, checkpoint = last.user_attrs.get(
        attributes.CHECKPOINT, last.user_attrs.get(attributes.CONTINUES, (0, None))
    )
    return TrialResult(
        number=number,
        state=_state(last),
        params=space.decode(last.params) | last.user_attrs.get(attributes.GIVEN, {}),
        history=tuple(history[epoch][0] for epoch in sorted(history)),
        seconds=tuple(history[epoch][1] for epoch in sorted(history)),
        checkpoint=None if checkpoint is None else _existing(Path(checkpoint), folder),
        checkpoint_epochs=epochs,
        reason=attributes.End.read(last.user_attrs).reason,
        is_default=plan.is_default,
        parent=plan.parent,
        continued=plan.checkpoint is not None,
        seed=seeds.of_trial(number),
    )


def _state(trial: FrozenTrial) -> TrialState:
    if trial.state == OptunaState.RUNNING:
        return TrialState.RUNNING
    return TrialState(attributes.End.read(trial.user_attrs).state)


def _existing(checkpoint: Path, folder: Path) -> Path | None:
    """Where a checkpoint is now: in the study's folder, wherever that has been moved or copied."""
    own = folder.joinpath(*checkpoint.parts[-3:])  # trials/NUMBER/NAME
    return next((path for path in (own, checkpoint) if path.exists()), None)


def _cost(
    attempts: Iterable[list[FrozenTrial]], trials: Iterable[TrialResult], epochs: int
) -> Cost:
    every = [attempt for of_trial in attempts for attempt in of_trial]
    return Cost(
        epochs=sum(attributes.epochs_in(attempt.user_attrs) for attempt in every),
        seconds=sum(attributes.End.read(attempt.user_attrs).seconds or 0.0 for attempt in every),
        full_epochs=sum(epochs if trial.state in _CUT_SHORT else trial.epochs for trial in trials),
        elapsed=_elapsed(every),
    )


_CUT_SHORT = (TrialState.STOPPED, TrialState.PAUSED)


def _elapsed(attempts: Iterable[FrozenTrial]) -> float:
    """Length of the union of the attempts' times; one without an end counts to its last epoch."""
    total, until = 0.0, 0.0
    for begin, end in sorted(map(_time_of, attempts)):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def _time_of(attempt: FrozenTrial) -> tuple[float, float]:
    begin = attempt.datetime_start.timestamp() if attempt.datetime_start else 0.0
    seconds = attributes.End.read(attempt.user_attrs).seconds
    if seconds is None:
        history = attributes.history_of(attempt.user_attrs)
        times = [seconds for _, seconds in history.values()]
        # An attempt that goes on with a checkpoint counts on from its seconds.
        seconds = max(times) - (min(times) if len(times) > 1 else 0.0) if times else 0.0
    return begin, begin + seconds
