"""What the record holds beyond Optuna's own fields: the names of our user attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from optuna.trial import FrozenTrial

from itwinai.hpo.rungs import Bracket, Rungs
from itwinai.hpo.trial import TrialResult, TrialState

#: Version of this layout.
FORMAT = 2

#: Of the study: format, objectives, epochs, space, constraints; and the trial it recommends.
FACTS = "itwinai"
RECOMMENDED = "recommended"
SEEDS = "seeds"
TOTAL = "total"
THREADS = "threads"
RUNS = "runs"
SETUP = "setup"
#: Of each value of a function's configuration that is not tuned: a print of it.
ALIKE = "alike"
#: What trials held in earlier runs, where that was something else: until when, and the resources.
HELD = "held before"
EARLY = "ended early"
NODES = "nodes at fault"
_START = "start "

#: Of a trial.
NUMBER = "trial"
END = "end"
CHECKPOINT = "checkpoint"
DEFAULT = "default"
AUDITED = "audited"
SPARED = "spared"
GIVEN = "given"
CONTINUES = "continues"
PARENT = "parent"
TAUGHT = "taught"
ENERGY = "energy"
#: Epochs that an attempt at it has trained again, in a process that took a lost one's place.
REPEATED = "repeated"
#: Names of the nodes on which an attempt at it ran last.
RAN_ON = "ran on"
_EPOCH = "epoch "


@dataclass(frozen=True)
class End:
    """How an attempt at a trial ended.

    Attributes:
        state: A final :class:`TrialState`, by value.
        reason: Why, in words.
        seconds: How long it took.
    """

    state: str = TrialState.INTERRUPTED.value
    reason: str = ""
    seconds: float | None = None

    @classmethod
    def read(cls, attrs: Mapping[str, Any]) -> End:
        """Read it back; one that was closed without an end of ours lost its driver."""
        return cls(**attrs.get(END, {}))


@dataclass(frozen=True)
class Setup:
    """Who decides in a run of a study, and what its trials get.

    Attributes:
        algorithm: Name of the search algorithm.
        scheduler: Name of the scheduler.
        rungs: Where the scheduler compares trials; None where that is not at certain epochs.
        slots: Trials at the same time, when the run began; None if nobody knew.
        workers: Processes of a trial.
        per_worker: Resources of each of them.
        audit: The first so many trials train to the last epoch whatever the scheduler says.
    """

    algorithm: str
    scheduler: str
    rungs: Rungs | None = None
    slots: int | None = None
    workers: int = 1
    per_worker: Mapping[str, float] = field(default_factory=dict)
    audit: int = 0

    @classmethod
    def read(cls, kept: Mapping[str, Any] | None) -> Setup | None:
        """Read it back; None from a record that keeps none."""
        if kept is None:
            return None
        rungs = kept.get("rungs")
        if rungs is not None:
            brackets = tuple(Bracket(tuple(levels), keep) for levels, keep in rungs["brackets"])
            rungs = Rungs(brackets, tuple(rungs["turns"]))
        return cls(**{**kept, "rungs": rungs})

    @property
    def held(self) -> dict[str, float]:
        """Resources of a trial, over all its processes."""
        return {name: amount * self.workers for name, amount in self.per_worker.items()}

    def kept(self) -> dict[str, Any]:
        """What the record keeps of it."""
        facts = {**vars(self), "per_worker": dict(self.per_worker)}
        if self.rungs is not None:
            brackets = [[list(bracket.levels), bracket.keep] for bracket in self.rungs.brackets]
            facts["rungs"] = {"brackets": brackets, "turns": list(self.rungs.turns)}
        if not self.audit:  # an earlier version of the library does not know it
            del facts["audit"]
        return facts


@dataclass(frozen=True)
class Start:
    """How a run of a study was started.

    Attributes:
        time: When, in seconds since 1970.
        host: On which machine.
        folder: The working directory.
        command: The program and its arguments, without secrets, as a shell takes them.
        job: Slurm's number of the batch job that it ran in; empty outside of one.
        versions: Of Python, itwinai and the packages that decide what a training gives.
    """

    time: float
    host: str
    folder: str
    command: str
    job: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def kept(self) -> dict[str, Any]:
        """What the record keeps of it."""
        return {**vars(self), "versions": dict(self.versions)}


def next_start_key(attrs: Mapping[str, Any]) -> str:
    """Name of the attribute that holds how the next run of a study was started."""
    return f"{_START}{max(_starts_in(attrs), default=0) + 1}"


def starts_in(attrs: Mapping[str, Any]) -> tuple[Start, ...]:
    """How the runs of a study were started, the first one first; older records tell nothing."""
    return tuple(Start(**attrs[f"{_START}{number}"]) for number in _starts_in(attrs))


def _starts_in(attrs: Mapping[str, Any]) -> list[int]:
    return sorted(int(key.removeprefix(_START)) for key in attrs if key.startswith(_START))


@dataclass(frozen=True)
class Seeds:
    """Where a study's random numbers come from.

    Attributes:
        entropy: The user's seed, or a number drawn when the study began.
        fixed: Whether the user gave it; each training then has the same seed.
    """

    entropy: int
    fixed: bool

    def of_trial(self, number: int) -> int:
        """The seed of a trial's training."""
        if self.fixed:
            return self.entropy
        return int(np.random.default_rng([self.entropy, number]).integers(2**31))


