"""Reports of a training of several processes: rank 0 speaks, all ranks hear the answer."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch

from itwinai.reporting import NullReporter, Progress, Reporter
from itwinai.torch.training.protocol import Training
from itwinai.torch.type import described


def report_as_one(training: Training, metrics: Mapping[str, Any], share: float = 1) -> bool:
    """Report once for all ranks; return on each whether the training shall end.

    Args:
        training: Whose ranks stop at the same step.
        metrics: Numbers, or tensors of one element; what is no number is named, and left out.
        share: The part of the running epoch that is trained; all of it unless told otherwise.
    """
    reporter, checkpoints = training.reporter, training.checkpoints
    if isinstance(reporter, NullReporter):
        return False
    stop, training.reported = False, math.floor(training.reported) + share
    if training.strategy.is_main_worker:
        steps, saved = training.optimizer_steps or None, training.saved_within
        progress = Progress(training.reported, steps, saved)
        stop = reporter.report(_numbers(metrics, reporter), checkpoints.newest, progress)
        # Whoever is told to stop cannot know whether that was the report's own consequence.
        if not stop:
            checkpoints.recorded()
    return bool(training.strategy.broadcast_obj(stop, src_rank=0))


def report_epoch(training: Training) -> bool:
    """Report the epoch that has ended; return whether the training shall end.

    A study never sees the test set, which would be tuned on otherwise; only what confirms one does.
    """
    metrics = {
        name: value
        for name, value in training.epoch_metrics.items()
        if training.reports_test or not name.startswith("test_")
    }
    began = time.monotonic()
    stop = report_as_one(training, metrics)
    if training.time_ray:
        seconds = time.monotonic() - began
        training.log(seconds, "ray_report_time_s_per_epoch", step=training.current_epoch)
    return stop


def _numbers(metrics: Mapping[str, Any], reporter: Reporter) -> dict[str, float]:
    numbers = {}
    for name, value in metrics.items():
        try:
            if isinstance(value, str | bytes):
                raise TypeError(value)
            numbers[name] = float(value.detach() if isinstance(value, torch.Tensor) else value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            text = f"the metric {name!r} of a report is {described(value)}; expected one number"
            reporter.note(f"metric {name}", f"warning: {text}. It is left out.")
    return numbers
