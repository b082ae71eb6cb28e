"""A study for other programs: plain data for JSON, tables, and a database of Optuna's."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import optuna

from itwinai.errors import ConfigurationError, MissingPackageError, did_you_mean
from itwinai.hpo.record.attempts import attempts_of
from itwinai.hpo.record.listing import state_of
from itwinai.hpo.record.placing import Places
from itwinai.hpo.record.quiet import quiet_optuna
from itwinai.hpo.record.reading import load_optuna_study, load_study
from itwinai.hpo.record.results import StudyResult
from itwinai.hpo.trial import POOR, TrialResult
from itwinai.io.files import write_text

if TYPE_CHECKING:
    import pandas as pd
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

Format = Literal["csv", "parquet", "optuna"]

#: With these a spreadsheet takes a text for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export_study(study: StudyResult | str | Path, format: Format, file: str | Path) -> Path:  # noqa: A002
    """Write a study to a file for other programs; a file that is there already is replaced.

    Args:
        study: A study, or its folder.
        format: ``csv`` or ``parquet``: one row per trial. ``optuna``: an SQLite database, which
            ``optuna.load_study(study_name=..., storage="sqlite:///FILE")`` opens, with one Optuna
            trial per trial.
        file: Where to.

    Returns:
        The file.

    Raises:
        ConfigurationError: For another format.
        StudyError: As of :func:`itwinai.hpo.load_study`.
    """
    writers = {"csv": _write_csv, "parquet": _write_parquet, "optuna": _write_optuna}
    if format not in writers:
        hint = did_you_mean(format, writers) or f"; known formats: {', '.join(writers)}"
        raise ConfigurationError(f"format={format!r}: unknown{hint}")
    result = study if isinstance(study, StudyResult) else load_study(study)
    writers[format](result, Path(file))
    return Path(file)


def csv_text(result: StudyResult) -> str:
    """Return a study's trials as CSV, in which no text is a spreadsheet's formula."""
    table = _flat_table(result)
    for name in table.columns:
        table[name] = [_safe(value) for value in table[name]]
    table.columns = [_safe(name) for name in table.columns]
    return str(table.to_csv(index=False))


def plain_study(result: StudyResult, trials: bool = True) -> dict[str, Any]:
    """Return a study as JSON can write it; numbers that are not finite become None.

    Args:
        result: The study.
        trials: Whether all trials are in it, or the best ones alone.
    """
    several = len(result.objectives) > 1
    content: dict[str, Any] = {
        "study": result.name,
        "directory": str(result.record.parent),
        "state": state_of(result),
        "objectives": [vars(objective) for objective in result.objectives],
        "epochs": result.epochs,
        "cost": vars(result.cost),
        "nodes": [vars(verdict) for verdict in result.nodes],
        "best": None if result.best is None else plain_trial(result.best),
        "front": [plain_trial(trial) for trial in result.front] if several else None,
        "trials": [plain_trial(t) for t in result.trials] if trials else len(result.trials),
    }
    return content


def plain_trial(trial: TrialResult) -> dict[str, Any]:
    """Return a trial as JSON can write it, with the metrics of its last epoch."""
    return {
        "number": trial.number,
        "state": trial.state.value,
        "epochs": trial.epochs,
        "params": plain(trial.params),
        "metrics": plain(trial.metrics),
        "seconds": trial.seconds[-1] if trial.seconds else 0.0,
        "seed": trial.seed,
        "joules": dict(trial.energy),
        "is_default": trial.is_default,
        "parent": trial.parent,
        "checkpoint": None if trial.checkpoint is None else str(trial.checkpoint),
        "checkpoint_epochs": None if trial.checkpoint is None else trial.checkpoint_epochs,
        "reason": trial.reason,
    }


def plain(value: Any) -> Any:
    """Return a value as JSON can write it: JSON has no NaN and no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _write_csv(result: StudyResult, file: Path) -> None:
    write_text(file, csv_text(result))


def _write_parquet(result: StudyResult, file: Path) -> None:
    table = _flat_table(result)
    for name in table.columns:
        kinds = {type(value) for value in table[name] if value is not None}
        if table[name].dtype == object and len(kinds) > 1:  # a column has one type
            table[name] = [None if value is None else _text(value) for value in table[name]]
    scratch = _scratch_beside(file)
    try:
        table.to_parquet(scratch, index=False)
    except ImportError as error:
        scratch.unlink(missing_ok=True)
        raise MissingPackageError(
            "parquet files need another package: pip install pyarrow"
        ) from error
    os.replace(scratch, file)


def _write_optuna(result: StudyResult, file: Path) -> None:
    from optuna.storages import RDBStorage

    source = load_optuna_study(result.record)
    attempts = attempts_of(source)
    scratch = _scratch_beside(file)
    storage = RDBStorage(f"sqlite:///{scratch}")
    _hurry(storage)
    with quiet_optuna():
        study = optuna.create_study(
            storage=storage, study_name=source.study_name, directions=source.directions
        )
        study.set_metric_names([objective.metric for objective in result.objectives])
    domains = Places(result.space).distributions
    study.add_trials(
        _for_optuna(trial, attempts[trial.number][-1], result, domains) for trial in result.trials
    )
    storage.engine.dispose()
    os.replace(scratch, file)


def _hurry(storage: optuna.storages.RDBStorage) -> None:
    """Let SQLite not wait for the disk at each trial: the file gets its name at the end."""
    from sqlalchemy import event

    def _set(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY")

    event.listen(storage.engine, "connect", _set)
    storage.engine.dispose()


def _for_optuna(
    trial: TrialResult,
    last: FrozenTrial,
    result: StudyResult,
    domains: Mapping[str, BaseDistribution],
) -> FrozenTrial:
    """Make one Optuna trial of all attempts; its user attributes are ours, in words.

    Its values are those that it trained with, which may be rounded proposals; Optuna takes none
    outside the space, as a default may have, so these are attributes. Its ranges are those of the
    space as it is now: Optuna leaves out what not all trials have alike.
    """
    params = result.space.encode(trial.params)
    outside = {f"params.{n}": v for n, v in plain(trial.params).items() if n not in params}
    poor = trial.state in POOR  # for a sampler they are completed, with the worst of values
    facts = {"state": trial.state.value, "reason": trial.reason, "seed": trial.seed}
    metrics = {f"metrics.{name}": value for name, value in plain(trial.metrics).items()}
    return optuna.trial.FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=optuna.trial.TrialState.FAIL if poor else last.state,
        value=None,
        values=None if poor else last.values,
        datetime_start=last.datetime_start,
        datetime_complete=last.datetime_complete,
        params=params,
        distributions={name: domains[name] for name in params},
        user_attrs={**facts, **metrics, **outside},
        system_attrs={},
        intermediate_values=result.curve(trial),
    )


def _flat_table(result: StudyResult) -> pd.DataFrame:
    """The table of trials with cells that any file can hold: numbers, truth values and text."""
    table = result.dataframe()
    for name in table.columns:
        if table[name].dtype == object:
            table[name] = [_cell(value) for value in table[name]]
    return table


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):  # what a trial does not have
        return None
    return value if value is None or isinstance(value, bool | int | float) else _text(value)


def _text(value: Any) -> str:
    return json.dumps(plain(value)) if isinstance(value, list | tuple | dict) else str(value)


def _safe(value: Any) -> Any:
    is_formula = isinstance(value, str) and value.startswith(_FORMULA)
    return f"'{value}" if is_formula else value


def _scratch_beside(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    os.close(descriptor)
    return Path(name)