class Entry(NamedTuple):
    """A report.

    Attributes:
        metrics: By name.
        seconds: Of training.
        steps: Optimizer steps made; None where the study does not count them.
    """

    metrics: dict[str, float]
    seconds: float
    steps: int | None = None


def epoch_key(epochs: float) -> str:
    """Name of the attribute that holds the report after so many epochs."""
    return f"{_EPOCH}{epochs}"


def history_of(attrs: Mapping[str, Any]) -> dict[float, Entry]:
    """Collect a trial's reports, by the epochs trained."""
    return {_epochs_of(k): Entry(*entry) for k, entry in attrs.items() if k.startswith(_EPOCH)}


def _epochs_of(key: str) -> float:
    number = key.removeprefix(_EPOCH)
    return int(number) if number.isdecimal() else float(number)


def summed(energy: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Add up joules by source; a source that did not measure every part is left out."""
    parts = list(energy)
    sources = [source for source in (parts[0] if parts else ()) if all(source in p for p in parts)]
    return {source: round(sum(part[source] for part in parts), 3) for source in sources}


def number_of(trial: FrozenTrial) -> int | None:
    """The study's number of a trial, or None if it was never handed out.

    A trial that was interrupted and continued has several numbers in Optuna, but one of ours.
    """
    number = trial.user_attrs.get(NUMBER)
    return None if number is None else int(number)


@dataclass(frozen=True)
class Plan:
    """What is known of a trial before it is asked for.

    Attributes:
        number: Its number, or None for the next free one.
        given: Values that are set beforehand, as the space keeps them; the sampler proposes the
            others.
        checkpoint: Checkpoint to continue from.
        epochs: Epochs that the checkpoint holds.
        is_default: Whether it is the default configuration.
        is_audited: Whether it runs to the last epoch whatever its scheduler says.
        spared: Epochs after which its scheduler would have stopped it, and hears no more of it.
        parent: The trial that it is a copy of.
    """

    number: int | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    epochs: float = 0
    is_default: bool = False
    is_audited: bool = False
    spared: float | None = None
    parent: int | None = None

    @classmethod
    def read(cls, attrs: Mapping[str, Any]) -> Plan:
        """Read a plan back from a queued trial."""
        epochs, checkpoint = attrs.get(CONTINUES, (0, None))
        return cls(
            number=attrs.get(NUMBER),
            given=attrs.get(GIVEN, {}),
            checkpoint=checkpoint,
            epochs=epochs,
            is_default=DEFAULT in attrs,
            is_audited=AUDITED in attrs,
            spared=attrs.get(SPARED),
            parent=attrs.get(PARENT),
        )

    @classmethod
    def to_continue(cls, trial: TrialResult) -> Plan:
        """Plan an interrupted trial's continuation, from its checkpoint if it still exists."""
        usable = trial.checkpoint is not None and trial.checkpoint.exists()
        return cls(
            number=trial.number,
            checkpoint=str(trial.checkpoint) if usable else None,
            epochs=trial.checkpoint_epochs if usable else 0,
            is_default=trial.is_default,
            is_audited=trial.is_audited,
            spared=trial.spared,
            parent=trial.parent,
        )

    def attributes(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a queued trial carries, with its given values as the space keeps them."""
        attrs: dict[str, Any] = {GIVEN: dict(given)}
        if self.number is not None:
            attrs[NUMBER] = self.number
        if self.is_default:
            attrs[DEFAULT] = True
        if self.is_audited:
            attrs[AUDITED] = True
        if self.spared is not None:
            attrs[SPARED] = self.spared
        if self.parent is not None:
            attrs[PARENT] = self.parent
        if self.checkpoint is not None:
            attrs[CONTINUES] = [self.epochs, self.checkpoint]
        return attrs
