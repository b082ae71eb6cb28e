"""Whether a winner is better than the default: the test, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hand_driven import X, build_study, simulate

from itwinai.hpo import confirm
from itwinai.hpo.display.confirmed import confirmed
from itwinai.hpo.display.summary import summary
from itwinai.hpo.errors import StudyError
from itwinai.hpo.functions.step import FunctionTrainer
from itwinai.hpo.insight import Confirmation, diagnose, ledger, read_confirmation, sequential_gain
from itwinai.hpo.record import load_study

#: Eight reruns of a default, with a deviation of about one.
DEFAULT = [0.1, -1.2, 0.9, 0.4, -0.3, 1.1, -0.8, 0.2]


def shifted(by: float) -> list[float]:
    """The same in another order, and better."""
    return [value + by for value in reversed(DEFAULT)]


@pytest.mark.parametrize(
    ("gain", "verdict", "reruns"),
    [
        (6.0, "better", 3),
        (2.0, "better", 5),
        (0.8, "not decided", 8),
        (-3.0, "no significant gain", 3),
    ],
)
def test_the_test_looks_after_three_five_and_eight_reruns(
    gain: float, verdict: str, reruns: int
) -> None:
    found = sequential_gain(shifted(gain), DEFAULT, "max")
    assert found is not None
    assert (found.verdict, found.reruns) == (verdict, reruns)
    assert found.low < found.mean < found.high
    mirrored = sequential_gain(
        [-value for value in shifted(gain)], [-value for value in DEFAULT], "min"
    )
    assert mirrored == found


def test_nothing_is_said_before_three_reruns_of_each() -> None:
    assert sequential_gain(shifted(9), DEFAULT[:2], "max") is None


def test_several_candidates_need_more_evidence() -> None:
    alone = sequential_gain(shifted(1.2), DEFAULT, "max")
    among = sequential_gain(shifted(1.2), DEFAULT, "max", candidates=10)
    assert alone is not None
    assert among is not None
    assert (alone.verdict, among.verdict) == ("better", "not decided")
    assert (alone.mean, alone.low) == (among.mean, among.low)


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "better"), (0.0, "no significant gain")])
def test_trainings_that_no_seed_changes_are_compared_as_they_are(gain: float, verdict: str) -> None:
    found = sequential_gain([1.0 + gain] * 3, [1.0] * 3, "max")
    assert found is not None
    assert (found.verdict, found.low, found.high) == (
        verdict,
        pytest.approx(gain),
        pytest.approx(gain),
    )


def confirmation_of_losses(folder: Path, losses: Mapping[int, Sequence[float]]) -> Confirmation:
    """A study whose best trial is 1, and reruns of it and of the default with these losses."""
    study = build_study(folder, epochs=1, name="study", num_samples=3, default={"x": 0.5})
    simulate(study, lambda params, epoch: {"validation_loss": {0.5: 1.0}.get(params["x"], 0.7)})
    study.close()
    points = [{"trial": t, "rerun": n} for n in range(8) for t in losses if n < len(losses[t])]
    space = {
        "trial": {"type": "choice", "categories": list(losses)},
        "rerun": {"type": "choice", "categories": list(range(8))},
    }
    settings: dict[str, Any] = {"points": points, "num_samples": len(points)}
    own = build_study(folder / "study", space, 1, name="confirmation", **settings)
    simulate(own, lambda p, e: {"validation_loss": losses[p["trial"]][p["rerun"]]})
    own.close()
    found = read_confirmation(load_study(folder / "study"))
    assert found is not None
    return found


def test_a_winner_that_is_none_is_told_beside_what_was_promised(tmp_path: Path) -> None:
    losses = {1: [1.1, 0.9, 1.0, 9.0], 0: [0.9, 1.0, 1.0, 9.0]}
    found = confirmation_of_losses(tmp_path, losses)
    assert found.is_decided
    line, no_test = confirmed(found)
    assert no_test.startswith("trial 1: not on a test set: none was given")
    assert line.startswith("trial 1: no significant gain: -0.03333 [")
    assert line.endswith("by 3 reruns of each; the study's record promised 0.3")


@pytest.mark.parametrize(("gain", "kinds"), [(0.9, []), (0.1, ["noise"])])
def test_a_lead_that_reruns_prove_is_not_called_luck(
    tmp_path: Path, gain: float, kinds: list[str]
) -> None:
    default = [1.0, 1.4, 0.6, 1.2, 0.8]
    losses = {1: [value - gain for value in default], 0: default}
    found = confirmation_of_losses(tmp_path, losses)
    assert found.proves(1) == (not kinds)
    assert [finding.kind for finding in diagnose(found.study)] == kinds


def test_reruns_that_are_all_alike_are_told(tmp_path: Path) -> None:
    found = confirmation_of_losses(tmp_path, {1: [0.5] * 3, 0: [0.9] * 3})
    lines = confirmed(found)
    assert lines[0].startswith("trial 1: better by 0.4 [")
    assert lines[2].startswith("trial 1: all reruns gave the same numbers: no seed changes this")


def test_reruns_that_diverge_count_for_nothing_and_are_told(tmp_path: Path) -> None:
    losses = {1: [0.1, math.nan, 0.12, 0.11], 0: [0.9, 1.0, 1.1, 1.0]}
    found = confirmation_of_losses(tmp_path, losses)
    assert found.values(1, "validation_loss") == [0.1, 0.12, 0.11]
    assert found.failed(1) == 1
    lines = confirmed(found)
    assert lines[0].startswith("trial 1: better by 0.89 [")
    assert lines[2] == "trial 1: 1 rerun of it came to nothing, and count for nothing here"


def test_the_last_look_is_at_all_reruns_that_came_to_something(tmp_path: Path) -> None:
    losses = {1: [0.85, 1, 0.95, 0.9, math.nan], 0: [1, 0.9, 1.1, 1.05, 1]}
    found = confirmation_of_losses(tmp_path, losses)
    gain = found.gain(1)
    assert gain is not None
    assert (gain.verdict, gain.reruns, found.is_decided) == ("not decided", 4, True)


def test_a_confirmation_that_cannot_be_read_leaves_its_study_legible(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = confirmation_of_losses(tmp_path, {1: [0.5] * 3, 0: [0.9] * 3})
    folder = tmp_path / "study"
    record = folder / "confirmation" / "record.log"
    record.write_text("not a line of a record\n")
    caplog.set_level("WARNING", logger="itwinai")
    for _ in range(2):
        assert read_confirmation(found.study) is None
    assert str(summary(found.study)).startswith("study       study, 3 trials")
    assert list(ledger(tmp_path)) == [folder]
    assert caplog.text.count("a confirmation is left out, as it cannot be read: ") == 1
    record.unlink()
    assert list(ledger(tmp_path)) == [folder]


def test_a_trial_whose_values_are_lost_is_none_of_the_best(tmp_path: Path) -> None:
    found = confirmation_of_losses(tmp_path, {1: [0.5] * 3, 0: [0.9] * 3})
    record = tmp_path / "study" / "record.log"
    lines = record.read_text().splitlines(keepends=True)
    damaged = [line for line in lines if '"trial_id":2,"user_attr":{"epoch 1"' not in line]
    record.write_text("".join(damaged))
    settings = {"metric": "validation_loss", "mode": "min", "storage_path": str(tmp_path)}
    function = FunctionTrainer(lambda config, trial: None, X, {"x": 0.5}, study=settings)
    study = load_study(tmp_path / "study")
    assert study.trials[2].metrics == {}
    assert confirm(function, [None], study, top=2).candidates == found.candidates == (1,)


def test_reruns_of_what_was_the_best_say_nothing_of_what_is(tmp_path: Path) -> None:
    found = confirmation_of_losses(tmp_path, {1: [0.5, 0.51, 0.52], 0: [0.9, 0.92, 0.91]})
    assert "expected gain" not in str(summary(found.study))
    settings = {"epochs": 1, "name": "study", "num_samples": 4, "default": {"x": 0.5}}
    study = build_study(tmp_path, resume=True, **settings)
    simulate(study, lambda params, epoch: {"validation_loss": 0.1})
    extended = study.close()
    assert extended.best is not None
    assert extended.best.number == 3
    assert "; itwinai.hpo.confirm in the program" in str(summary(extended))
    options = {"metric": "validation_loss", "mode": "min", "storage_path": str(tmp_path)}
    function = FunctionTrainer(lambda config, trial: None, X, {"x": 0.5}, study=options)
    with pytest.raises(StudyError, match="compare trial 1 with the default, and not trial 3"):
        confirm(function, [None], extended)


def test_a_confirmation_goes_on_with_as_many_reruns_as_it_began_with(tmp_path: Path) -> None:
    found = confirmation_of_losses(tmp_path, {1: [0.85, 1], 0: [1, 0.9]})
    options = {"metric": "validation_loss", "mode": "min", "storage_path": str(tmp_path)}
    function = FunctionTrainer(lambda config, trial: None, X, {"x": 0.5}, study=options)
    with pytest.raises(StudyError, match="begun with seeds=2, and not at its end"):
        confirm(function, [None], found.study)


def test_more_reruns_of_what_is_not_decided_are_refused_instead_of_forgotten(
    tmp_path: Path,
) -> None:
    found = confirmation_of_losses(tmp_path, {1: [0.85, 1, 0.95, 0.9], 0: [1, 0.9, 1.1, 1.05]})
    settings = {"metric": "validation_loss", "mode": "min", "storage_path": str(tmp_path)}
    function = FunctionTrainer(lambda config, trial: None, X, {"x": 0.5}, study=settings)
    again = confirm(function, [None], found.study, seeds=4)
    assert [line.partition(":")[2][:12] for line in confirmed(again)][:1] == [" not decided"]
    with pytest.raises(StudyError, match="4 reruns of each have not decided, and no more can be"):
        confirm(function, [None], found.study, seeds=20)
