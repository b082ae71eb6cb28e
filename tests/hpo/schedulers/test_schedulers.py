"""What each scheduler does with its trials' losses, told by hand."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hand_driven import MakeStudy, ask, report, run_trial, simulate
from optuna.pruners import HyperbandPruner, MedianPruner, ThresholdPruner

from itwinai.errors import ConfigurationError
from itwinai.hpo.errors import StudyError
from itwinai.hpo.objectives import Objective
from itwinai.hpo.schedulers import Judge, Report, Setting, build_scheduler
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.study.copying import perturbed
from itwinai.hpo.trial import TrialState

LOSS = (Objective("loss", "min"),)
TWO = (Objective("loss", "min"), Objective("size", "min"))


def judge_of(value: Any, epochs: int = 9, judged: Sequence[Objective] = LOSS) -> Judge:
    return build_scheduler(value, Setting(epochs, judged, seed=0)).judge


def hear(judge: Judge, number: int, losses: Sequence[Any], seconds: float = 1.0) -> str:
    """Tell a trial's losses until it does not go on; return the last verdict and its epoch."""
    verdict, epoch = "continue", 0
    for epoch, loss in enumerate(losses, start=1):
        vector = loss if isinstance(loss, tuple) else (loss,)
        verdict = judge.hear(Report(number, epoch, epoch * seconds, vector))
        if verdict != "continue":
            break
    return f"{verdict} {epoch}"


def test_asha_keeps_the_best_third_at_each_rung() -> None:
    judge = judge_of({"name": "asha", "grace_period": 1})
    assert hear(judge, 0, [0.5] * 9) == "continue 9"
    assert hear(judge, 1, [0.6] * 9) == "stop 1"
    assert hear(judge, 2, [0.4] * 9) == "continue 9"
    # Of six trials at the first rung, two go on.
    assert hear(judge, 3, [0.9]) == hear(judge, 4, [0.8]) == "stop 1"
    assert hear(judge, 5, [0.45, 0.45, 0.45]) == "stop 3"


@pytest.mark.parametrize(("algorithm", "third"), [("mfgp", "continue"), ("random", "stop")])
def test_the_default_has_more_patience_with_what_a_model_proposes(
    make_study: MakeStudy, algorithm: str, third: str
) -> None:
    study = make_study(num_samples=3, epochs=9, algorithm=algorithm, scheduler="auto")
    verdicts = [report(study, ask(study), [loss] * 3) for loss in (0.1, 0.3, 0.2)]
    assert verdicts == ["continue", "stop", third]


def test_asha_may_keep_another_share() -> None:
    judge = judge_of({"name": "asha", "grace_period": 1, "keep": 0.5})
    verdicts = [hear(judge, number, [loss]) for number, loss in enumerate([0.1, 0.4, 0.3, 0.2])]
    assert verdicts == ["continue 1", "stop 1", "stop 1", "continue 1"]


def test_rungs_may_count_seconds() -> None:
    judge = judge_of({"name": "asha", "grace_period": 10, "unit": "seconds"})
    assert hear(judge, 0, [0.1] * 9, seconds=4.0) == "continue 9"
    # Ten seconds have passed with the third epoch.
    assert hear(judge, 1, [0.2] * 9, seconds=4.0) == "stop 3"
    assert hear(judge, 2, [0.3] * 9, seconds=11.0) == "stop 1"


@pytest.mark.parametrize("unit", ["steps", "seconds"])
@pytest.mark.parametrize("name", ["asha", "median", "patience", "pasha"])
def test_other_units_than_epochs_need_a_grace_period(name: str, unit: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"\({name}\): unit: {unit} needs a grace_period"):
        judge_of({"name": name, "unit": unit})


@pytest.mark.parametrize("name", ["hyperband", "bohb"])
def test_brackets_of_other_units_than_epochs_need_an_end(name: str) -> None:
    rule = {"name": name, "unit": "seconds", "grace_period": 1}
    with pytest.raises(ConfigurationError, match="unit: seconds needs a max_t"):
        judge_of(rule)
    # However far away it is.
    rungs = judge_of({**rule, "max_t": 1e12}).rungs
    assert rungs is not None
    assert len(rungs.brackets) == 21


def test_hyperband_has_brackets_that_stop_later_and_one_that_never_stops() -> None:
    judge = judge_of({"name": "hyperband", "grace_period": 1}, epochs=9)
    for number in range(40):
        hear(judge, number, [0.1] * 9)
    ends = {hear(judge, number, [0.9] * 9) for number in range(40, 80)}
    assert ends == {"stop 1", "stop 3", "continue 9"}


