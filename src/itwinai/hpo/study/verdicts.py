"""What becomes of a trial after a report, and how it has ended."""

from __future__ import annotations

import math
from collections.abc import Mapping

from itwinai.errors import did_you_mean
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import MissingMetricError, StudyError
from itwinai.hpo.objectives import Objective, losses_of
from itwinai.hpo.schedulers import Report, Scheduler, Verdict
from itwinai.hpo.study.limits import Limits
from itwinai.hpo.study.memory import Memory
from itwinai.hpo.study.running import Ending, RunningTrial
from itwinai.hpo.trial import TrialState


class Verdicts:
    """Looks at a trial's metrics, then at its scheduler's opinion, then at the study's limits.

    An objective that no trial has reported ends the study: no other would. One that only this
    report lacks ends the trial.

    Args:
        configuration: What the study optimises.
        scheduler: Who stops trials early.
        memory: Where reports are noted; the scheduler has heard those of earlier runs.
        limits: What ends the whole study.
        epochs: Epochs of a full training.
    """

    def __init__(
        self,
        configuration: StudyConfiguration,
        scheduler: Scheduler,
        memory: Memory,
        limits: Limits,
        epochs: int,
    ) -> None:
        self._objectives = configuration.objectives
        self._judged = configuration.judged
        self._scheduler = scheduler
        self._memory = memory
        self._limits = limits
        self._epochs = epochs
        self._spares_default = configuration.default_first is True
        #: Epochs of each trial that the scheduler has heard: what runs again, it hears once.
        self._heard = memory.told

    def after_report(self, trial: RunningTrial) -> Ending | None:
        """Return how the trial ends now, or None if it goes on."""
        if self._limits.fatal is not None:
            return TrialState.INTERRUPTED, "the study ended"
        for objective in self._objectives:
            value = objective.value(trial.metrics)
            if value is None:
                return self._not_reported(objective, trial)
            if not math.isfinite(value):
                reason = f"{objective.metric} became {value} in epoch {_few(trial.epochs)}"
                return TrialState.DIVERGED, reason
        if self._scheduler.unit == "steps" and trial.steps is None:
            return self._without_steps()
        return self._by_progress(trial)

    def at_end(self, trial: RunningTrial, state: TrialState, reason: str) -> Ending:
        """Return how a trial has ended; a completed one has reported something."""
        if state is TrialState.COMPLETED and not trial.metrics:
            return self._not_reported(self._objectives[0], trial)
        usual = f"ended itself after epoch {_few(trial.epochs)}"
        if trial.epochs >= self._epochs:
            usual = "trained to the last epoch"
        return state, reason or usual

    def by_scheduler(self, trial: RunningTrial) -> str:
        """The reason of a trial that its scheduler ends or pauses."""
        return f"{self._scheduler.name} after epoch {_few(trial.epochs)}"

    def _by_progress(self, trial: RunningTrial) -> Ending | None:
        losses = losses_of(self._judged, trial.metrics)
        assert losses is not None
        report = Report(trial.assignment.number, trial.epochs, trial.seconds, losses, trial.steps)
        self._memory.heard(report)
        heard = trial.spared is None or trial.epochs <= trial.spared
        verdict = self._verdict(report) if heard else "continue"
        if verdict == "stop" and self._spares(trial):
            trial.spare()
            verdict = "continue"
        if trial.epochs >= self._epochs:
            return None
        if verdict == "pause" and trial.checkpoint is None:
            return self._without_checkpoint(trial)
        if verdict != "continue":
            state = TrialState.STOPPED if verdict == "stop" else TrialState.PAUSED
            return state, self.by_scheduler(trial)
        limit = self._limits.reached()
        return None if limit is None else (TrialState.INTERRUPTED, limit)

    def _spares(self, trial: RunningTrial) -> bool:
        return trial.plan.is_audited or (trial.plan.is_default and self._spares_default)

    def _verdict(self, report: Report) -> Verdict:
        if report.epoch <= self._heard.get(report.number, 0):
            return "continue"
        self._heard[report.number] = report.epoch
        return self._scheduler.judge.hear(report)

    def _without_steps(self) -> Ending:
        reason = (
            f"study.scheduler({self._scheduler.name}).unit=steps: a report did not say how many "
            "optimizer steps were made. Give them, as in trial.report(metrics, step=...), or count "
            "epochs"
        )
        self._limits.fail(StudyError(reason))
        return TrialState.FAILED, reason

    def _without_checkpoint(self, trial: RunningTrial) -> Ending:
        reason = (
            f"study.scheduler={self._scheduler.name!r} pauses trials, which go on from their last "
            f"checkpoint, and trial {trial.assignment.number} has none after epoch "
            f"{_few(trial.epochs)}: it would train anew each time. Report a checkpoint with each "
            "epoch, or use a scheduler that pauses no trial, such as asha"
        )
        self._limits.fail(StudyError(reason))
        return TrialState.FAILED, reason

    def _not_reported(self, objective: Objective, trial: RunningTrial) -> Ending:
        metric, metrics = f"study.metric={objective.metric!r}", trial.metrics
        if self._memory.knows_losses:
            where = f"the report of epoch {_few(trial.epochs)}" if trial.epochs else "this trial"
            reason = f"{metric} is missing in {where}, though earlier reports had it. {_ADVICE}"
            return TrialState.FAILED, reason
        reason = f"{metric} was never reported{_instead(objective.metric, metrics)}"
        if trial.epochs % 1:
            reason += (
                f". It must be in each report, also in the middle of an epoch, such as this one "
                f"after {_few(trial.epochs)} epochs (validate_every_steps)"
            )
        self._limits.fail(MissingMetricError(reason))
        return TrialState.FAILED, reason


def _few(epochs: float) -> float:
    """Epochs in a sentence."""
    return round(epochs, 3)


#: What to do where not every report has the metric.
_ADVICE = "Report it each time, or report only the epochs that have it"


def _instead(metric: str, metrics: Mapping[str, float]) -> str:
    """Say what was reported in place of a metric."""
    if not metrics:
        return "; the training reported nothing"
    hint = did_you_mean(metric, metrics) or "."
    return f"{hint} Reported: {', '.join(sorted(metrics))}"
