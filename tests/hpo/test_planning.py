"""What a study will cost: epochs by its rungs, time by the seconds of an epoch, and advice."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from itwinai.errors import ConfigurationError
from itwinai.hpo import SearchSpace, StudyConfiguration
from itwinai.hpo.insight.forecast import Spread, epochs_expected, forecast
from itwinai.hpo.insight.powers import POWERS
from itwinai.hpo.launch import plan_study
from itwinai.hpo.planning import EpochTime, PlannedCost, plan_cost, wall_time
from itwinai.hpo.record import Setup
from itwinai.hpo.rungs import Bracket, Rungs
from itwinai.hpo.schedulers import Report, Setting, build_scheduler

SPACE = {"lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1}}
ONE_MACHINE = [{"CPU": 4.0}]


def planned(
    folder: Path,
    space: dict[str, Any] = SPACE,
    epochs: int = 30,
    nodes: list[dict[str, float]] = ONE_MACHINE,
    seconds: float | None = None,
    limit: float | None = None,
    checkpoint: float | None = None,
    **settings: Any,
) -> PlannedCost:
    """The cost of a study of 24 trials."""
    about = {"storage_path": folder, "mode": "min", "num_samples": 24, **settings}
    configuration = StudyConfiguration(**about)
    plan = plan_study(configuration, SearchSpace.parse(space), epochs, {"lr": 0.01})
    known = None if seconds is None else EpochTime(seconds, "as given")
    return plan_cost(plan, nodes, known, limit, checkpoint)


@pytest.mark.parametrize("scheduler", ["asha", "hyperband"])
def test_the_rungs_alone_give_the_mean_over_all_orders_of_the_trials(scheduler: str) -> None:
    trials, epochs = 5, 9
    built = build_scheduler({"name": scheduler, "grace_period": 3}, Setting(epochs, ()))
    totals = []
    for order in itertools.permutations(range(trials)):
        judge = build_scheduler({"name": scheduler, "grace_period": 3}, Setting(epochs, ())).judge
        total = 0
        for number, loss in enumerate(order):
            for epoch in range(1, epochs + 1):
                total += 1
                if judge.hear(Report(number, epoch, 0.0, (float(loss),))) == "stop":
                    break
        totals.append(total)
    expected = epochs_expected(built.judge.rungs, trials, epochs)
    assert expected == pytest.approx(sum(totals) / len(totals))


def test_without_a_scheduler_every_trial_trains_to_its_end(tmp_path: Path) -> None:
    cost = planned(tmp_path, scheduler="none")
    assert cost.forecast.epochs is not None
    assert cost.forecast.epochs.low == cost.forecast.epochs.high == 24 * 30
    assert "720: every trial trains to its end" in str(cost)


def test_auto_trains_fewer_epochs_and_says_how_many_pass_each_rung(tmp_path: Path) -> None:
    cost = planned(tmp_path)
    epochs, rungs = cost.forecast.epochs, cost.forecast.rungs
    assert epochs is not None
    assert epochs.low < epochs.expected < epochs.high <= cost.forecast.full == 720
    assert [rung.level for rung in rungs] == [3, 9, 27]
    assert rungs[0].reach == 24
    assert rungs[0].go_on == pytest.approx(rungs[1].reach)
    assert rungs[0].reach > rungs[0].go_on > rungs[1].go_on > rungs[2].go_on
    # The rungs shown are those of the epochs shown.
    steps = [3, 6, 18, 3]
    came = [24, *(rung.go_on for rung in rungs)]
    assert sum(n * step for n, step in zip(came, steps, strict=True)) == pytest.approx(
        epochs.expected, rel=1e-3
    )


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median"])
def test_audited_trials_are_planned_to_their_end(tmp_path: Path, scheduler: str) -> None:
    none, some, all_ = (
        planned(tmp_path, scheduler=scheduler, audit=audit, seconds=10.0) for audit in (0, 12, 24)
    )
    assert none.forecast.epochs is not None
    assert some.forecast.epochs is not None
    assert none.forecast.epochs.expected < some.forecast.epochs.expected < 720
    assert some.forecast.epochs.low > 12 * 30
    assert all_.forecast.epochs == Spread(*[pytest.approx(720)] * 3)
    assert all_.wall is not None
    assert none.wall is not None
    assert all_.wall.expected > none.wall.expected
    assert all(rung.go_on == pytest.approx(rung.reach) for rung in all_.forecast.rungs)


def test_audited_trials_leave_the_others_as_they_are() -> None:
    trials, epochs, audited = 5, 9, 2
    rule = {"name": "asha", "grace_period": 3}
    totals = []
    for order in itertools.permutations(range(trials)):
        judge = build_scheduler(rule, Setting(epochs, ())).judge
        total = 0
        for number, loss in enumerate(order):
            for epoch in range(1, epochs + 1):
                stopped = judge.hear(Report(number, epoch, 0.0, (float(loss),))) == "stop"
                if stopped:
                    break
            total += epochs if number < audited else epoch
        totals.append(total)
    rungs = build_scheduler(rule, Setting(epochs, ())).judge.rungs
    expected = epochs_expected(rungs, trials, epochs, audited=audited)
    assert expected == pytest.approx(sum(totals) / len(totals))


def test_what_was_not_measured_is_called_the_most_that_there_can_be(tmp_path: Path) -> None:
    cost = planned(tmp_path, scheduler={"name": "patience"}, seconds=1.0)
    assert cost.forecast.epochs is None
    assert "at most 720; what this scheduler saves was not measured" in str(cost)
    assert "at most" in str(cost).split("time")[1]
    job = planned(tmp_path, scheduler={"name": "patience"}, seconds=1.0, limit=60.0)
    assert job.jobs is not None
    assert f"it takes at most {job.jobs.high:.0f} jobs, each going on" in str(job)


def test_a_search_that_learns_nothing_is_expected_to_pass_less_often() -> None:
    rungs = Rungs((Bracket((2, 6, 18), 1 / 3),))
    learning = forecast(Setup("tpe", "asha", rungs), 24, 30).epochs
    random = forecast(Setup("random", "asha", rungs), 24, 30).epochs
    assert learning is not None
    assert random is not None
    assert random.expected < learning.expected
    assert random.expected == pytest.approx(epochs_expected(rungs, 24, 30), rel=0.35)


def test_every_measured_power_can_be_interpolated() -> None:
    for name, measured in POWERS.items():
        trials = [power.trials for power in measured]
        assert trials == sorted(set(trials)), name
        assert all(0 <= power.low <= power.median <= power.high for power in measured), name


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median"])
def test_the_shorter_the_training_the_less_there_is_to_gain(tmp_path: Path, scheduler: str) -> None:
    short, long = (
        planned(tmp_path, epochs=epochs, scheduler=scheduler).forecast for epochs in (6, 30)
    )
    assert short.epochs is not None
    assert long.epochs is not None
    assert short.epochs.high <= short.full == 144
    assert long.epochs.expected / long.full < short.epochs.expected / short.full < 1
    assert short.epochs.low < short.epochs.expected < short.epochs.high


def test_time_and_hours_grow_with_the_seconds_of_an_epoch(tmp_path: Path) -> None:
    once, twice = (planned(tmp_path, seconds=seconds) for seconds in (10.0, 20.0))
    assert once.wall is not None
    assert twice.wall is not None
    assert twice.wall.expected == pytest.approx(2 * once.wall.expected)
    assert once.wall.low < once.wall.expected < once.wall.high
    assert (once.slots, once.waves) == (4, 6)
    assert once.forecast.epochs is not None
    assert once.wall.expected > once.forecast.epochs.expected * 10 / 4
    hours = once.hours("CPU")
    assert hours is not None
    assert hours.expected == pytest.approx(once.wall.expected * 4 / 3600)


def test_while_the_last_trials_train_half_a_training_of_each_other_slot_is_lost() -> None:
    exact = EpochTime(10.0, "an earlier study", of_default=False)
    assert wall_time(Spread(720, 720, 720), 30, 4, exact).expected == (720 + 3 * 15) / 4 * 10
    # No study is shorter than its longest trial.
    assert wall_time(Spread(100, 100, 100), 30, 24, exact).expected == 30 * 10


def test_slots_and_gpus_are_those_that_the_study_would_get(tmp_path: Path) -> None:
    cost = planned(tmp_path, nodes=[{"CPU": 8.0, "GPU": 2.0}] * 2, seconds=1.0)
    assert (cost.slots, dict(cost.setup.per_worker)) == (4, {"GPU": 1, "CPU": 4})
    hours = cost.hours("GPU")
    assert hours is not None
    assert cost.wall is not None
    assert hours.expected == pytest.approx(cost.wall.expected * 4 / 3600)
    assert "GPU-hours" in str(cost)


def test_a_limit_tells_how_many_jobs_go_on_with_each_other(tmp_path: Path) -> None:
    free = planned(tmp_path, scheduler="none", seconds=10.0)
    assert free.wall is not None
    assert free.jobs is None
    enough = planned(tmp_path, scheduler="none", seconds=10.0, limit=free.wall.high)
    assert enough.jobs is not None
    assert enough.jobs.high == 1
    # Four jobs would do, but of each an epoch of 10 s is trained again in the next.
    short = planned(tmp_path, scheduler="none", seconds=10.0, limit=free.wall.expected / 4 + 5)
    assert short.jobs is not None
    assert short.jobs.expected == 5
    assert "are not enough: it takes" in str(short)


def test_a_budget_that_is_too_small_is_said(tmp_path: Path) -> None:
    free = planned(tmp_path, seconds=10.0)
    assert free.wall is not None
    half = planned(tmp_path, seconds=10.0, time_budget_s=free.wall.expected / 2)
    assert "study.time_budget_s ends it after" in str(half)
    assert "about 50% of that" in str(half)
    enough = planned(tmp_path, seconds=10.0, time_budget_s=free.wall.expected * 2)
    assert "time_budget_s" not in str(enough)
    # However long all of it would take, no job comes after the budget.
    assert planned(tmp_path, seconds=10.0, limit=100.0, time_budget_s=90.0).jobs == Spread(1, 1, 1)


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no job would come to the end of one"):
        planned(tmp_path, seconds=60.0, limit=59.0)
    with pytest.raises(ConfigurationError, match="above 0"):
        planned(tmp_path, seconds=-1.0)
    with pytest.raises(ConfigurationError, match="no machine here can ever give"):
        planned(tmp_path, resources_per_worker={"GPU": 1})
    with pytest.raises(ConfigurationError, match="could ever be stopped early"):
        planned(tmp_path, scheduler={"name": "asha", "grace_period": 30})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("keep", "count"), [("best", 5 + 8), ("completed", 24 + 8), ("all", 24 + 8)]
)
def test_disk_is_what_is_kept_and_what_trials_are_writing(
    tmp_path: Path, keep: str, count: int
) -> None:
    cost = planned(tmp_path, checkpoint=1e6, keep_checkpoints=keep)
    assert cost.disk == count * 1e6
    assert f"{count} MB: at most {count} checkpoints at a time, of about 1 MB each" in str(cost)
    assert planned(tmp_path).disk is None


@pytest.mark.parametrize(
    "settings",
    [
        {"metric": ["loss", "size"], "mode": ["min", "min"], "algorithm": "tpe"},
        {"scheduler": {"name": "pasha", "grace_period": 3}},
    ],
    ids=["a front", "paused trials"],
)
def test_trials_on_a_front_and_paused_ones_all_keep_theirs(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    assert planned(tmp_path, **settings).checkpoints == 24 + 8


def test_what_is_not_known_is_null_in_json(tmp_path: Path) -> None:
    content = planned(tmp_path).plain()
    assert {content[key] for key in ("seconds", "core_hours", "jobs", "disk_bytes")} == {None}
    assert content["rungs"][0]["level"] == 3
    assert content["epochs"]["low"] <= content["epochs"]["expected"] <= content["epochs"]["high"]


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"scheduler": "none"}, "times the epochs of scheduler: auto"),
        ({"resources_per_worker": {"CPU": 0.5}}, "8 processes at once share 4 cores"),
        ({"scheduler": {"name": "asha", "grace_period": 1}}, "use grace_period: 3"),
        (
            {"space": {"lr": {"type": "uniform", "lower": 1e-4, "upper": 0.1}}},
            "search_space.lr spans a factor of 1e+03 without a logarithm, so only 10% of its",
        ),
        ({"num_samples": 9}, "With 9 trials algorithm: auto has hardly begun to learn"),
    ],
)
def test_what_is_wasteful_is_said_with_its_figure(
    tmp_path: Path, settings: dict[str, Any], advice: str
) -> None:
    given = planned(tmp_path, **settings).advice
    assert len(given) == 1
    assert advice in given[0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"epochs": 3, "scheduler": "none"},
        {"space": {"lr": {"type": "uniform", "lower": 0.0, "upper": 0.1}}},
        {"space": {"lr": {"type": "uniform", "lower": 1e-3, "upper": 0.099}}},
        {"num_samples": 9, "algorithm": "random"},
        {"num_samples": 4, "space": {"lr": {"grid_search": [0.1, 0.2, 0.3]}}},
        {"num_samples": 8, "scheduler": "pbt"},
    ],
)
def test_what_is_not_wasteful_is_not_spoken_of(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert planned(tmp_path, **settings).advice == ()


def asha(unit: str, grace: float) -> dict[str, Any]:
    return {"name": "asha", "grace_period": grace, "unit": unit}


def test_rungs_in_the_middle_of_epochs_are_planned_as_they_are(tmp_path: Path) -> None:
    cost = planned(tmp_path, epochs=1, scheduler={"name": "asha", "grace_period": 0.1})
    assert [rung.level for rung in cost.forecast.rungs] == [0.1, 0.3, 0.9]
    assert cost.forecast.epochs is not None
    assert cost.forecast.epochs.expected < 15
    assert "after epoch 0.1 about" in str(cost)


def test_rungs_in_seconds_are_planned_once_the_pace_is_known(tmp_path: Path) -> None:
    known = planned(tmp_path, scheduler=asha("seconds", 30), seconds=10.0)
    same = planned(tmp_path, scheduler={"name": "asha", "grace_period": 3}, seconds=10.0)
    assert known.forecast.rungs == same.forecast.rungs
    assert known.forecast.epochs == same.forecast.epochs
    unknown = planned(tmp_path, scheduler=asha("seconds", 30))
    assert unknown.forecast.epochs is None
    assert (
        "rungs       by seconds; after which epochs is not known: give the seconds of an epoch, an "
        "earlier study, or allow a probe" in str(unknown)
    )
    assert "at most 720" in str(unknown)


def test_rungs_in_steps_are_planned_once_the_steps_of_an_epoch_are_known(tmp_path: Path) -> None:
    unknown = planned(tmp_path, scheduler=asha("steps", 300), seconds=10.0)
    assert "rungs       by steps; after which epochs is not known: allow a probe" in str(unknown)
    configuration = StudyConfiguration(
        storage_path=tmp_path, mode="min", num_samples=24, scheduler=asha("steps", 300)
    )
    plan = plan_study(configuration, SearchSpace.parse(SPACE), 30, {"lr": 0.01})
    cost = plan_cost(plan, ONE_MACHINE, EpochTime(10.0, "measured", steps=100))
    assert [rung.level for rung in cost.forecast.rungs] == [3, 9, 27]


def test_a_grace_period_in_seconds_makes_no_rungs(tmp_path: Path) -> None:
    cost = planned(tmp_path, scheduler={"name": "median", "grace_period": 60, "unit": "seconds"})
    assert "rungs" not in str(cost)
    assert cost.forecast == planned(tmp_path, scheduler="median").forecast
