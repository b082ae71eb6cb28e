"""Reports in the middle of epochs: where they count, and that they count once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hand_driven import MakeStudy, ask, make_checkpoint, run_trial

from itwinai.errors import ConfigurationError
from itwinai.hpo.display.notebook import shown
from itwinai.hpo.display.sparks import Sparks
from itwinai.hpo.display.summary import summary
from itwinai.hpo.display.view import live_table, recorded
from itwinai.hpo.record import (
    StudyResult,
    attributes,
    export_study,
    load_optuna_study,
    load_study,
    plain_study,
)
from itwinai.hpo.report.trials import curves
from itwinai.hpo.study import Study
from itwinai.hpo.trial import Assignment, TrialState

ASHA = {"name": "asha", "grace_period": 0.5, "reduction_factor": 2}


def tell(study: Study, trial: Assignment, *reports: tuple[float, float]) -> str:
    """Report losses at places until the study says stop; return its last verdict."""
    verdict = "continue"
    for epochs, loss in reports:
        verdict = study.report(trial.number, {"validation_loss": loss}, None, epochs)
        if verdict == "stop":
            break
    return verdict


def quarters(loss: float, until: float) -> Iterable[tuple[float, float]]:
    return [(n / 4, loss) for n in range(1, int(4 * until) + 1)]


def end(study: Study, trial: Assignment) -> None:
    study.tell(trial.number, TrialState.COMPLETED)


def lines(result: StudyResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.record.read_text().splitlines()]


def test_a_trial_is_stopped_and_shown_in_the_middle_of_an_epoch(make_study: MakeStudy) -> None:
    study = make_study(scheduler=ASHA)
    first, second = ask(study), ask(study)
    assert tell(study, first, *quarters(0.4, 4)) == "continue"
    end(study, first)
    assert tell(study, second, (0.25, 0.9), (0.75, 0.9)) == "stop"
    end(study, second)
    result = study.close()
    best, stopped = result.trials
    assert best.at == (
        0.25,
        0.5,
        0.75,
        1,
        1.25,
        1.5,
        1.75,
        2,
        2.25,
        2.5,
        2.75,
        3,
        3.25,
        3.5,
        3.75,
        4,
    )
    assert [type(at) for at in best.at[3::4]] == [int] * 4
    assert best.state is TrialState.COMPLETED
    assert len(best.whole_epochs) == 4
    assert (stopped.state, stopped.epochs) == (TrialState.STOPPED, 0.75)
    assert stopped.reason == "asha after epoch 0.75"
    assert (result.cost.epochs, result.cost.full_epochs) == (4.75, 8)
    assert "epochs      4.75 run, 8 without early stopping: 41% saved" in str(summary(result))
    assert plain_study(result)["trials"][1]["epochs"] == 0.75
    rows = "".join(s.text for s in console().render(live_table(recorded(result, False), 40)))
    assert "0.75/4" in rows
    # For Optuna's tools the steps of a curve are whole epochs.
    whole = load_optuna_study(result.record).trials[0].intermediate_values
    assert list(whole) == [1, 2, 3, 4]


def test_curves_stand_at_the_places_of_their_reports(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(scheduler=ASHA)
    first, second = ask(study), ask(study)
    tell(study, first, (0.5, 0.6), (1, 0.4), (2.5, 0.3), (4, 0.1))
    end(study, first)
    tell(study, second, (0.75, 0.9))
    end(study, second)
    result = study.close()
    drawn = curves(result)
    points = [(row["n"], row["e"]) for row in drawn.charts[0].data]
    assert points == [(0, 0.5), (0, 1), (0, 2.5), (0, 4), (1, 0.75)]
    storage = f"sqlite:///{export_study(result, 'optuna', tmp_path / 'study.db')}"
    exported = optuna.load_study(study_name=result.name, storage=storage)
    assert exported.trials[0].intermediate_values == {1: 0.4, 4: 0.1}
    assert drawn.notes == ["Trials were stopped at these epochs above all: 0.75."]
    # A character for each epoch: of its first report there or later.
    assert Sparks(result, result.trials).of(result.trials[0]) == "▃▂▁▁"
    assert 'aria-label="4 reports"' in shown(result)._repr_html_()


def console() -> Any:
    from rich.console import Console

    return Console(width=120)


def test_whole_epochs_are_recorded_as_ever(make_study: MakeStudy) -> None:
    study = make_study()
    run_trial(study, [0.5, 0.4, 0.3, 0.2])
    kept = [entry["user_attr"] for entry in lines(study.close()) if "user_attr" in entry]
    epochs = [(key, value) for attrs in kept for key, value in attrs.items() if "epoch " in key]
    assert [key for key, _ in epochs] == ["epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    assert [len(value) for _, value in epochs] == [2] * 4


def test_an_interrupted_trial_is_neither_reported_nor_judged_twice(make_study: MakeStudy) -> None:
    def driven(interrupted: bool) -> tuple[str, StudyResult]:
        name = "interrupted" if interrupted else "whole"
        study = make_study(scheduler=ASHA, name=name)
        first, second = ask(study), ask(study)
        tell(study, first, (0.25, 0.5), (0.5, 0.5), (1, 0.5))
        held = make_checkpoint(second, 1)
        metrics = {"validation_loss": 0.4}
        study.report(second.number, metrics, held, 0.5, saved=0.4)
        study.report(second.number, metrics, held, 0.75)
        if interrupted:
            study.close()
            study = make_study(scheduler=ASHA, name=name, resume=True)
            again = [ask(study), ask(study)]
            # The first had no checkpoint, so that it begins again.
            assert sorted((t.number, t.epochs) for t in again) == [(0, 0), (1, 0.4)]
            tell(study, first, (0.25, 0.5), (0.5, 0.5), (1, 0.5))
            study.report(second.number, metrics, None, 0.5)
            study.report(second.number, metrics, None, 0.75)
        third = ask(study)
        verdict = tell(study, third, (0.5, 0.45))
        return verdict, study.close()

    (expected, whole), (found, resumed) = driven(False), driven(True)
    assert found == expected == "stop"  # the second of three at the rung; with two more it went on
    for one, other in zip(whole.trials, resumed.trials, strict=True):
        assert (one.at, one.history) == (other.at, other.history)


def test_a_newer_checkpoint_than_the_record_knows_loses_no_report(make_study: MakeStudy) -> None:
    study = make_study()
    trial = ask(study)
    tell(study, trial, (1, 0.9))
    study.report(0, {"validation_loss": 0.8}, make_checkpoint(trial, 1), 1.5, saved=1.4)
    tell(study, trial, (1.75, 0.7))
    study.close()
    study = make_study(resume=True)
    assert ask(study).epochs == 1.4
    tell(study, trial, (2, 0.6))  # it had another one at 1.8
    assert study.result().trials[0].at == (1, 1.5, 1.75, 2)


def test_a_trial_without_a_checkpoint_begins_again_without_its_reports(
    make_study: MakeStudy,
) -> None:
    study = make_study()
    trial = ask(study)
    tell(study, trial, (0.25, 0.9), (0.5, 0.8), (0.75, 0.7))
    study.close()
    study = make_study(resume=True)
    again = ask(study)
    assert (again.number, again.checkpoint) == (trial.number, None)
    tell(study, again, (0.5, 0.6))
    found = study.close().trials[0]
    assert (found.at, found.history) == ((0.5,), ({"validation_loss": 0.6},))


def test_what_a_lost_worker_reports_again_leaves_its_new_checkpoint(make_study: MakeStudy) -> None:
    study = make_study()
    trial = ask(study)
    tell(study, trial, (0.25, 0.9), (0.5, 0.8))
    again = study.continuation(0)
    newest = make_checkpoint(again, 7)
    assert study.report(0, {"validation_loss": 0.1}, newest, 0.5, saved=0.3) == "continue"
    found = study.close().trials[0]
    assert (found.at, found.metrics) == ((0.25, 0.5), {"validation_loss": 0.8})
    assert (found.checkpoint, found.checkpoint_epochs) == (Path(newest), 0.3)


def test_rungs_in_steps_survive_a_resume(make_study: MakeStudy) -> None:
    asha = {"name": "asha", "grace_period": 100, "unit": "steps", "reduction_factor": 2}
    study = make_study(scheduler=asha, epochs=1)

    def step(number: int, epochs: float, steps: int | None, loss: float) -> str:
        return study.report(number, {"validation_loss": loss}, None, epochs, steps=steps)

    first = ask(study)
    assert step(0, 0.2, 90, 0.3) == "continue"
    assert step(0, 0.3, 110, 0.3) == "continue"
    assert step(0, 1, 400, 0.3) == "continue"
    end(study, first)
    study.close()
    assert load_study(study.directory).trials[0].steps == (90, 110, 400)
    study = make_study(scheduler=asha, epochs=1, resume=True)
    second = ask(study)
    assert step(1, 0.9, 99, 0.5) == "continue"
    assert step(1, 0.95, 100, 0.5) == "stop"
    end(study, second)
    ask(study)
    assert step(2, 0.5, None, 0.1) == "stop"
    assert study.fatal is not None
    assert "unit=steps: a report did not say how many optimizer steps" in str(study.fatal)


def test_steps_are_recorded_only_where_they_count(make_study: MakeStudy) -> None:
    study = make_study()
    ask(study)
    study.report(0, {"validation_loss": 0.5}, None, 0.5, steps=7)
    assert study.close().trials[0].steps == ()


def test_a_grace_period_in_steps_is_the_users(make_study: MakeStudy) -> None:
    with pytest.raises(ConfigurationError, match="unit: steps needs a grace_period"):
        make_study(scheduler={"name": "asha", "unit": "steps"})
    with pytest.raises(ConfigurationError, match="unit"):
        make_study(scheduler={"name": "asha", "grace_period": 1, "unit": "batches"})


@pytest.mark.parametrize(
    ("unit", "level", "left", "starts"),
    [
        ("seconds", 20, 21.0, True),  # an epoch takes ten seconds: 20 after two of them
        ("seconds", 20, 19.0, False),
        ("steps", 5, 6.0, True),  # and has ten steps: five after half of it
        ("steps", 5, 4.0, False),
    ],
)
def test_what_a_trial_needs_is_known_in_any_unit(
    make_study: MakeStudy,
    monkeypatch: pytest.MonkeyPatch,
    unit: str,
    level: int,
    left: float,
    starts: bool,
) -> None:
    now = 1e6
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr("time.time", lambda: now)
    asha = {"name": "asha", "grace_period": level, "unit": unit}
    study = make_study(scheduler=asha, time_budget_s=40 + left)
    trial = ask(study)
    for epoch in range(1, 5):
        now += 10.0
        study.report(trial.number, {"validation_loss": 0.5}, None, epoch, steps=10 * epoch)
    end(study, trial)
    assert (study.ask() is not None) is starts


def test_another_study_learns_from_what_was_reported_within_epochs(make_study: MakeStudy) -> None:
    source = make_study()
    trial = ask(source)
    tell(source, trial, *quarters(0.4, 4))
    end(source, trial)
    source.close()
    study = make_study(name="later", algorithm="mfgp", warm_start=source.directory)
    (learnt,) = study._memory.observations().values()
    assert list(learnt.at) == [n / 4 for n in range(1, 17)]


def test_a_record_whose_line_of_a_part_is_damaged_says_so(make_study: MakeStudy) -> None:
    study = make_study()
    trial = ask(study)
    tell(study, trial, *quarters(0.4, 1))
    path = study.close().record
    key = attributes.epoch_key(0.75)
    assert key == "epoch 0.75"
    spoilt = path.read_text().replace('"validation_loss":0.4},', '"validation_loss":0.3},')
    path.write_text(spoilt)
    found = load_study(path).trials[0]
    assert found.at == ()


def test_a_trial_that_pauses_beyond_its_checkpoint_goes_on_in_a_later_run(
    make_study: MakeStudy,
) -> None:
    pasha = {"name": "pasha", "grace_period": 0.25, "reduction_factor": 2}
    study = make_study(scheduler=pasha, num_samples=1, epochs=2)
    trial = ask(study)
    tell(study, trial, (0.25, 0.5))
    study.report(0, {"validation_loss": 0.5}, make_checkpoint(trial, 0), 0.5, saved=0.3)
    end(study, trial)
    assert study.close().trials[0].state is TrialState.PAUSED
    study = make_study(scheduler=pasha, num_samples=1, epochs=2, resume=True)
    again = ask(study)  # the only one, so that it is trained to its end
    assert (again.number, again.epochs) == (0, 0.3)
    assert tell(study, again, (0.5, 0.5)) == "continue"  # it has paused there already
    assert study.close().trials[0].at == (0.25, 0.5)
