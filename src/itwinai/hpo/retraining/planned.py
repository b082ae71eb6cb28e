"""What a study will cost: its plan, and what this process can find out beforehand."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from itwinai.errors import ConfigurationError
from itwinai.hpo.engine import (
    Place,
    plan_resources,
    ray_cluster,
    starts_embedded,
    this_machine,
    visible_gpus,
)
from itwinai.hpo.launch import StudyPlan
from itwinai.hpo.planning import EpochTime, PlannedCost, epoch_time_of, plan_cost
from itwinai.hpo.retraining.subject import Subject
from itwinai.hpo.trial import Assignment
from itwinai.reporting import END_OF_EPOCH, Progress, TrialStopped


def planned_cost(
    subject: Subject,
    epoch_seconds: float | None = None,
    probe: bool = False,
    like: str | Path | None = None,
    limit: float | None = None,
) -> PlannedCost:
    """Say what a study will cost; nothing is started but, if allowed, a probe.

    Args:
        subject: What trains, with its data.
        epoch_seconds: Seconds of an epoch of the default configuration.
        probe: Whether two epochs of the default configuration may be trained to measure them.
        like: Folder of an earlier study whose epochs tell them.
        limit: Seconds that a job may take.

    Raises:
        ConfigurationError: For whatever cannot work, and for more than one source of the seconds.
        StudyError: If there is no such study as ``like``.
    """
    if sum([epoch_seconds is not None, probe, like is not None]) > 1:
        raise ConfigurationError(
            "epoch_seconds, probe and like each tell how long an epoch takes: give one of them"
        )
    plan = subject.checked_plan()
    nodes = _machines(plan.configuration.excluded)
    known = None if epoch_seconds is None else EpochTime(epoch_seconds, "as given")
    size = subject.checkpoint_bytes()
    if like is not None:
        known = epoch_time_of(like)
    if probe:
        known, measured = _probe(subject, plan, nodes)
        size = measured or size
    return plan_cost(plan, nodes, known, limit, size)


def _machines(left_out: Sequence[str]) -> list[dict[str, float]]:
    """Resources of the machines that the study would run on; no Ray is started to find out."""
    if starts_embedded():
        gpus = visible_gpus()
        return [this_machine() | ({"GPU": float(gpus)} if gpus else {})]
    with ray_cluster() as nodes:
        from itwinai.hpo.engine import nodes_without

        return nodes_without(left_out, can_grow=True) if left_out else nodes


def _probe(
    subject: Subject, plan: StudyPlan, nodes: list[dict[str, float]]
) -> tuple[EpochTime, float | None]:
    """Train two epochs of the default configuration here, as a trial would.

    Returns:
        How long the second one took, because much is loaded in the first, and the size of the
        checkpoint.
    """
    resources = plan_resources(plan.configuration, nodes, plan.total)
    if resources.workers > 1:
        raise ConfigurationError(
            f"probe: a trial is trained by {resources.workers} processes, which one alone says "
            "nothing of. Give epoch_seconds, or an earlier study with like."
        )
    if plan.default is None:
        raise ConfigurationError(
            "probe: there is no default configuration to train. Give the config a value for each "
            "tuned name, and leave study.default_first: true."
        )
    with tempfile.TemporaryDirectory(prefix="itwinai-probe-") as folder:
        heard = _Epochs()
        assignment = Assignment(0, dict(plan.default), folder, seed=plan.configuration.seed or 0)
        with suppress(TrialStopped):
            program = subject.program(subject.seed, subject.epochs)
            program(assignment, Place(cpus=resources.threads, gpus=visible_gpus()), heard)
    if heard.seconds is None:
        raise ConfigurationError(
            "probe: the training reported no epoch, so it does not tell how long one takes. "
            "Give epoch_seconds."
        )
    source = "measured: an epoch of the default configuration"
    return EpochTime(heard.seconds, source, steps=heard.steps), heard.bytes


class _Epochs:
    """Hears a training's first two epochs, and stops it there."""

    def __init__(self) -> None:
        #: Epochs and seconds at the begin and at each report.
        self._marks = [(0.0, time.perf_counter())]
        self.bytes: float | None = None
        #: Optimizer steps of an epoch, where the training tells them.
        self.steps: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long an epoch took at last; None if none was reported."""
        if len(self._marks) < 2:
            return None
        (before, began), (epochs, ended) = self._marks[-2:]
        return (ended - began) / (epochs - before)

    def report(
        self,
        metrics: Mapping[str, float],
        checkpoint: Path | None = None,
        progress: Progress = END_OF_EPOCH,
    ) -> bool:
        before = self._marks[-1][0]
        epochs = progress.after(before)
        if epochs < math.floor(before) + 1:
            return False  # in the middle of one
        self._marks.append((epochs, time.perf_counter()))
        self.steps = None if progress.steps is None else progress.steps / epochs
        if checkpoint is not None:
            files = [path for path in checkpoint.rglob("*") if path.is_file()]
            self.bytes = float(sum(path.stat().st_size for path in files))
        return len(self._marks) > 2

    def note(self, about: str, text: str) -> None:
        """The training has logged it."""
