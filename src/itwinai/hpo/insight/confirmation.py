"""A study's confirmation: reruns of its best trials and its default, kept as a study of their own.

It lies in the folder ``confirmation`` of the study's. Its trials are reruns; their values say which
trial each repeats, and as which of its reruns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import itwinai
from itwinai.hpo.errors import StudyError
from itwinai.hpo.insight.confirming import LOOKS, Gain, looks, sequential_gain
from itwinai.hpo.objectives import Mode
from itwinai.hpo.record import FILE_NAME, StudyResult, load_study
from itwinai.hpo.trial import OPEN, TrialResult, TrialState, full_name

#: Name of the confirmation, as a study and as a folder.
NAME = "confirmation"

#: Names of what its trials repeat.
TRIAL, RERUN = "trial", "rerun"

#: How the metrics of the validation and of the test set begin.
_VALIDATION, _TEST = "validation_", "test_"


@dataclass(frozen=True)
class Confirmation:
    """What reruns from fresh seeds tell of a study's best trials.

    Attributes:
        study: The study.
        candidates: Numbers of the trials that are compared with the default; the best one first.
        default: Number of the default trial.
        most: Reruns of each at most.
        reruns: The reruns of each of these trials, in the order of their seeds.
    """

    study: StudyResult
    candidates: tuple[int, ...]
    default: int
    most: int
    reruns: Mapping[int, tuple[TrialResult, ...]]

    def gain(self, candidate: int) -> Gain | None:
        """What a candidate gains by the study's metric; None until three reruns of each ended."""
        return self._gain(candidate, self.study.metric, looks(self._most_of(candidate)))

    def proves(self, trial: int) -> bool:
        """Whether the reruns of a trial call it better than the default."""
        gain = self.gain(trial) if trial in self.candidates else None
        return gain is not None and gain.verdict == "better"

    def gain_on_test(self, candidate: int) -> Gain | None:
        """The same on the test set, by all reruns; None without one, or before the verdict."""
        name = _on_test(self.study.metric)
        if name is None or not self.is_decided:
            return None
        arms = (candidate, self.default)
        count = min(len(self.values(arm, name)) for arm in arms)
        # Nothing was decided by the test set, so every rerun counts, and there is one look.
        return self._gain(candidate, name, [count]) if count > 1 else None

    @property
    def is_decided(self) -> bool:
        """Whether no further rerun would be looked at."""
        return all(map(self._is_decided, self.candidates))

    @property
    def has_verdicts(self) -> bool:
        """Whether each candidate was found better than the default, or not to gain."""
        gains = [self.gain(candidate) for candidate in self.candidates]
        return all(gain and gain.verdict != "not decided" for gain in gains)

    @property
    def tells_test(self) -> bool:
        """Whether the metric has one on a test set, and its candidates' reruns have told it."""
        name = _on_test(self.study.metric)
        return name is not None and all(self.values(n, name) for n in self.candidates)

    def is_alike(self, number: int) -> bool:
        """Whether all reruns of a trial, several of them, gave the same number."""
        values = self.values(number, self.study.metric)
        return len(values) > 1 and len(set(values)) == 1

    def failed(self, number: int) -> int:
        """How many reruns of a trial came to nothing."""
        return sum(_is_failure(trial) for trial in self.reruns[number])

    def values(self, number: int, metric: str) -> list[float]:
        """A metric of the completed reruns of a trial, in the order of their seeds.

        They end before the first rerun that has not ended, so that none is looked at because it
        was quick.
        """
        values = []
        for trial in self.reruns[number]:
            if trial.state in (*OPEN, TrialState.RUNNING):
                break
            value = trial.metric(metric)
            if trial.state is TrialState.COMPLETED and value is not None:
                values.append(value)
        return values

    @property
    def _mode(self) -> Mode:
        return self.study.objectives[0].mode

    def _is_decided(self, candidate: int) -> bool:
        gain = self.gain(candidate)
        if gain is None:
            return False
        return gain.verdict != "not decided" or gain.reruns >= self._most_of(candidate)

    def _most_of(self, candidate: int) -> int:
        """Reruns of each that there can be, beside those that came to nothing; 3 or more."""
        lost = max(self.failed(number) for number in (candidate, self.default))
        return max(self.most - lost, LOOKS[0])

    def _gain(self, candidate: int, metric: str, looks_at: Sequence[int]) -> Gain | None:
        return sequential_gain(
            self.values(candidate, metric),
            self.values(self.default, metric),
            self._mode,
            looks_at,
            candidates=len(self.candidates),
        )


def read_confirmation(study: StudyResult) -> Confirmation | None:
    """Read a study's confirmation from its folder; None if there is none, or it cannot be read."""
    record = study.record.parent / NAME / FILE_NAME
    if not record.is_file():
        return None
    try:
        return confirmation_of(study, load_study(record))
    except StudyError as error:  # what the study itself tells does not depend on it
        _tell_unreadable(str(error))
        return None


@cache
def _tell_unreadable(problem: str) -> None:
    itwinai.logger.warning("warning: a confirmation is left out, as it cannot be read: %s", problem)


def confirmation_of(study: StudyResult, own: StudyResult) -> Confirmation | None:
    """Put a confirmation together from its study and its own record; None before its begin."""
    default = study.default
    numbers = list(dict.fromkeys(int(trial.params[TRIAL]) for trial in own.trials))
    if default is None or default.number not in numbers:
        return None
    by_trial = {number: _reruns(own.trials, number) for number in numbers}
    candidates = tuple(number for number in numbers if number != default.number)
    return Confirmation(study, candidates, default.number, own.total // len(numbers), by_trial)


def _reruns(trials: Sequence[TrialResult], number: int) -> tuple[TrialResult, ...]:
    own = [trial for trial in trials if trial.params[TRIAL] == number]
    return tuple(sorted(own, key=lambda trial: int(trial.params[RERUN])))


def _on_test(metric: str) -> str | None:
    """A metric's name on the test set; None of one that is not of the validation set."""
    name = full_name(metric)
    return _TEST + name.removeprefix(_VALIDATION) if name.startswith(_VALIDATION) else None


def _is_failure(trial: TrialResult) -> bool:
    return trial.state not in (TrialState.COMPLETED, TrialState.RUNNING, *OPEN)
