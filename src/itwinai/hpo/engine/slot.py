"""A trial slot: Ray Tune's unit of scheduling, reused from trial to trial."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune

from itwinai.hpo.engine.events import Event, Raised, Reported
from itwinai.hpo.engine.group import InProcess, Processes, Shipped, TrialGroup
from itwinai.hpo.trial import Assignment

#: Key of a Tune configuration under which the assignment travels; the others are hyper-parameters.
ASSIGNMENT = "itwinai_assignment"

_STATE_FILE = "progress.json"


class SpoiltProcessError(RuntimeError):
    """Makes Tune replace the slot's process, whose last trial has ended already."""


class TrialSlot(tune.Trainable):  # type: ignore[misc]
    """Runs trials one after another in a warm group of processes.

    A result's ``event`` says what happened: ``reported``, ``ended`` or ``raised``. Its other parts
    hold no mappings, because Tune flattens those. An error that spoils the process is not Tune's
    last result of its trial: the step after it fails, and Tune starts another process.
    """

    _group: TrialGroup
    _assignment: Assignment
    _begun: bool
    #: When it began.
    _since: float
    _epochs: float
    _steps: int | None
    _metrics: Mapping[str, float]
    #: The newest checkpoint, and the epochs that it holds.
    _saved: str | None
    _saved_epochs: float
    _spoilt: bool = False

    def __init__(self, *given: Any, **named: Any) -> None:
        os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # where a trial works is not Tune's to choose
        super().__init__(*given, **named)

    def setup(
        self,
        config: dict[str, Any],
        program: Shipped,
        workers: int,
        resources: Mapping[str, float],
        timeout: float | None,
    ) -> None:
        """Start the processes, and take the first trial."""
        self._group = (
            InProcess(program.unpack(), resources, timeout)
            if workers == 1
            else Processes(program, workers, resources, timeout)
        )
        self._assign(config)

    def step(self) -> dict[str, Any]:
        """Wait for the trial's next event."""
        if self._spoilt:
            raise SpoiltProcessError("an error has made this process unfit for further trials")
        if not self._begun:
            self._group.begin(self._assignment)
            self._begun, self._since = True, time.monotonic()
        event = self._group.proceed()
        if isinstance(event, Reported):
            self._hear(event)
        return self._outcome(event)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self._group.stop()
        self._assign(new_config)
        return True

    def cleanup(self) -> None:
        """End the running trial and the processes."""
        self._group.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Remember how far a paused trial came; its weights are in the trial's own checkpoint."""
        state = {"checkpoint": self._saved, "epochs": self._saved_epochs}
        Path(checkpoint_dir, _STATE_FILE).write_text(json.dumps(state))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on with a paused trial."""
        state = json.loads(Path(checkpoint_dir, _STATE_FILE).read_text())
        self._take(replace(self._assignment, **state))

    def _assign(self, config: Mapping[str, Any]) -> None:
        self._take(Assignment(**config[ASSIGNMENT]))

    def _take(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._epochs = self._saved_epochs = assignment.epochs
        self._saved = assignment.checkpoint
        self._metrics, self._steps = {}, None
        self._begun = False

    def _hear(self, report: Reported) -> None:
        self._metrics, self._steps = report.metrics, report.progress.steps
        self._epochs = report.progress.after(self._epochs)
        if report.checkpoint not in (None, self._saved):
            held = report.progress.saved
            self._saved = report.checkpoint
            self._saved_epochs = self._epochs if held is None else held

    def _outcome(self, event: Event) -> dict[str, Any]:
        outcome: dict[str, Any] = {
            "epoch": self._epochs,
            # Of Tune's own, whole: also of a trial that was continued.
            "training_iteration": math.floor(self._epochs),
            "steps": self._steps,
            "metrics": list(self._metrics.items()),
            "saved": self._saved,
            "saved_epochs": self._saved_epochs,
            "seconds": time.monotonic() - self._since,
            "energy": event.energy,
            "nodes": list(self._group.nodes),
        }
        if isinstance(event, Reported):
            return outcome | {"event": "reported", "notes": list(event.notes)}
        if isinstance(event, Raised):
            self._spoilt = event.spoilt
            return outcome | {"event": "raised", "error": event, "done": not event.spoilt}
        return outcome | {"event": "ended", "done": True}
