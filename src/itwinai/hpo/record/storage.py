"""Optuna's journal storage, with an index of the trials that wait to be asked for.

Optuna looks through all trials for waiting ones whenever it is asked for a trial, so that a trial
would cost the more the more there were before it. All others it sees as points of the space.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from itwinai.hpo.record.placing import Places
from itwinai.hpo.space import SearchSpace

_WAITING = (TrialState.WAITING,)


class StudyStorage(JournalStorage):
    """A storage for one study and one writer.

    Args:
        record: Where it is written.
        space: What the study searches.
    """

    def __init__(self, record: BaseJournalBackend, space: SearchSpace) -> None:
        super().__init__(record)
        self._places = Places(space)
        self._waiting: dict[int, None] | None = None

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial, and note it if it waits."""
        trial_id = super().create_new_trial(study_id, template_trial)
        waits = template_trial is not None and template_trial.state == TrialState.WAITING
        if self._waiting is not None and waits:
            self._waiting[trial_id] = None
        return trial_id

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Set a trial's state; it does not wait any more."""
        if self._waiting is not None and state != TrialState.WAITING:
            self._waiting.pop(trial_id, None)
        return super().set_trial_state_values(trial_id, state, values)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the trials, in the order in which they were made, as points of the space."""
        if states != _WAITING:
            trials = list(map(self._places.of, super().get_all_trials(study_id, deepcopy=False)))
            if states is not None:
                trials = [trial for trial in trials if trial.state in states]
            return copy.deepcopy(trials) if deepcopy else trials
        if self._waiting is None:
            numbers = [t.number for t in super().get_all_trials(study_id, False, states)]
            ids = (self.get_trial_id_from_study_id_trial_number(study_id, n) for n in numbers)
            self._waiting = dict.fromkeys(ids)
        return [self.get_trial(trial_id) for trial_id in self._waiting]
