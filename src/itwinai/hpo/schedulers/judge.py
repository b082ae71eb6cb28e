"""What every scheduler is: it hears each trial's reports and says who goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from itwinai.hpo.objectives import Losses
from itwinai.hpo.rungs import Rungs, Unit

#: What becomes of a trial after a report. A paused one may go on later, from its checkpoint.
Verdict = Literal["continue", "stop", "pause"]


@dataclass(frozen=True)
class Report:
    """One report of one trial.

    Attributes:
        number: The trial.
        epoch: Epochs it has trained, the part of the running one included.
        seconds: Seconds it has trained.
        losses: Its objectives then, lower being better.
        steps: Optimizer steps it has made; None where nobody has told them.
    """

    number: int
    epoch: float
    seconds: float
    losses: Losses
    steps: int | None = None

    def progress(self, unit: Unit) -> float:
        """How far the trial has come; steps that nobody has told are none."""
        amounts = {"epochs": self.epoch, "steps": self.steps or 0, "seconds": self.seconds}
        return amounts[unit]


class Judge:
    """A scheduler's rule; this one lets every trial train to its end.

    A judge's state is what it has heard: whoever tells it a record's reports once more has the same
    judge again, so nothing of it is ever saved.
    """

    @property
    def first_pause(self) -> float | None:
        """Progress at which a trial may first be paused; None: it pauses none."""
        return None

    @property
    def pauses(self) -> bool:
        """Whether it ever pauses a trial, which goes on from its last checkpoint."""
        return self.first_pause is not None

    @property
    def rungs(self) -> Rungs | None:
        """Where it compares trials; None where that is not at certain places."""
        return None

    def hear(self, report: Report) -> Verdict:
        """Take a trial's report, and say what becomes of the trial."""
        return "continue"

    def began(self, number: int) -> None:
        """Take note that a trial begins, or goes on."""

    def ended(self, number: int, completed: bool) -> None:
        """Take note that a trial has ended, trained to its last epoch or not."""

    def resume(self, more: bool, running: bool) -> int | None:
        """Name the paused trial that goes on now, if any.

        Args:
            more: Whether the study has further new trials.
            running: Whether any trial runs.
        """
        return None

    def successor(self, number: int) -> int | None:
        """Name the trial whose copy takes the place of one that was to be resumed, if any."""
        return None
