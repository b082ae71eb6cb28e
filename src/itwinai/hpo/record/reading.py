"""Reading a study's result from its record alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from itwinai.environ import paused_collection
from itwinai.hpo.errors import StudyError
from itwinai.hpo.objectives import Objective
from itwinai.hpo.record import attributes
from itwinai.hpo.record.attempts import Attempt, attempts_of
from itwinai.hpo.record.cost import cost_of
from itwinai.hpo.record.journal import FILE_NAME, ReadRecord
from itwinai.hpo.record.mending import legible
from itwinai.hpo.record.nodes import verdicts_in
from itwinai.hpo.record.results import StudyResult
from itwinai.hpo.space import SearchSpace, from_json
from itwinai.hpo.trial import TrialResult, TrialState

#: Ends whose metrics are taken for those of the trial's values.
_RESULTS = (TrialState.COMPLETED, TrialState.STOPPED, TrialState.PAUSED)


def load_study(path: str | Path) -> StudyResult:
    """Read a study's result from its folder, also while the study runs.

    Args:
        path: The study's folder, ``<storage_path>/<name>``, or its ``record.log``.

    Raises:
        StudyError: If there is no record, or it is not one of ours.
    """
    record = Path(path).absolute()
    record = record if record.name == FILE_NAME else record / FILE_NAME
    with paused_collection(), legible(record):
        return read_result(load_optuna_study(record), record)


def load_optuna_study(record: Path) -> optuna.Study:
    """Open a record as a plain Optuna study, to be read only.

    Raises:
        StudyError: If there is no record, or no study in it.
    """
    try:
        exists = record.is_file()
    except (OSError, ValueError):  # a name that no file can have
        exists = False
    if not exists:
        raise StudyError(
            f"{record}: no such record. Give the study's folder, <storage_path>/<name>."
        )
    with legible(record):
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
    space = SearchSpace.parse(from_json(facts["space"]))
    seeds = attributes.Seeds(*attrs.get(attributes.SEEDS, (0, True)))
    trials: dict[int, TrialResult] = {}
    attempts: list[Attempt] = []
    for number, several in sorted(attempts_of(study).items()):
        history, own = _told(number, several, trials)
        trials[number] = _merge(number, several, history, space, seeds, record.parent)
        attempts += own
    return StudyResult(
        name=study.study_name,
        objectives=tuple(Objective(**objective) for objective in facts["objectives"]),
        epochs=facts["epochs"],
        trials=tuple(trials.values()),
        record=record,
        cost=cost_of(attempts, [*trials.values()], facts["epochs"]),
        recommended=attrs.get(attributes.RECOMMENDED),
        total=attrs.get(attributes.TOTAL, 0),
        threads=attrs.get(attributes.THREADS),
        seconds_early=attrs.get(attributes.EARLY),
        space=space,
        constraints=tuple(facts.get("constraints", ())),
        attempts=tuple(sorted(attempts, key=lambda attempt: (attempt.began, attempt.trial))),
        setup=attributes.Setup.read(attrs.get(attributes.SETUP)),
        held_before=tuple((until, held) for until, held in attrs.get(attributes.HELD, ())),
        starts=attributes.starts_in(attrs),
        nodes=verdicts_in(attrs.get(attributes.NODES, ())),
    )


def _told(
    number: int, attempts: Iterable[FrozenTrial], earlier: dict[int, TrialResult]
) -> tuple[dict[float, attributes.Entry], list[Attempt]]:
    """What the attempts at a trial tell: the reports that count, and when each attempt was.

    A trial that began with another one's checkpoint has that one's reports as well.
    """
    history: dict[float, attributes.Entry] = {}
    own: list[Attempt] = []
    for attempt in attempts:
        plan = attributes.Plan.read(attempt.user_attrs)
        reports = attributes.history_of(attempt.user_attrs)
        if not own and plan.parent in earlier:
            history = _reports(earlier[plan.parent], plan.epochs)
        history = _continued(history, plan, reports)
        own.append(Attempt.of(number, attempt, history))
        history |= reports
    return history, own


def _merge(
    number: int,
    attempts: Sequence[FrozenTrial],
    history: Mapping[float, attributes.Entry],
    space: SearchSpace,
    seeds: attributes.Seeds,
    folder: Path,
) -> TrialResult:
    """Make one trial of its attempts: the last one's end, everybody's reports."""
    last = attempts[-1]
    plan = attributes.Plan.read(last.user_attrs)
    entries = [history[epochs] for epochs in sorted(history)]
    steps = tuple(entry.steps for entry in entries)
    epochs, checkpoint = last.user_attrs.get(
        attributes.CHECKPOINT, last.user_attrs.get(attributes.CONTINUES, (0, None))
    )
    begins = [attributes.Plan.read(attempt.user_attrs).epochs for attempt in attempts]
    params = space.existing(space.decode(last.params) | space.restore(plan.given))
    lost = [name for name in space if name not in params and space.exists(name, params)]
    state, reason = _end_of(last, lost)
    return TrialResult(
        number=number,
        state=state,
        params=params,
        history=tuple(entry.metrics for entry in entries),
        seconds=tuple(entry.seconds for entry in entries),
        at=tuple(sorted(history)),
        steps=steps if any(steps) else (),
        checkpoint=None if checkpoint is None else _existing(Path(checkpoint), folder),
        checkpoint_epochs=epochs,
        reason=reason,
        is_default=plan.is_default,
        is_audited=plan.is_audited,
        spared=plan.spared,
        parent=plan.parent,
        # One that has begun again without a checkpoint has none of them any more.
        inherited=0.0 if plan.parent is None else min(begins),
        continued=plan.checkpoint is not None,
        seed=seeds.of_trial(number),
        energy=attributes.summed(a.user_attrs.get(attributes.ENERGY, {}) for a in attempts),
    )


def _reports(trial: TrialResult, until: float) -> dict[float, attributes.Entry]:
    """The reports of a trial's first epochs, by the epochs trained."""
    steps = trial.steps or (None,) * len(trial.history)
    entries = zip(trial.at, trial.history, trial.seconds, steps, strict=True)
    return {at: attributes.Entry(dict(m), s, n) for at, m, s, n in entries if at <= until}


def _continued(
    history: Mapping[float, attributes.Entry],
    plan: attributes.Plan,
    reports: Mapping[float, attributes.Entry],
) -> dict[float, attributes.Entry]:
    """With which earlier reports an attempt that makes these goes on; without a checkpoint none.

    In the middle of an epoch it may have gone on with a newer checkpoint than the record knew.
    """
    if plan.checkpoint is None:
        return {}
    until = min(math.floor(plan.epochs) + 1, *reports) if reports else plan.epochs
    return {at: entry for at, entry in history.items() if at <= plan.epochs or at < until}


def _end_of(trial: FrozenTrial, lost: list[str]) -> tuple[TrialState, str]:
    """State and reason of an attempt; what nobody knows the values of has no result."""
    end = attributes.End.read(trial.user_attrs)
    if trial.state == OptunaState.RUNNING:
        return TrialState.RUNNING, end.reason
    state = TrialState(end.state)
    if lost and state in _RESULTS:
        return TrialState.FAILED, f"the record is damaged: it has lost {', '.join(lost)}"
    return state, end.reason


def _existing(checkpoint: Path, folder: Path) -> Path | None:
    """Where a checkpoint is now: in the study's folder, wherever that has been moved or copied."""
    own = folder.joinpath(*checkpoint.parts[-3:])  # trials/NUMBER/NAME
    return next((path for path in (own, checkpoint) if path.exists()), None)
