"""What a study's trials have reported, kept at hand for schedulers and search algorithms."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from typing import Any, Literal

from itwinai.hpo.objectives import Objective, losses_of
from itwinai.hpo.record import StudyResult
from itwinai.hpo.schedulers import Judge, Report
from itwinai.hpo.search import Observation
from itwinai.hpo.study.running import RunningTrial
from itwinai.hpo.trial import AGAIN, OPEN, POOR, TrialResult, TrialState

#: How a model sees a trial's state. It sees every trial: by their number it knows which proposals
#: it has made.
_SEEN: dict[TrialState, Literal["running", "completed", "stopped", "diverged"]] = {
    TrialState.RUNNING: "running",
    TrialState.PAUSED: "running",
    TrialState.INTERRUPTED: "running",
    TrialState.LOST: "running",
    TrialState.COMPLETED: "completed",
    TrialState.STOPPED: "stopped",
    **dict.fromkeys(POOR, "diverged"),
}


#: Values of a completed trial of another study, and its metrics by the epochs trained.
Lesson = tuple[Mapping[str, Any], Mapping[float, Mapping[str, float]]]


@dataclass
class _Curve:
    params: Mapping[str, Any]
    reports: list[Report] = field(default_factory=list)
    state: TrialState = TrialState.RUNNING
    #: Between which epochs its scheduler has heard of it: those before are another trial's.
    heard: tuple[float, float] = (0, inf)

    @property
    def at(self) -> list[float]:
        """Epochs trained at each report."""
        return [report.epoch for report in self.reports]

    def until(self, epochs: float) -> list[Report]:
        """The reports of its first epochs."""
        return self.reports[: bisect_right(self.at, epochs)]


class Memory:
    """Learning curves of all trials, in the losses by which the study judges.

    Args:
        judged: The objectives.
        result: The study so far. What came after the checkpoint from which an interrupted trial
            will go on is left out: it will report that again.
        lessons: Values and metrics of another study's completed trials.
    """

    def __init__(
        self, judged: Sequence[Objective], result: StudyResult, lessons: Iterable[Lesson]
    ) -> None:
        self._judged = judged
        self._curves = {trial.number: self._curve_of(trial) for trial in result.trials}
        #: Under negative numbers.
        self._lessons = {-1 - i: self._learnt(*lesson) for i, lesson in enumerate(lessons)}

    def begun(self, trial: RunningTrial) -> float:
        """Note that a trial begins, or goes on after some epochs; return their seconds."""
        number, parent = trial.assignment.number, trial.plan.parent
        model = self._curves.get(number) or self._curves.get(-1 if parent is None else parent)
        curve = _Curve(trial.assignment.params)
        if model is not None:
            curve.reports = [replace(r, number=number) for r in model.until(trial.epochs)]
        self._curves[number] = curve
        return curve.reports[-1].seconds if curve.reports else 0.0

    def heard(self, report: Report) -> None:
        """Note a report of a trial."""
        self._curves[report.number].reports.append(report)

    @property
    def knows_losses(self) -> bool:
        """Whether a trial of this study has reported all objectives once."""
        return any(curve.reports for curve in self._curves.values())

    def params(self, number: int) -> Mapping[str, Any]:
        """A trial's values."""
        return self._curves[number].params

    def known(self) -> list[tuple[Mapping[str, Any], TrialState]]:
        """Values and state of each trial of this study."""
        return [(curve.params, curve.state) for curve in self._curves.values()]

    def ended(self, number: int, state: TrialState) -> None:
        """Note how a trial ended."""
        self._curves[number].state = state

    @property
    def told(self) -> dict[int, float]:
        """Epochs of each trial's last report."""
        return {number: curve.at[-1] for number, curve in self._curves.items() if curve.reports}

    def retell(self, judge: Judge) -> None:
        """Let a scheduler hear what it has heard, then the ends of those that will not go on."""
        for curve in self._curves.values():
            after, until = curve.heard
            for report in curve.reports:
                if after < report.epoch <= until:
                    judge.hear(report)
        for number, curve in self._curves.items():
            if curve.state not in OPEN:
                completed = curve.state is TrialState.COMPLETED and curve.heard[1] == inf
                judge.ended(number, completed)

    def observations(self) -> dict[int, Observation]:
        """The trials as a model of one objective sees them, by number; learnt ones first."""
        return {
            number: Observation(
                curve.params,
                [report.losses[0] for report in curve.reports],
                _SEEN[curve.state],
                curve.at,
            )
            for number, curve in {**self._lessons, **self._curves}.items()
        }

    def _learnt(
        self, params: Mapping[str, Any], history: Mapping[float, Mapping[str, float]]
    ) -> _Curve:
        losses = {at: losses_of(self._judged, metrics) for at, metrics in history.items()}
        known = [Report(-1, at, 0.0, loss) for at, loss in losses.items() if loss is not None]
        return _Curve(params, known, TrialState.COMPLETED)

    def _curve_of(self, trial: TrialResult) -> _Curve:
        heard = trial.inherited, inf if trial.spared is None else trial.spared
        curve = _Curve(trial.params, list(self._reports_of(trial)), trial.state, heard)
        if trial.state in AGAIN:
            curve.reports = curve.until(0 if trial.checkpoint is None else trial.checkpoint_epochs)
        return curve

    def _reports_of(self, trial: TrialResult) -> Iterator[Report]:
        """The reports up to the first that lacks an objective, or where one is not finite."""
        steps = trial.steps or (None,) * len(trial.history)
        for at, metrics, seconds, made in zip(
            trial.at, trial.history, trial.seconds, steps, strict=True
        ):
            losses = losses_of(self._judged, metrics)
            if losses is None or not all(map(isfinite, losses)):
                return
            yield Report(trial.number, at, seconds, losses, made)
