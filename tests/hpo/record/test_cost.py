"""What a study has spent, by its record."""

from __future__ import annotations

import pytest
from hand_driven import Clock, MakeStudy, ask, make_checkpoint, simulate

from itwinai.hpo.insight import spent_by
from itwinai.hpo.planning import epoch_time_of
from itwinai.hpo.record import Cost, Setup, load_study
from itwinai.hpo.report.effort import cost as section_of
from itwinai.hpo.study import Study
from itwinai.hpo.trial import Assignment, TrialState


def train(study: Study, clock: Clock, trial: Assignment, *epochs: int, loss: float = 0.5) -> None:
    """Train epochs of a second, with a checkpoint at each."""
    for epoch in epochs:
        clock.now += 1.0
        study.report(trial.number, {"loss": loss}, make_checkpoint(trial, epoch), epoch)


def cost_of(study: Study) -> Cost:
    return load_study(study.directory).cost


def test_what_was_trained_counts_while_it_runs_and_after_kill_9(
    make_study: MakeStudy, clock: Clock
) -> None:
    settings = {"num_samples": 1, "epochs": 4}
    study = make_study(**settings)
    study.note_setup(Setup("random", "none", slots=1, per_worker={"CPU": 8.0}))
    trial = ask(study)
    train(study, clock, trial, 1, 2, 3)
    assert cost_of(study).seconds == pytest.approx(3)
    clock.now += 0.5  # of the epoch that is lost
    study._record.close()
    for reports in ([4], []):
        study = make_study(**settings, resume=True)
        trial = ask(study)
        assert trial.epochs == (3 if reports else 4)
        train(study, clock, trial, *reports)
        assert cost_of(study).seconds == pytest.approx(4)
        study._record.close()
    study = make_study(**settings, resume=True)
    study.tell(ask(study).number, TrialState.COMPLETED)
    result = study.close()
    assert (result.cost.epochs, result.cost.seconds) == (4, pytest.approx(4))
    assert spent_by(result).core_hours == pytest.approx(8 * 4 / 3600)
    assert [attempt.epochs for attempt in result.attempts] == [3, 1, 0, 0]
    assert [attempt.seconds for attempt in result.attempts] == pytest.approx([3, 1, 0, 0])


def test_a_run_that_was_killed_has_used_its_time_budget(
    make_study: MakeStudy, clock: Clock
) -> None:
    study = make_study(time_budget_s=10.0)
    train(study, clock, ask(study), 1)
    study._record.close()
    study = make_study(time_budget_s=0.9, resume=True)
    assert study.finished
    study._record.close()
    assert not make_study(time_budget_s=1.1, resume=True).finished


def test_a_copy_has_cost_only_what_it_trained_itself(make_study: MakeStudy, clock: Clock) -> None:
    pbt = {"name": "pbt", "interval": 2}
    study = make_study(num_samples=4, epochs=4, algorithm="pbt", scheduler=pbt)
    for loss in (0.1, 0.2, 0.3, 0.4):  # the last will be replaced
        member = ask(study)
        train(study, clock, member, 1, 2, loss=loss)
        study.tell(member.number, TrialState.COMPLETED)
    copy = next(trial for trial in iter(study.ask, None) if trial.number == 4)
    train(study, clock, copy, 3)
    attempt = load_study(study.directory).attempts[-1]
    assert (attempt.trial, attempt.start, attempt.epochs) == (4, 2, 1)
    assert attempt.seconds == pytest.approx(1)


def test_the_start_of_processes_holds_slots_and_is_no_part_of_an_epoch(
    make_study: MakeStudy, clock: Clock
) -> None:
    study = make_study(num_samples=1, epochs=2)
    trial = ask(study)
    clock.now += 30.0
    study.note_training(trial.number, 0.0)
    train(study, clock, trial, 1, 2)
    study.tell(trial.number, TrialState.COMPLETED)
    result = study.close()
    assert result.cost.seconds == pytest.approx(32)
    assert epoch_time_of(study.directory).seconds == pytest.approx(1)
    rows = section_of(result).tables[0].rows
    assert rows == [["completed", "1", "2", "32 s"], ["all", "1", "2", "32 s"]]


def test_what_is_trained_again_after_a_lost_process_has_cost_something(
    make_study: MakeStudy,
) -> None:
    study = make_study(num_samples=1, epochs=8)
    trial = ask(study)
    checkpoint = make_checkpoint(trial, 4)
    # Its process is lost after epoch 6, again after 5, and after 7.
    for epoch in (1, 2, 3, 4, 5, 6, *(5,), *(5, 6, 7), *(5, 6, 7)):
        study.report(trial.number, {"loss": 0.5}, None if epoch < 4 else checkpoint, epoch, saved=4)
    assert cost_of(study).epochs == 6 + 1 + 3 + 3
    study._record.close()
    study = make_study(num_samples=1, epochs=8, resume=True)
    trial = ask(study)
    assert trial.epochs == 4
    for epoch in (5, 6, 7, 8):
        study.report(trial.number, {"loss": 0.5}, None, epoch)
    study.tell(trial.number, TrialState.COMPLETED)
    cost = study.close().cost
    assert (cost.epochs, cost.full_epochs) == (6 + 1 + 3 + 3 + 4,) * 2


def test_a_population_costs_no_more_than_its_members_would_without_copies(
    make_study: MakeStudy,
) -> None:
    pbt = {"name": "pbt", "interval": 2}
    study = make_study(num_samples=4, epochs=10, algorithm="pbt", scheduler=pbt)
    result = simulate(study, lambda p, e: {"loss": abs(p["x"] - 0.3) + 1 / e}, slots=2)
    assert any(trial.parent is not None for trial in result.trials)
    assert result.cost.epochs <= result.cost.full_epochs == 4 * 10
    *rows, whole = section_of(result).tables[0].rows
    assert sum(int(row[2]) for row in rows) == int(whole[2]) == result.cost.epochs


def test_a_setup_without_audited_trials_is_kept_as_earlier_versions_read_it() -> None:
    assert "audit" not in Setup("random", "none").kept()
    audited = Setup("random", "none", audit=2)
    assert Setup.read(audited.kept()) == audited
