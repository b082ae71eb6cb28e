"""What reruns tell of a study's winner, in words."""

from __future__ import annotations

from collections.abc import Iterator

from itwinai.hpo.display.words import interval, number, plural
from itwinai.hpo.insight import Confirmation, Gain

_ALIKE = (
    "all reruns gave the same numbers: no seed changes this training, or it sets one of its own, "
    "and then they prove nothing"
)


def confirmed(confirmation: Confirmation) -> list[str]:
    """Say of each candidate whether it is better than the default, and by how much."""
    return [
        f"trial {candidate}: {line}"
        for candidate in confirmation.candidates
        for line in _of(confirmation, candidate)
    ]


def gained(gain: Gain) -> str:
    """Say a verdict with its interval."""
    mean, low, high = interval(gain.mean, gain.low, gain.high, digits=4)
    if gain.verdict == "better":
        return f"better by {mean} [{low}, {high}], 95 %"
    sign = "+" if gain.mean >= 0 else ""
    return f"{gain.verdict}: {sign}{mean} [{low}, {high}], 95 %"


def _of(confirmation: Confirmation, candidate: int) -> Iterator[str]:
    gain = confirmation.gain(candidate)
    if gain is None:
        yield "not decided: too few reruns have ended"
        return
    promised = _promised(confirmation, candidate)
    yield f"{gained(gain)}, by {plural(gain.reruns, 'rerun')} of each{promised}"
    on_test = confirmation.gain_on_test(candidate)
    if on_test is not None:
        yield f"on the test set {gained(on_test)}"
    if confirmation.is_decided and not confirmation.tells_test:
        yield "not on a test set: none was given, or the training reports nothing of one"
    if confirmation.is_alike(candidate) and confirmation.is_alike(confirmation.default):
        yield _ALIKE
    for arm, name in ((candidate, "it"), (confirmation.default, "the default")):
        failed = confirmation.failed(arm)
        if failed:
            yield f"{plural(failed, 'rerun')} of {name} came to nothing, and count for nothing here"


def _promised(confirmation: Confirmation, candidate: int) -> str:
    """What the study's record had promised."""
    study = confirmation.study
    (trial,) = (trial for trial in study.trials if trial.number == candidate)
    promise = study.lead(trial)
    if promise is None:
        return ""
    return f"; the study's record promised {number(promise)}"
