"""A trial: what it was asked to do, how it ended, and what remains of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any


class TrialState(str, Enum):
    """Where a trial stands; all but ``running`` are final."""

    RUNNING = "running"
    #: Trained to the last epoch, or ended itself.
    COMPLETED = "completed"
    #: Ended early by the scheduler.
    STOPPED = "stopped"
    #: Waits for its scheduler, from its last checkpoint.
    PAUSED = "paused"
    #: The metric became NaN or infinite.
    DIVERGED = "diverged"
    #: The training needed more memory than there is.
    OUT_OF_MEMORY = "out of memory"
    #: The user's code raised.
    FAILED = "failed"
    #: Its worker or node was lost more often than allowed.
    LOST = "lost"
    #: It reported nothing within the deadline.
    HUNG = "hung"
    #: The study ended first; a resumed study continues this trial.
    INTERRUPTED = "interrupted"


#: Ends through no fault of the trial, after which a resumed study runs it again.
AGAIN = (TrialState.INTERRUPTED, TrialState.LOST)

#: Ends after which a trial may still go on.
OPEN = (*AGAIN, TrialState.PAUSED)

#: Ends without any result, by the trial's own fault or the machine's.
FAILURES = (TrialState.FAILED, TrialState.OUT_OF_MEMORY, TrialState.LOST, TrialState.HUNG)


#: Ends by a trial's own fault, from which a search learns not to go there.
POOR = (TrialState.DIVERGED, TrialState.FAILED, TrialState.OUT_OF_MEMORY, TrialState.HUNG)

#: Sources of energy: the counters of processors and memory, and those of GPUs.
RAPL, NVML = "RAPL", "NVML"


def epochs_as_kept(epochs: float) -> float:
    """Epochs trained as records and trials count them: a part of one to a millionth.

    Whole ones are integers.
    """
    rounded = round(epochs, 6)
    return int(rounded) if rounded == int(rounded) else rounded


@dataclass(frozen=True)
class Assignment:
    """One trial as it is handed to a slot.

    Attributes:
        number: The trial's number in the study, from 0.
        params: Hyper-parameter values.
        directory: The trial's folder: checkpoints and log.
        checkpoint: Checkpoint to continue from, or None to start afresh.
        epochs: Epochs that ``checkpoint`` already holds.
        seed: Random seed of the training, or None.
    """

    number: int
    params: dict[str, Any]
    directory: str
    checkpoint: str | None = None
    epochs: float = 0
    seed: int | None = None


@dataclass(frozen=True)
class TrialResult:
    """One trial as the record tells it.

    Attributes:
        number: The trial's number, from 0; a continued trial keeps its number.
        state: How it ended.
        params: Hyper-parameter values.
        history: One mapping of metric names to values per report.
        checkpoint: Folder of the last kept checkpoint, or None.
        checkpoint_epochs: Epochs that the checkpoint holds.
        seconds: Seconds of training at each report.
        at: Epochs trained at each report; 1, 2, 3, ... where nothing is given.
        steps: Optimizer steps made at each report; empty where the study does not count them.
        reason: Why it ended, in words.
        is_default: Whether it ran the configuration's own values, without any search.
        is_audited: Whether it was to run to the last epoch whatever its scheduler said.
        spared: Epochs after which its scheduler would have stopped it, and has heard no more of
            it; None of all others, and in older records.
        parent: The trial whose checkpoint it began with, or None.
        inherited: Epochs that it has from there, with their reports.
        continued: Whether its last attempt began with a checkpoint.
        seed: Random seed of the training, or None.
        energy: Joules that were measured, by source; a source that did not measure all of the
            trial is not in it.
    """

    number: int
    state: TrialState
    params: Mapping[str, Any]
    history: tuple[Mapping[str, float], ...] = field(default=(), repr=False)
    checkpoint: Path | None = None
    checkpoint_epochs: float = 0
    seconds: tuple[float, ...] = field(default=(), repr=False)
    at: tuple[float, ...] = field(default=(), repr=False)
    steps: tuple[int | None, ...] = field(default=(), repr=False)
    reason: str = ""
    is_default: bool = False
    is_audited: bool = False
    spared: float | None = None
    parent: int | None = None
    inherited: float = 0
    continued: bool = False
    seed: int | None = None
    energy: Mapping[str, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.at:
            object.__setattr__(self, "at", tuple(range(1, len(self.history) + 1)))

    @property
    def epochs(self) -> float:
        """Epochs trained, the part of the last one included."""
        return self.at[-1] if self.at else 0

    @property
    def whole_epochs(self) -> tuple[Mapping[str, float], ...]:
        """Metrics after each whole epoch; reports in the middle of one are left out."""
        pairs = zip(self.at, self.history, strict=True)
        return tuple(metrics for epochs, metrics in pairs if epochs == int(epochs))

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of the last report; empty before the first."""
        return self.history[-1] if self.history else {}

    def metric(self, name: str) -> float | None:
        """Value of a metric at the last report, or None if it was never reported."""
        return metric_value(self.metrics, name)


def metric_value(metrics: Mapping[str, float], name: str) -> float | None:
    """Look a metric up; ``loss`` means ``validation_loss`` where no ``loss`` was reported."""
    return metrics.get(name, metrics.get(full_name(name)))


def full_name(metric: str) -> str:
    """What a metric is called where nothing is reported as ``loss``."""
    return "validation_loss" if metric == "loss" else metric
