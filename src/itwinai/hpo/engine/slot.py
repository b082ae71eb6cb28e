"""A trial slot: Ray Tune's unit of scheduling, reused from trial to trial."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune

from itwinai.hpo.engine.group import InProcess, Processes, Shipped, TrialGroup
from itwinai.hpo.engine.worker import Event, Raised, Reported
from itwinai.hpo.trial import Assignment

#: Key of a Tune configuration under which the assignment travels; the others are hyper-parameters.
ASSIGNMENT = "itwinai_assignment"

_STATE_FILE = "progress.json"


class TrialSlot(tune.Trainable):  # type: ignore[misc]
    """Runs trials one after another in a warm group of processes.

    A result's ``event`` says what happened: ``reported``, ``ended`` or ``raised``. Before that came
    its ``epochs``: number, metrics and newest checkpoint of each; ``metrics`` are the last one's.
    It holds no mappings, because Tune flattens those.
    """

    _group: TrialGroup
    _patience: float
    _assignment: Assignment
    _begun: bool
    _epochs: int
    _metrics: Mapping[str, float]
    #: The newest checkpoint, and the epochs that it holds.
    _saved: str | None
    _saved_epochs: int

    def setup(
        self,
        config: dict[str, Any],
        program: Shipped,
        workers: int,
        resources: Mapping[str, float],
        patience: float,
    ) -> None:
        """Start the processes, and take the first trial.

        Args:
            config: The first trial's.
            program: What every trial runs.
            workers: Processes of a trial.
            resources: Of each of them.
            patience: Seconds in which the epochs that follow a first one are sent with it.
        """
        self._patience = patience
        cpus = max(1, int(resources.get("CPU", 1)))
        self._group = (
            InProcess(program.unpack(), cpus)
            if workers == 1
            else Processes(program, workers, resources, cpus)
        )
        self._assign(config)

    def step(self) -> dict[str, Any]:
        """Wait for the trial's next epochs, or its end."""
        if not self._begun:
            self._group.begin(self._assignment)
            self._begun = True
        epochs: list[Any] = []
        until = time.monotonic() + self._patience
        while True:
            event = self._group.proceed()
            if not isinstance(event, Reported):
                return self._outcome(event, epochs)
            saved = self._count(event)
            epochs.append([self._epochs, list(event.metrics.items()), self._saved])
            # The training deletes a checkpoint once the next one is on record.
            if saved or time.monotonic() >= until:
                return self._outcome(event, epochs)

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
        self._metrics = {}
        self._begun = False

    def _count(self, report: Reported) -> bool:
        """Count an epoch, and tell whether it has a new checkpoint."""
        self._epochs += 1
        self._metrics = report.metrics
        new = report.checkpoint not in (None, self._saved)
        if new:
            self._saved, self._saved_epochs = report.checkpoint, self._epochs
        return new

    def _outcome(self, event: Event, epochs: list[Any]) -> dict[str, Any]:
        outcome: dict[str, Any] = {
            "epochs": epochs,
            "metrics": list(self._metrics.items()),
            "training_iteration": self._epochs,  # also of a trial that was continued
        }
        if isinstance(event, Reported):
            return outcome | {"event": "reported"}
        if isinstance(event, Raised):
            error = [event.kind, event.message]
            return outcome | {"event": "raised", "error": error, "done": True}
        return outcome | {"event": "ended", "done": True}
