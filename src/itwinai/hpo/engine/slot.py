"""A trial slot: Ray Tune's unit of scheduling, reused from trial to trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune

from itwinai.hpo.engine.group import InProcess, Processes, TrialGroup
from itwinai.hpo.engine.worker import Event, Raised, Reported
from itwinai.hpo.trial import Assignment

#: Key of a Tune configuration under which the assignment travels; the others are hyper-parameters.
ASSIGNMENT = "itwinai_assignment"

_STATE_FILE = "progress.json"


class TrialSlot(tune.Trainable):  # type: ignore[misc]
    """Runs trials one after another in a warm group of processes.

    A result's ``event`` says what happened: ``reported``, ``ended`` or ``raised``.
    """

    def setup(
        self,
        config: dict[str, Any],
        program: list[ray.ObjectRef],
        workers: int,
        resources: Mapping[str, float],
    ) -> None:
        """Start the processes, and the first trial in them.

        ``program`` is a list of one reference, so that a slot that only supervises others does not
        load it.
        """
        cpus = max(1, int(resources.get("CPU", 1)))
        self._group: TrialGroup = (
            InProcess(ray.get(program[0]), cpus)
            if workers == 1
            else Processes(program[0], workers, resources, cpus)
        )
        self._assign(config)

    def step(self) -> dict[str, Any]:
        """Wait for the trial's next event."""
        if not self._begun:
            self._group.begin(self._assignment)
            self._begun = True
        event = self._group.proceed()
        if isinstance(event, Reported):
            self._last = event
            self._epochs += 1
        return self._last.metrics | self._outcome(event)

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
        state = {"checkpoint": self._last.checkpoint, "epochs": self._epochs}
        Path(checkpoint_dir, _STATE_FILE).write_text(json.dumps(state))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on with a paused trial."""
        state = json.loads(Path(checkpoint_dir, _STATE_FILE).read_text())
        if state["checkpoint"] is not None:
            self._assignment = Assignment(**{**vars(self._assignment), **state})
            self._epochs = state["epochs"]

    def _assign(self, config: Mapping[str, Any]) -> None:
        self._assignment = Assignment(**config[ASSIGNMENT])
        self._epochs = self._assignment.epochs
        self._last = Reported({}, self._assignment.checkpoint)
        self._begun = False

    def _outcome(self, event: Event) -> dict[str, Any]:
        outcome: dict[str, Any] = {"epoch": self._epochs}
        if isinstance(event, Reported):
            names = list(event.metrics)
            return outcome | {"event": "reported", "names": names, "saved": event.checkpoint}
        if isinstance(event, Raised):
            return outcome | {"event": "raised", "error": vars(event), "done": True}
        return outcome | {"event": "ended", "done": True}
