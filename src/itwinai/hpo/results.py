"""Results of a study, read from its record alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from itwinai.hpo import attributes
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import FILE_NAME
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
    """

    epochs: int
    seconds: float
    full_epochs: int


@dataclass(frozen=True)
class StudyResult:
    """A study as its record tells it.

    Attributes:
        name: The study's name.
        metric: The metric it optimises.
        mode: ``min`` or ``max``.
        epochs: Epochs of a full training.
        trials: All trials that have started, by number.
        record: The record's file.
        cost: What was spent.
    """

    name: str
    metric: str
    mode: str
    epochs: int
    trials: tuple[TrialResult, ...]
    record: Path
    cost: Cost

    @property
    def best(self) -> TrialResult | None:
        """The trial with the best metric at its last epoch, or None before any report.

        Trials that were trained to the end come first: a good early epoch of a trial that was
        stopped promises nothing about its last one.
        """
        scored = [
            t for t in self.trials if t.state in _RANKED and t.metric(self.metric) is not None
        ]
        return max(scored, key=self._rank, default=None)

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

    def _rank(self, trial: TrialResult) -> tuple[bool, int, float, int]:
        value = trial.metric(self.metric)
        assert value is not None
        score = value if self.mode == "max" else -value
        complete = trial.state is TrialState.COMPLETED
        return complete, 0 if complete else trial.epochs, score, -trial.number


_RANKED = (TrialState.COMPLETED, TrialState.STOPPED, TrialState.INTERRUPTED, TrialState.RUNNING)


def load_study(path: str | Path) -> StudyResult:
    """Read a study's result from its folder, also while the study runs.

    Args:
        path: The study's folder, ``<storage_path>/<name>``, or its ``record.log``.

    Raises:
        StudyError: If there is no record, or it is not one of ours.
    """
    record = Path(path).absolute()
    record = record if record.name == FILE_NAME else record / FILE_NAME
    if not record.is_file():
        raise StudyError(
            f"{record}: no such record. Give the study's folder, <storage_path>/<name>."
        )
    storage = JournalStorage(JournalFileBackend(str(record)))
    names = optuna.get_all_study_names(storage)
    if not names:
        raise StudyError(f"{record}: the record holds no study yet")
    return read_result(optuna.load_study(study_name=names[0], storage=storage), record)


def read_result(study: optuna.Study, record: Path) -> StudyResult:
    """Put a result together from an Optuna study that itwinai wrote.

    Raises:
        StudyError: If the study was written by another program.
    """
    facts = study.user_attrs.get(attributes.FACTS)
    if facts is None:
        raise StudyError(f"{record}: this Optuna study was not written by itwinai")
    space = SearchSpace.parse(facts["space"])
    attempts: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        number = attributes.number_of(trial)
        if number is not None and trial.state != OptunaState.WAITING:
            attempts.setdefault(number, []).append(trial)
    trials = tuple(_merge(number, attempts[number], space) for number in sorted(attempts))
    return StudyResult(
        name=study.study_name,
        metric=facts["metric"],
        mode=facts["mode"],
        epochs=facts["epochs"],
        trials=trials,
        record=record,
        cost=_cost(attempts.values(), trials, facts["epochs"]),
    )


def _merge(number: int, attempts: list[FrozenTrial], space: SearchSpace) -> TrialResult:
    """Make one trial of its attempts: the last one's end, everybody's epochs."""
    last = attempts[-1]
    history: dict[int, Any] = {}
    for attempt in attempts:
        begin = attributes.Plan.read(attempt.user_attrs).epochs
        history = {epoch: m for epoch, m in history.items() if epoch <= begin}
        history |= attributes.history_of(attempt.user_attrs)
    epochs, checkpoint = last.user_attrs.get(
        attributes.CHECKPOINT, last.user_attrs.get(attributes.CONTINUES, (0, None))
    )
    return TrialResult(
        number=number,
        state=_state(last),
        params=space.decode(last.params) | last.user_attrs.get(attributes.GIVEN, {}),
        history=tuple(history[epoch] for epoch in sorted(history)),
        checkpoint=None if checkpoint is None else _existing(Path(checkpoint)),
        checkpoint_epochs=epochs,
        reason=last.user_attrs.get(attributes.REASON, ""),
        is_default=attributes.DEFAULT in last.user_attrs,
    )


def _state(trial: FrozenTrial) -> TrialState:
    """A trial that was closed without a state of ours lost its driver."""
    if trial.state == OptunaState.RUNNING:
        return TrialState.RUNNING
    return TrialState(trial.user_attrs.get(attributes.STATE, TrialState.INTERRUPTED.value))


def _existing(checkpoint: Path) -> Path | None:
    return checkpoint if checkpoint.exists() else None


def _cost(
    attempts: Iterable[list[FrozenTrial]], trials: tuple[TrialResult, ...], epochs: int
) -> Cost:
    every = [attempt for of_trial in attempts for attempt in of_trial]
    return Cost(
        epochs=sum(len(attributes.history_of(attempt.user_attrs)) for attempt in every),
        seconds=sum(attempt.user_attrs.get(attributes.SECONDS, 0.0) for attempt in every),
        full_epochs=sum(
            epochs if trial.state is TrialState.STOPPED else trial.epochs for trial in trials
        ),
    )
