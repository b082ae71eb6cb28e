"""Repeating a trial in this process: the same bits again, or the same values on other seeds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.hpo.engine import Place, Program, visible_gpus
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import StudyResult, load_study
from itwinai.hpo.retraining.subject import Studied, Subject
from itwinai.hpo.trial import FAILURES, Assignment, TrialResult, epochs_as_kept
from itwinai.io.ownership import why_leads_out
from itwinai.reporting import END_OF_EPOCH, Progress, TellingReporter, TrialStopped

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        seed: Its random seed.
        history: Metrics of each report.
        at: Epochs trained at each report.
        checkpoint: Folder of its last checkpoint, or None if it was not kept.
    """

    seed: int | None
    history: tuple[Metrics, ...]
    at: tuple[float, ...]
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Rerun:
    """A trial that was repeated.

    Attributes:
        trial: The trial, as the study's record tells it.
        runs: The trainings.
        is_repetition: Whether epochs and seed were the trial's own, so that the record must agree.
        threads: Threads that it used.
    """

    trial: TrialResult
    runs: tuple[Run, ...]
    is_repetition: bool
    threads: int

    @property
    def differing(self) -> tuple[float, ...]:
        """Of a repetition: the epochs after which the metrics are not the recorded ones."""
        if not self.is_repetition:
            return ()
        recorded, repeated = (_bits(one.at, one.history) for one in (self.trial, self.runs[0]))
        places = sorted({*recorded, *repeated})
        return tuple(at for at in places if recorded.get(at) != repeated.get(at))

    @property
    def metrics(self) -> dict[str, tuple[float, float | None]]:
        """Mean and standard deviation of each metric at the last epoch, over the runs.

        The deviation is the sample's (n - 1), and None of a single run.
        """
        last = [run.history[-1] for run in self.runs if run.history]
        names = dict.fromkeys(name for metrics in last for name in metrics)
        return {name: _mean_and_deviation([m[name] for m in last if name in m]) for name in names}


def rerun(
    trainer: Studied,
    data: Sequence[Any],
    study: StudyResult | str | Path,
    trial: int | None = None,
    epochs: int | None = None,
    seeds: int | None = None,
    threads: int | None = None,
) -> Rerun:
    """Train once more with a trial's values, in this process and without Ray.

    Without ``epochs`` and ``seeds`` this repeats the trial, with its seed and to the epoch where it
    ended; on the same machine each epoch's metrics are then the recorded ones, to the last bit.
    Nothing of the study is changed, and no logger is used.

    Args:
        trainer: The trainer that ran the study, or the function as a step of a pipeline.
        data: What its ``execute`` gets: of a trainer training, validation and test set.
        study: The study, or its folder.
        trial: Number of the trial; None: the best one.
        epochs: Epochs to train; None: as many as the trial.
        seeds: So many trainings, each from a seed of its own, which are the same each time; None:
            one, from the trial's seed.
        threads: Threads; None: as many as the study gave to each trial.

    Returns:
        The repetition. With ``epochs`` or ``seeds`` its checkpoints are in the study's folder
        ``reruns``.

    Raises:
        ConfigurationError: For ``epochs``, ``seeds`` or ``threads`` below 1.
        StudyError: If there is no such trial, or it cannot be repeated exactly.
    """
    _check_counts(epochs=epochs, seeds=seeds, threads=threads)
    result = study if isinstance(study, StudyResult) else load_study(study)
    chosen = _trial(result, trial)
    subject = trainer.subject(*data)
    own = chosen.seed if subject.seed is None else subject.seed
    is_repetition = epochs is None and seeds is None
    if is_repetition:
        _check_repeatable(subject, chosen, own)
    else:
        _tell_processes(subject.study.workers_per_trial)
    place = Place(cpus=threads or result.threads or 1, gpus=visible_gpus())
    # A trial that failed shall have the chance to fail again.
    until = None if epochs or chosen.state in FAILURES else len(chosen.history)
    length = epochs or round(chosen.epochs, 3)
    with _folder(result, chosen, keep=not is_repetition) as folder:
        runs = tuple(
            _train(
                subject.program(seed, epochs or subject.epochs),
                _assignment(chosen, seed, folder / f"epochs_{length}-seed_{seed}"),
                place,
                until,
            )
            for seed in ([own] if seeds is None else _fresh_seeds(own, seeds))
        )
    if is_repetition:  # its checkpoint has gone with the temporary folder
        runs = tuple(replace(run, checkpoint=None) for run in runs)
    return Rerun(chosen, runs, is_repetition, place.cpus)


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ConfigurationError(f"{name}={value}: at least 1")


