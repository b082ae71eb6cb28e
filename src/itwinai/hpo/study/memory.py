"""What a study's trials have reported, kept at hand for schedulers and search algorithms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from itwinai.hpo.objectives import Losses, Objective, losses_of
from itwinai.hpo.record import StudyResult
from itwinai.hpo.schedulers import Judge, Report
from itwinai.hpo.search import Observation
from itwinai.hpo.study.running import RunningTrial
from itwinai.hpo.trial import OPEN, POOR, TrialResult, TrialState

#: How a model sees a trial's state; it does not see the states that are missing here.
_SEEN: dict[TrialState, Literal["running", "completed", "stopped", "diverged"]] = {
    TrialState.RUNNING: "running",
    TrialState.PAUSED: "running",
    TrialState.INTERRUPTED: "running",
    TrialState.COMPLETED: "completed",
    TrialState.STOPPED: "stopped",
    **dict.fromkeys(POOR, "diverged"),
}


#: Values and metrics, epoch by epoch, of a completed trial of another study.
Lesson = tuple[Mapping[str, Any], Sequence[Mapping[str, float]]]


@dataclass
class _Curve:
    params: Mapping[str, Any]
    losses: list[Losses] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    state: TrialState = TrialState.RUNNING


class Memory:
    """Learning curves of all trials, in the losses by which the study judges.

    Args:
        judged: The objectives.
        result: The study so far. Epochs after the checkpoint from which an interrupted trial will
            go on are left out: it will report them again.
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
        number, parent, epochs = trial.assignment.number, trial.plan.parent, trial.epochs
        model = self._curves.get(number) or self._curves.get(-1 if parent is None else parent)
        curve = _Curve(trial.assignment.params)
        if model is not None:
            curve.losses, curve.seconds = model.losses[:epochs], model.seconds[:epochs]
        self._curves[number] = curve
        return curve.seconds[-1] if curve.seconds else 0.0

    def heard(self, number: int, losses: Losses, seconds: float) -> Report:
        """Note an epoch of a trial."""
        curve = self._curves[number]
        curve.losses.append(losses)
        curve.seconds.append(seconds)
        return Report(number, len(curve.losses), seconds, losses)

    @property
    def knows_losses(self) -> bool:
        """Whether a trial of this study has reported all objectives once."""
        return any(curve.losses for curve in self._curves.values())

    def params(self, number: int) -> Mapping[str, Any]:
        """A trial's values."""
        return self._curves[number].params

    def known(self) -> list[tuple[Mapping[str, Any], TrialState]]:
        """Values and state of each trial of this study."""
        return [(curve.params, curve.state) for curve in self._curves.values()]

    def ended(self, number: int, state: TrialState) -> None:
        """Note how a trial ended."""
        self._curves[number].state = state

    def retell(self, judge: Judge) -> None:
        """Let a scheduler hear all epochs, then the ends of those trials that will not go on."""
        for report in self._reports():
            judge.hear(report)
        for number, curve in self._curves.items():
            if curve.state not in OPEN:
                judge.ended(number, curve.state is TrialState.COMPLETED)

    def observations(self) -> dict[int, Observation]:
        """The trials as a model of one objective sees them, by number; learnt ones first."""
        return {
            number: Observation(
                curve.params, [losses[0] for losses in curve.losses], _SEEN[curve.state]
            )
            for number, curve in {**self._lessons, **self._curves}.items()
            if curve.state in _SEEN
        }

    def _reports(self) -> Iterator[Report]:
        for number, curve in self._curves.items():
            entries = zip(curve.losses, curve.seconds, strict=True)
            for epoch, (losses, seconds) in enumerate(entries, start=1):
                yield Report(number, epoch, seconds, losses)

    def _learnt(self, params: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> _Curve:
        losses = [losses_of(self._judged, metrics) for metrics in history]
        known = [entry for entry in losses if entry is not None]
        return _Curve(params, known, state=TrialState.COMPLETED)

    def _curve_of(self, trial: TrialResult) -> _Curve:
        epochs = trial.epochs
        if trial.state in OPEN:
            epochs = trial.checkpoint_epochs if trial.checkpoint is not None else 0
        curve = _Curve(trial.params, state=trial.state)
        for metrics, seconds in zip(trial.history[:epochs], trial.seconds[:epochs], strict=True):
            losses = losses_of(self._judged, metrics)
            if losses is None:
                break
            curve.losses.append(losses)
            curve.seconds.append(seconds)
        return curve