def test_pasha_pauses_at_its_cap_and_raises_it_when_the_ranking_changes() -> None:
    judge = judge_of({"name": "pasha", "grace_period": 1}, epochs=27)
    assert hear(judge, 0, [0.5] * 27) == "pause 3"
    assert judge.resume(more=True, running=False) is None
    assert [hear(judge, n, [loss]) for n, loss in ((2, 0.6), (3, 0.62))] == ["stop 1"] * 2
    # Better at the first rung, worse at the cap: the cap rises, and both may go on.
    assert hear(judge, 1, [0.1, 0.1, 0.9]) == "stop 3"
    assert judge.resume(more=True, running=False) == 0


def test_pasha_trains_the_best_paused_trial_to_the_end() -> None:
    judge = judge_of({"name": "pasha", "grace_period": 1}, epochs=27)
    for number, loss in ((0, 0.5), (1, 0.3)):
        assert hear(judge, number, [loss] * 27) == "pause 3"
    assert judge.resume(more=False, running=True) is None
    assert judge.resume(more=False, running=False) == 1
    judge.ended(1, completed=True)
    assert judge.resume(more=False, running=False) is None


def test_the_median_rule_compares_with_the_others_averages() -> None:
    judge = judge_of({"name": "median", "grace_period": 2})
    for number, loss in enumerate([0.1, 0.2, 0.3]):
        assert hear(judge, number, [loss] * 9) == "continue 9"
    assert hear(judge, 3, [0.9] * 9) == "stop 2"
    assert hear(judge, 4, [0.9, 0.15, 0.15]) == "continue 3"


def test_patience_counts_the_epochs_since_the_last_improvement() -> None:
    rule = {"name": "patience", "patience": 3, "min_delta": 0.05}
    assert hear(judge_of(rule), 0, [0.9, 0.8, 0.79, 0.78, 0.77, 0.76]) == "stop 5"
    assert hear(judge_of(rule), 0, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]) == "continue 6"


def test_patience_sees_an_improvement_of_many_small_steps() -> None:
    rule = {"name": "patience", "patience": 3, "min_delta": 0.05}
    assert hear(judge_of(rule), 0, [0.9 - 0.03 * epoch for epoch in range(9)]) == "continue 9"
    assert hear(judge_of(rule), 0, [0.9 - 0.01 * epoch for epoch in range(9)]) == "stop 4"


@pytest.mark.parametrize(("mode", "bad", "good"), [("min", 0.9, -0.9), ("max", 0.4, -0.9)])
def test_a_threshold_is_in_the_metrics_own_units(mode: Any, bad: float, good: float) -> None:
    # As losses: with "max" a score of 0.4 is a loss of -0.4, worse than the bound's -0.5.
    judge = judge_of({"name": "threshold", "worst": 0.5}, judged=(Objective("score", mode),))
    loss = bad if mode == "min" else -bad
    assert hear(judge, 0, [loss] * 9) == "stop 2"
    assert hear(judge, 1, [good] * 9) == "continue 9"


def test_a_threshold_needs_its_bound() -> None:
    with pytest.raises(ConfigurationError, match=r"threshold\).worst: this key is required"):
        judge_of("threshold")


def test_with_several_objectives_those_go_on_that_few_are_better_than() -> None:
    judge = judge_of({"name": "asha", "grace_period": 1, "keep": 0.5}, judged=TWO)
    assert hear(judge, 0, [(0.5, 0.5)]) == "continue 1"
    assert hear(judge, 1, [(0.6, 0.6)]) == "stop 1"  # worse in both
    assert hear(judge, 2, [(0.1, 0.9)]) == "continue 1"  # nobody is better in both
    assert hear(judge, 3, [(0.7, 0.7)]) == "stop 1"


@pytest.mark.parametrize("name", ["asha", "median", "hyperband", "patience"])
def test_a_judge_that_hears_a_record_again_judges_alike(name: str) -> None:
    first, again = judge_of(name), judge_of(name)
    curves = [
        [0.5 + 0.1 * ((7 * number + epoch) % 5) for epoch in range(9)] for number in range(12)
    ]
    for number, curve in enumerate(curves):
        heard = int(hear(first, number, curve).split()[1])
        for epoch in range(1, heard + 1):
            again.hear(Report(number, epoch, epoch, (curve[epoch - 1],)))
    for number, loss in enumerate([0.4, 0.6, 0.9], start=len(curves)):
        assert hear(first, number, [loss] * 9) == hear(again, number, [loss] * 9)


# -- in a study --------------------------------------------------------------------------------