def _assignment(trial: TrialResult, seed: int | None, folder: Path) -> Assignment:
    return Assignment(
        number=trial.number, params=dict(trial.params), directory=str(folder), seed=seed
    )


class _Listener(TellingReporter):
    """Hears a training's reports, and stops it where the trial ended."""

    def __init__(self, until: int | None) -> None:
        super().__init__()
        self._until = until
        self.history: list[Metrics] = []
        self.at: list[float] = []
        self.checkpoint: Path | None = None

    def report(
        self,
        metrics: Metrics,
        checkpoint: Path | None = None,
        progress: Progress = END_OF_EPOCH,
    ) -> bool:
        super().report(metrics, checkpoint, progress)
        self.history.append(dict(metrics))
        self.at.append(epochs_as_kept(self.done))
        self.checkpoint = checkpoint
        return len(self.history) == self._until

    def note(self, about: str, text: str) -> None:
        """The training has logged it."""


def _train(program: Program, assignment: Assignment, place: Place, until: int | None) -> Run:
    folder = Path(assignment.directory)
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier rerun with the same seed
    listener = _Listener(until)
    with suppress(TrialStopped):
        program(assignment, place, listener)
    for path in folder.glob("*"):
        if path != listener.checkpoint:
            shutil.rmtree(path, ignore_errors=True)
    reports = tuple(listener.history), tuple(listener.at)
    return Run(assignment.seed, *reports, listener.checkpoint)


def _trial(result: StudyResult, number: int | None) -> TrialResult:
    if number is None:
        if result.best is None:
            raise StudyError(f"study {result.name!r} has no best trial to repeat")
        return result.best
    for trial in result.trials:
        if trial.number == number:
            return trial
    raise StudyError(
        f"study {result.name!r} has no trial {number}; its {len(result.trials)} trials are "
        f"numbered from 0"
    )


def _check_repeatable(subject: Subject, trial: TrialResult, seed: int | None) -> None:
    reason = None
    workers = subject.study.workers_per_trial
    if trial.parent is not None:
        reason = f"it began as a copy of trial {trial.parent}"
    elif trial.continued:
        reason = "it was interrupted and went on from a checkpoint"
    elif workers > 1:
        reason = f"{workers} processes trained it together"
    elif seed is None:
        reason = "it had no seed"
    elif not trial.history and trial.state not in FAILURES:
        reason = "it has no epoch on record to compare with"
    if reason is not None:
        raise StudyError(
            f"trial {trial.number} cannot be repeated exactly: {reason}. Say how many epochs or "
            "seeds to train its values anew instead."
        )


def _tell_processes(workers: int) -> None:
    """Say that the numbers are others than a trial's, where that had several processes."""
    if workers > 1:
        itwinai.logger.warning(
            "warning: each trial was trained by %d processes together, and this is one, which sees "
            "smaller batches: its numbers do not compare with the trial's. 'itwinai hpo confirm' "
            "trains as the study did.",
            workers,
        )


def _fresh_seeds(seed: int | None, count: int) -> list[int]:
    """Seeds that depend on the trial's own alone, and are not it."""
    sequence = np.random.SeedSequence([seed or 0, 1])
    return [int(number) for number in sequence.generate_state(count) >> 1]


def _bits(at: Sequence[float], history: Sequence[Metrics]) -> dict[float, dict[str, str]]:
    """All bits of the metrics, by the epochs trained; NaN is itself here."""
    reports = zip(at, history, strict=True)
    return {e: {n: float(value).hex() for n, value in metrics.items()} for e, metrics in reports}


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), deviation


@contextmanager
def _folder(result: StudyResult, trial: TrialResult, keep: bool) -> Iterator[Path]:
    if keep:
        place = Path("reruns", f"{trial.number:05d}")
        strange = why_leads_out(result.record.parent, "reruns", str(place), f"{place}/*")
        if strange:
            raise StudyError(f"{strange}. Remove it.")
        yield result.record.parent / place
        return
    with tempfile.TemporaryDirectory(prefix="itwinai-rerun-") as folder:
        yield Path(folder)
