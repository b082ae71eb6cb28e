"""Records with random damage: what is left is as it was written, and what is lost is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hand_driven import MakeStudy, ask, report, run_trial

from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import StudyResult, load_study
from itwinai.hpo.trial import TrialState

SPACE = {
    "optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1, "default": 0.01},
    "optimizer": {"type": "choice", "categories": ["sgd", "adam"]},
    "optim_momentum": {
        "type": "uniform",
        "lower": 0.0,
        "upper": 0.9,
        "only_if": {"optimizer": ["sgd"]},
    },
    "batch_size": {"type": "constant", "value": 16},
}
#: States in which a trial may be once its end is lost.
UNENDED = {TrialState.RUNNING, TrialState.INTERRUPTED}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Change a record as disks, editors and copies do."""
    place, length = rng.randrange(len(content)), rng.choice([1, 1, 2, 20, 400])
    after = content[place + length :]
    lines = content.splitlines(keepends=True)
    one, other = sorted(rng.sample(range(len(lines)), 2))
    kind = rng.randrange(8)
    if kind == 0:  # a bit
        return (
            content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
        )
    if kind == 1:
        return content[:place] + rng.randbytes(length) + after
    if kind == 2:
        return content[:place] + after
    if kind == 3:
        return content[:place] + rng.randbytes(length) + content[place:]
    if kind == 4:  # a page that was never written
        return content[:place] + bytes(min(length, len(content) - place)) + after
    if kind == 5:
        del lines[one : one + rng.choice([1, 1, 3])]
    elif kind == 6:
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines.insert(other, lines[one])
    return b"".join(lines)


def check_nothing_else_is_read(read: StudyResult, whole: StudyResult) -> None:
    """Every value is the one that was written, or it is missing."""
    originals = {trial.number: trial for trial in whole.trials}
    for trial in read.trials:
        original = originals[trial.number]
        written = dict(zip(original.at, original.history, strict=True))
        for epochs, metrics in zip(trial.at, trial.history, strict=True):
            assert repr(metrics) == repr(written[epochs])  # NaN equals nothing
        assert len(trial.history) <= len(original.history)
        assert trial.params.items() <= original.params.items()
        if trial.state is not original.state:
            lost = trial.state is TrialState.FAILED and "damaged" in trial.reason
            assert trial.state in UNENDED or lost
        elif trial.state is TrialState.COMPLETED:
            assert trial.params == original.params


@pytest.mark.parametrize(
    "number", [*range(20), *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(20, 200))]
)
def test_random_damage(
    make_study: MakeStudy, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    study = make_study(space=SPACE, epochs=3, num_samples=8, points=[{"optim_lr": 0.05}])
    for losses in ([0.3, 0.2, 0.1], [0.9, 0.8, 0.7], [0.5, float("nan")], [0.6, 0.5, 0.4]):
        run_trial(study, losses)
    report(study, ask(study), [0.2])
    whole = study.close()
    content, rng = whole.record.read_bytes(), random.Random(number)
    for _ in range(25):
        caplog.clear()
        changed = damaged(content, rng)
        whole.record.write_bytes(changed)
        read = read_or_refused(whole.record)
        if read is None:
            continue
        check_nothing_else_is_read(read, whole)
        kept = content.startswith(changed[: changed.rfind(b"\n") + 1])
        assert ("damaged, and left out" in caplog.text) != kept


def read_or_refused(record: Path) -> StudyResult | None:
    """Read a study, or be told in which line what it needs is damaged."""
    try:
        return load_study(record)
    except StudyError as error:
        told = str(error)
    assert "the line is damaged" in told or "holds no study" in told
    return None