def quadratic(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
    return {"loss": (params["x"] - 0.3) ** 2 + 1 / epoch}


def test_population_based_training_replaces_poor_members_by_copies_of_good_ones(
    make_study: MakeStudy,
) -> None:
    study = make_study(
        num_samples=8, epochs=8, scheduler={"name": "pbt", "interval": 2}, algorithm="auto"
    )
    result = simulate(study, quadratic)
    copies = [trial for trial in result.trials if trial.parent is not None]
    replaced = [trial for trial in result.trials if trial.state is TrialState.STOPPED]
    assert copies
    assert len(replaced) == len(copies)
    assert len(result.trials) == 8 + len(copies)
    for copy in copies:
        parent = result.trials[copy.parent or 0]
        # It has the epochs of its parent, and went on from there.
        begin = len([1 for a, b in zip(copy.history, parent.history, strict=False) if a == b])
        assert begin >= 2
    completed = [trial for trial in result.trials if trial.state is TrialState.COMPLETED]
    assert len(completed) == 8
    assert all(trial.epochs == 8 for trial in completed)
    # Copies cost only what they train themselves.
    assert result.cost.epochs == 8 * 8


def test_a_copy_moves_numbers_by_a_step_where_a_tenth_of_the_range_is_less() -> None:
    space = SearchSpace.parse(
        {
            "depth": {"type": "int", "lower": 1, "upper": 4},
            "dropout": {"type": "quniform", "lower": 0, "upper": 1, "q": 0.25},
        }
    )
    model, rng = {"depth": 2, "dropout": 0.5}, np.random.default_rng(0)
    copies = [perturbed(space, model, rng) for _ in range(100)]
    for name, value in model.items():
        # One in four is drawn anew, and may be as it was.
        assert sum(copy[name] == value for copy in copies) < 20
        assert {copy[name] for copy in copies} == set(space[name].grid() or ())


def test_a_copy_that_begins_again_has_epochs_of_its_own_alone(make_study: MakeStudy) -> None:
    rule = {"name": "pbt", "interval": 2}
    settings: dict[str, Any] = {"epochs": 6, "algorithm": "pbt", "scheduler": rule}
    study = make_study(**settings)
    for loss in (0.9, 0.1, 0.2, 0.3):
        run_trial(study, [loss] * 2, checkpoints=True)
    copy = ask(study)
    assert (study.result().trials[4].inherited, copy.epochs) == (2, 2)
    study._record.close()
    shutil.rmtree(copy.directory)
    study = make_study(**settings, resume=True)
    report(study, ask(study), [0.5])
    begun = study.result().trials[4]
    assert (begun.inherited, begun.at) == (0, (1,))


@pytest.mark.parametrize("scheduler", [{"name": "pbt", "interval": 2}, {"name": "pasha"}])
def test_a_pause_without_a_checkpoint_ends_the_study(
    make_study: MakeStudy, scheduler: dict[str, Any]
) -> None:
    study = make_study(epochs=9, scheduler=scheduler, algorithm="auto")
    trial = run_trial(study, [0.5] * 9)
    assert isinstance(study.fatal, StudyError)
    assert "from their last checkpoint, and trial 0 has none after epoch" in str(study.fatal)
    assert study.ask() is None
    ended = study.close().trials[trial.number]
    assert (ended.state, ended.reason) == (TrialState.FAILED, str(study.fatal))


def test_a_member_is_not_replaced_by_a_copy_with_nothing_left_to_train(
    make_study: MakeStudy,
) -> None:
    rule = {"name": "pbt", "interval": 2}
    study = make_study(epochs=4, scheduler=rule, algorithm="pbt")
    for loss in (0.1, 0.2, 0.3, 0.4):
        run_trial(study, [loss] * 2, checkpoints=True)
    best = ask(study)
    report(study, best, [0.1] * 2, checkpoints=True)  # to its last epoch, but it has not ended
    others = [ask(study) for _ in range(3)]
    assert [(trial.number, trial.epochs) for trial in others] == [(1, 2), (2, 2), (3, 2)]


def test_paused_members_go_on_after_the_study_was_interrupted(make_study: MakeStudy) -> None:
    settings: dict[str, Any] = {
        "num_samples": 4,
        "epochs": 6,
        "scheduler": {"name": "pbt", "interval": 2},
    }
    study = make_study(**settings, algorithm="pbt")
    trial = study.ask()
    assert trial is not None
    assert study.report(trial.number, quadratic(trial.params, 1), None, 1) == "continue"
    checkpoint = study.directory / "trials" / "00000" / "epoch_2"
    checkpoint.mkdir(parents=True)
    assert study.report(trial.number, quadratic(trial.params, 2), str(checkpoint), 2) == "stop"
    study.tell(trial.number, TrialState.COMPLETED)
    assert study.result().trials[0].state is TrialState.PAUSED
    study.close()
    study = make_study(**settings, algorithm="pbt", resume=True)
    asked = [study.ask() for _ in range(3)]
    assert [a.number for a in asked if a] == [1, 2, 3]
    going_on = study.ask()
    assert going_on is not None
    assert (going_on.number, going_on.epochs) == (0, 2)


@pytest.mark.parametrize("reports", [5, 13, 22, 31, 40])
@pytest.mark.parametrize("scheduler", ["pbt", "pasha", "asha", "median", "hyperband"])
def test_a_killed_study_goes_on_to_the_same_number_of_trials(
    make_study: MakeStudy, scheduler: str, reports: int
) -> None:
    settings: dict[str, Any] = {"num_samples": 8, "epochs": 9, "algorithm": "auto"}
    study = make_study(**settings, scheduler=scheduler)
    simulate(study, quadratic, reports=reports)
    result = simulate(make_study(**settings, scheduler=scheduler, resume=True), quadratic)
    own = [trial for trial in result.trials if trial.parent is None]
    assert [trial.number for trial in own] == list(range(8))
    assert not [t for t in result.trials if t.state in (TrialState.RUNNING, TrialState.INTERRUPTED)]
    assert result.best is not None
    assert result.best.epochs == 9


@pytest.mark.parametrize("killed", [False, True])
def test_after_a_resume_a_scheduler_knows_no_more_of_spared_trials_than_before(
    make_study: MakeStudy, killed: bool
) -> None:
    rule = {"name": "asha", "grace_period": 1, "keep": 0.5}
    settings: dict[str, Any] = {"num_samples": 7, "epochs": 9, "scheduler": rule, "audit": 5}
    study = make_study(**settings)
    # The first is the best, so that no other one passes the first rung.
    for loss in (0.1, 0.2, 0.3):
        run_trial(study, [loss] * 9)
    halves = [ask(study), ask(study)]
    for trial in halves:
        report(study, trial, [0.4] * 2, checkpoints=True)
    if killed:
        study._record.close()
        study = make_study(**settings, resume=True)
        halves = [ask(study), ask(study)]
    for trial in halves:
        for epoch in range(3, 10):
            study.report(trial.number, {"loss": 0.4}, None, epoch)
        study.tell(trial.number, TrialState.COMPLETED)
    # At the second rung there is the first trial alone.
    assert report(study, ask(study), [0.05, 0.05, 0.15]) == "stop"
    assert report(study, ask(study), [0.05, 0.05, 0.05]) == "continue"
    assert {t.epochs for t in study.result().trials if t.is_audited} == {9}


@pytest.mark.parametrize("killed", [False, True])
def test_values_that_are_not_finite_are_at_no_rung(make_study: MakeStudy, killed: bool) -> None:
    rule = {"name": "asha", "grace_period": 1, "keep": 0.5}
    study = make_study(scheduler=rule)
    for loss in (0.1, float("inf"), float("nan")):
        run_trial(study, [loss] * 4)
    if killed:
        study._record.close()
        study = make_study(scheduler=rule, resume=True)
    assert report(study, ask(study), [0.2]) == "stop"


def test_after_a_resume_a_copy_is_not_compared_in_turns_before_its_birth(
    make_study: MakeStudy,
) -> None:
    rule = {"name": "pbt", "interval": 2}
    settings: dict[str, Any] = {"num_samples": 7, "epochs": 6, "algorithm": "pbt"}
    study = make_study(**settings, scheduler=rule)
    for loss in (0.9, 0.8, 0.1, 0.2, 0.3, 0.4, 0.5):
        run_trial(study, [loss] * 2, checkpoints=True)
    copy = run_trial(study, [0.1] * 2, checkpoints=True)
    assert (copy.number, copy.epochs) == (7, 2)
    study._record.close()
    # One in seven is replaced at a time; of eight it would be two.
    assert ask(make_study(**settings, scheduler=rule, resume=True)).number == 1


def test_pasha_ends_with_a_trial_that_was_trained_to_the_end(make_study: MakeStudy) -> None:
    study = make_study(num_samples=12, epochs=27, scheduler="pasha")
    result = simulate(study, quadratic)
    assert result.best is not None
    assert result.best.state is TrialState.COMPLETED
    assert result.best.epochs == 27
    assert result.cost.epochs < 12 * 27 / 2


def hear_at(judge: Judge, number: int, *reports: tuple[float, float]) -> list[str]:
    """Tell a trial's losses at some places; return all verdicts."""
    return [judge.hear(Report(number, at, at, (loss,))) for at, loss in reports]


def test_trials_are_compared_at_their_first_report_after_a_rung() -> None:
    judge = judge_of({"name": "asha", "grace_period": 0.1, "reduction_factor": 3, "keep": 0.5})
    assert set(hear_at(judge, 0, (0.1, 0.5), (0.3, 0.2), (1, 0.2))) == {"continue"}
    # At its report after the rung at 0.3 it is better than the other was there.
    assert hear_at(judge, 1, (0.05, 0.9), (0.35, 0.1)) == ["continue", "continue"]
    assert hear_at(judge, 2, (0.29, 0.1), (0.3, 0.3)) == ["continue", "stop"]


def test_the_median_compares_within_tenths_of_an_epoch() -> None:
    judge = judge_of({"name": "median", "grace_period": 0.5, "min_samples_required": 1})
    assert set(hear_at(judge, 0, (0.2, 1.0), (0.5, 0.4), (1, 0.4))) == {"continue"}
    # Of half an epoch, two fifths had a loss of 1, the rest of 0.4: 0.64 on average.
    assert hear_at(judge, 1, (0.55, 0.63)) == ["continue"]
    assert hear_at(judge, 2, (0.51, 0.65), (0.58, 0.9)) == ["stop", "continue"]


def test_pruners_and_populations_go_by_whole_epochs() -> None:
    pruner = MedianPruner(n_startup_trials=1, n_warmup_steps=0)
    judge = judge_of(pruner)
    hear_at(judge, 0, (0.5, 0.1), (1, 0.1), (2, 0.1))
    judge.ended(0, completed=True)
    assert hear_at(judge, 1, (0.5, 0.9), (1, 0.9)) == ["continue", "stop"]
    population = judge_of({"name": "pbt", "interval": 2})
    assert hear_at(population, 0, (1.5, 0.1), (2, 0.1)) == ["continue", "pause"]


def test_a_pruner_knows_the_metric_in_its_own_direction() -> None:
    judged = (Objective("score", "max"),)
    bound = judge_of(ThresholdPruner(lower=0.5), judged=judged)
    assert hear(bound, 0, [-0.9] * 9) == "continue 9"  # as a loss, lower being better
    assert hear(bound, 1, [-0.4] * 9) == "stop 1"
    median = judge_of(MedianPruner(n_startup_trials=1, n_warmup_steps=0), judged=judged)
    assert hear(median, 0, [-0.8] * 9) == "continue 9"
    median.ended(0, completed=True)
    assert hear(median, 1, [-0.9] * 9) == "continue 9"
    assert hear(median, 2, [-0.7] * 9) == "stop 1"


def test_a_pruner_deals_trials_out_by_their_numbers_alone() -> None:
    def ends(numbers: Sequence[int]) -> dict[int, str]:
        judge = judge_of(HyperbandPruner(min_resource=1, max_resource=9))
        for number in range(40):
            hear(judge, number, [0.1] * 9)
            judge.ended(number, completed=True)
        return {number: hear(judge, number, [0.9] * 9) for number in numbers}

    once = ends(range(40, 60))
    assert len(set(once.values())) == 3
    # As a study that is resumed tells them, whoever reported first.
    assert ends(range(59, 39, -1)) == once


def test_a_pruner_goes_on_with_a_trial_that_runs_again_after_its_end() -> None:
    judge = judge_of(MedianPruner(n_startup_trials=1, n_warmup_steps=0))
    hear_at(judge, 0, (1, 0.1), (2, 0.1))
    judge.ended(0, completed=True)
    judge.ended(1, completed=False)  # it has reported nothing
    assert hear_at(judge, 2, (1, 0.05)) == ["continue"]
    judge.ended(2, completed=False)  # its node turned out to be at fault
    assert hear_at(judge, 2, (2, 0.05)) == ["continue"]
    assert hear_at(judge, 1, (1, 0.9)) == ["stop"]


def test_a_trial_that_runs_again_after_its_end_is_at_a_rung_once() -> None:
    judge = judge_of({"name": "asha", "grace_period": 1, "reduction_factor": 2})
    assert hear_at(judge, 0, (1, 0.9)) == ["continue"]
    judge.ended(0, completed=False)  # its node turned out to be at fault
    assert hear_at(judge, 0, (1.5, 0.1)) == ["continue"]
    # Better than the other was at the rung, though not than it is now.
    assert hear_at(judge, 1, (1, 0.5)) == ["continue"]
