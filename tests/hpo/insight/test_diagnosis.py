"""Findings about a study: each where it is, and none where it is not."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hand_driven import Curve, build_study, run_trial, simulate
from typer.testing import CliRunner

from itwinai.cli import app
from itwinai.errors import ConfigurationError
from itwinai.hpo import StudyResult, load_study
from itwinai.hpo.insight import Finding, diagnose, merged
from itwinai.hpo.record import Attempt, Setup, Start
from itwinai.hpo.rungs import Bracket, Rungs
from itwinai.hpo.schedulers import Setting, build_scheduler
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import TrialState

SPACE = {
    "optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 1e-1},
    "width": {"type": "randint", "lower": 16, "upper": 257},
    "act": {"type": "choice", "categories": ["relu", "tanh"]},
}
EPOCHS = 9


def bowl(best: float) -> Callable[[Mapping[str, Any]], float]:
    """A loss that is the lowest at a learning rate of ten to this power, and at width 128."""

    def final(params: Mapping[str, Any]) -> float:
        away = (params["width"] - 128) / 240
        return float((math.log10(params["optim_lr"]) - best) ** 2 + away**2)

    return final


def settled(final: Callable[[Mapping[str, Any]], float]) -> Curve:
    """Curves that rank trainings from the first epoch on as in the end."""
    return lambda params, epoch: {"validation_loss": final(params) + 1 / epoch}


def studied(
    folder: Path, curve: Curve, trials: int = 40, space: Any = None, **settings: Any
) -> StudyResult:
    settings = {"scheduler": "asha", "num_samples": trials} | settings
    study = build_study(folder, space or SPACE, EPOCHS, **settings)
    return load_study(simulate(study, curve).record)


def found(result: StudyResult, kind: str) -> list[Finding]:
    return [finding for finding in diagnose(result) if finding.kind == kind]


def patched(space: Mapping[str, Any], finding: Finding) -> SearchSpace:
    """A search space as it is with a finding's patch laid over it."""
    changes = finding.patch["search_space"]
    return SearchSpace.parse({name: space[name] | changes.get(name, {}) for name in space})


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("best", "word"), [(-0.7, "upper"), (-4.3, "lower")])
def test_best_values_at_a_bound_are_found_and_the_range_made_wider(
    tmp_path: Path, best: float, word: str
) -> None:
    result = studied(tmp_path, settled(bowl(best)))
    (finding,) = found(result, "bound")
    assert f"the {word} bound of optim_lr" in finding.evidence
    space = patched(SPACE, finding)
    assert space.widens(result.space)
    assert getattr(space["optim_lr"], word) != getattr(result.space["optim_lr"], word)
    assert space["width"] == result.space["width"]


def test_a_wider_range_of_integers_says_its_type_so_that_its_end_is_certain(
    tmp_path: Path,
) -> None:
    result = studied(tmp_path, lambda p, e: {"validation_loss": -p["width"] + 100 / e})
    (finding,) = found(result, "bound")
    (form,) = finding.patch["search_space"].values()
    written_otherwise = SPACE | {"width": {"type": "int", "lower": 16, "upper": 256}}
    assert form["type"] == "randint"
    assert patched(SPACE, finding) == patched(written_otherwise, finding)
    assert patched(SPACE, finding)["width"].contains(300)


def test_best_values_inside_are_no_finding(tmp_path: Path) -> None:
    assert diagnose(studied(tmp_path, settled(bowl(-2.5)))) == []


@pytest.mark.parametrize("best", [0.0, 1.0])
def test_shares_end_at_zero_and_one(tmp_path: Path, best: float) -> None:
    space = {"dropout": {"type": "uniform", "lower": 0, "upper": 1}}
    curve = settled(lambda params: abs(params["dropout"] - best))
    assert found(studied(tmp_path, curve, space=space), "bound") == []


@pytest.mark.parametrize(("sign", "end"), [(-1, {"upper": 1.0}), (1, {"lower": 0.15})])
def test_a_share_stays_one_when_its_range_is_widened(
    tmp_path: Path, sign: int, end: dict[str, float]
) -> None:
    space = {"momentum": {"type": "uniform", "lower": 0.3, "upper": 0.95}}
    curve = settled(lambda params: sign * params["momentum"])
    (finding,) = found(studied(tmp_path, curve, space=space, scheduler="none"), "bound")
    assert finding.patch == {"search_space": {"momentum": end}}


def test_a_share_on_a_logarithmic_scale_stays_one(tmp_path: Path) -> None:
    space = {"momentum": {"type": "loguniform", "lower": 1e-4, "upper": 0.9}}
    curve = settled(lambda params: -math.log10(params["momentum"]))
    (finding,) = found(studied(tmp_path, curve, space=space), "bound")
    assert finding.patch == {"search_space": {"momentum": {"upper": 1.0}}}


def test_a_narrow_range_far_from_zero_is_widened_by_its_own_measure(tmp_path: Path) -> None:
    space = {"size": {"type": "uniform", "lower": 1000, "upper": 1010}}
    curve = settled(lambda params: -params["size"])
    (finding,) = found(studied(tmp_path, curve, space=space), "bound")
    assert finding.patch == {"search_space": {"size": {"upper": 1013.0}}}


# -- logarithms ------------------------------------------------------------------------------------


def test_trials_without_a_value_lie_nowhere_in_its_range(tmp_path: Path) -> None:
    decay = {"type": "uniform", "lower": 1e-4, "upper": 1.0, "only_if": {"act": ["relu"]}}
    space = {"act": SPACE["act"], "decay": decay, "width": SPACE["width"]}
    final = settled(lambda params: float(params["act"] == "relu"))
    (finding,) = found(studied(tmp_path, final, 12, space, scheduler="none"), "logarithm")
    assert finding.evidence == "decay is searched on a linear scale from 0.0001 to 1."


def test_a_missing_logarithm_is_found_and_not_called_a_bound(tmp_path: Path) -> None:
    space = SPACE | {"optim_lr": {"type": "uniform", "lower": 1e-4, "upper": 1e-1}}
    result = studied(tmp_path, settled(bowl(-2.5)), space=space)
    assert [finding.kind for finding in diagnose(result)] == ["logarithm"]
    (finding,) = diagnose(result)
    assert "the best 5 trials lie in the lowest" in finding.evidence
    assert patched(space, finding)["optim_lr"] == SearchSpace.parse(SPACE)["optim_lr"]


def test_the_best_at_the_low_end_of_a_linear_range_lie_in_some_part_of_it(tmp_path: Path) -> None:
    space = {"optim_lr": {"type": "uniform", "lower": 1e-4, "upper": 1.0}}
    points = [{"optim_lr": 0.0001 * (1 + n / 10)} for n in range(6)]
    curve = settled(lambda params: params["optim_lr"])
    study = build_study(tmp_path, space, 1, points=points, num_samples=6)
    (finding,) = found(simulate(study, curve), "logarithm")
    assert "the best 5 trials lie in the lowest 1% of it" in finding.evidence


@pytest.mark.parametrize("lower", [0.0, 0.002])
def test_a_range_that_reaches_zero_or_less_than_two_decades_is_linear(
    tmp_path: Path, lower: float
) -> None:
    space = SPACE | {"optim_lr": {"type": "uniform", "lower": lower, "upper": 1e-1}}
    curve = settled(lambda params: abs(params["optim_lr"] - 0.05))
    assert found(studied(tmp_path, curve, space=space), "logarithm") == []


# -- failing regions -------------------------------------------------------------------------------


def failing(where: Callable[[Mapping[str, Any]], bool]) -> Curve:
    good = settled(bowl(-2.5))
    return lambda params, epoch: (
        {"validation_loss": math.nan} if where(params) else good(params, epoch)
    )


def test_a_region_that_fails_is_found_and_left_out(tmp_path: Path) -> None:
    result = studied(tmp_path, failing(lambda params: params["optim_lr"] > 0.03))
    failed = [t.params["optim_lr"] for t in result.trials if t.state == "diverged"]
    (finding,) = found(result, "failing region")
    assert f"{len(failed)} of {len(failed)} failed trials have optim_lr >= " in finding.evidence
    left = patched(SPACE, finding)["optim_lr"]
    assert not any(left.contains(value) for value in failed)
    good = [t.params["optim_lr"] for t in result.trials if t.state != "diverged"]
    assert sum(left.contains(value) for value in good) >= len(good) - 1


def test_the_end_at_which_no_trial_fails_stays_where_it_is(tmp_path: Path) -> None:
    """It must not be rounded: a momentum of 1 would fail, too."""
    space = {"momentum": {"type": "uniform", "lower": 0.5, "upper": 0.99996}}
    curve: Curve = lambda p, e: {"loss": math.nan if p["momentum"] < 0.7 else p["momentum"]}  # noqa: E731
    (finding,) = found(studied(tmp_path, curve, space=space, scheduler="none"), "failing region")
    assert finding.patch["search_space"]["momentum"].keys() == {"lower"}


def test_a_category_that_fails_is_left_out(tmp_path: Path) -> None:
    space = SPACE | {"act": {"type": "choice", "categories": ["relu", "tanh", "gelu"]}}
    result = studied(tmp_path, failing(lambda p: p["act"] == "gelu"), space=space)
    (finding,) = found(result, "failing region")
    assert finding.patch == {"search_space": {"act": {"categories": ["relu", "tanh"]}}}


def test_failures_all_over_the_space_are_no_region(tmp_path: Path) -> None:
    result = studied(tmp_path, failing(lambda params: params["width"] % 5 == 0))
    assert sum(trial.state == "diverged" for trial in result.trials) >= 3
    assert found(result, "failing region") == []


@pytest.mark.parametrize(("failures", "findings"), [(2, 0), (3, 1)])
def test_two_failures_are_too_few(tmp_path: Path, failures: int, findings: int) -> None:
    points = [{"x": 0.99 + n / 1000} for n in range(failures)]
    study = build_study(tmp_path, num_samples=30, points=points)
    for trial in range(30):
        run_trial(study, [math.nan if trial < failures else 1.0])
    assert len(found(study.close(), "failing region")) == findings


@pytest.mark.parametrize(
    ("failed", "others", "findings"),
    [([0.9, 0.95], 38, 1), ([0.2, 0.9], 38, 0), ([0.9], 38, 0), ([0.86, 0.95], 24, 1)],
)
def test_a_region_that_the_search_avoids_is_found_by_two_failures_in_it(
    tmp_path: Path, failed: list[float], others: int, findings: int
) -> None:
    good = [0.84 * n / others for n in range(others + 1)]
    points = [{"x": x} for x in (*failed, *good)]
    study = build_study(tmp_path, points=points, num_samples=len(points))
    for point in points:
        run_trial(study, [math.nan if point["x"] in failed else 1.0])
    assert len(found(study.close(), "failing region")) == findings


def test_a_range_is_not_widened_to_where_trials_fail(tmp_path: Path) -> None:
    good = settled(bowl(-0.7))
    curve: Curve = lambda p, e: (  # noqa: E731
        {"validation_loss": math.nan} if p["optim_lr"] > 0.05 else good(p, e)
    )
    findings = diagnose(studied(tmp_path, curve))
    assert [finding.kind for finding in findings] == ["failing region"]
    assert merged(findings)["search_space"]["optim_lr"]["upper"] <= 0.05


# -- early signals ---------------------------------------------------------------------------------


def misleading(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """Until epoch 4 wide trainings are ahead, whatever they reach in the end."""
    early, late = -params["width"] / 100, bowl(-2.5)(params)
    return {"validation_loss": early if epoch < 5 else late}


def test_a_rung_that_misleads_is_found_by_audited_trials(tmp_path: Path) -> None:
    result = studied(tmp_path, misleading, audit=12)
    assert [t.epochs for t in result.trials if t.is_audited] == [EPOCHS] * 12
    (finding,) = found(result, "early signal")
    assert finding.evidence.startswith("After epoch 2, ")
    counted = {"unit": "epochs", "max_t": None}
    assert finding.patch == {"study": {"scheduler": {"name": "asha", "grace_period": 5, **counted}}}


@pytest.mark.parametrize(
    ("scheduler", "patch"),
    [
        ("asha", {"study": {"scheduler": {"name": "asha", "grace_period": 5, "keep": 0.6667}}}),
        ("SuccessiveHalvingPruner", {}),  # an object, which no configuration in YAML can name
    ],
)
def test_more_patience_leaves_the_scheduler_as_it_is(
    tmp_path: Path, scheduler: str, patch: dict[str, Any]
) -> None:
    result = studied(tmp_path, misleading, audit=12)
    rungs = Rungs((Bracket((2, 6), 2 / 3),))
    setup = Setup("random", scheduler, rungs=rungs)
    (finding,) = found(dataclasses.replace(result, setup=setup), "early signal")
    assert finding.patch == patch


def test_more_patience_is_in_epochs_whatever_the_scheduler_counts(tmp_path: Path) -> None:
    rule = {"name": "asha", "grace_period": 1000, "unit": "steps", "max_t": EPOCHS * 500}
    study = build_study(tmp_path, SPACE, EPOCHS, scheduler=rule, num_samples=40, audit=12)
    study.note_setup(Setup("random", "asha"))  # its rungs are at no certain epochs
    while (trial := study.ask()) is not None:
        for epoch in range(1, EPOCHS + 1):
            metrics = misleading(trial.params, epoch)
            if study.report(trial.number, metrics, None, epoch, steps=500 * epoch) == "stop":
                break
        study.tell(trial.number, TrialState.COMPLETED)
    (finding,) = found(study.close(), "early signal")
    assert "before epoch 5" in finding.remedy
    applied = rule | finding.patch["study"]["scheduler"]
    rungs = build_scheduler(applied, Setting(EPOCHS, ())).judge.rungs
    assert rungs is not None
    assert (rungs.brackets[0].levels, rungs.unit) == ((5,), "epochs")


def test_where_no_epoch_ranks_well_no_trial_is_to_be_stopped(tmp_path: Path) -> None:
    late: Curve = lambda p, e: misleading(p, 1 if e < EPOCHS else EPOCHS)  # noqa: E731
    (finding,) = found(studied(tmp_path, late, audit=12), "early signal")
    assert finding.patch == {"study": {"scheduler": "none"}}


@pytest.mark.parametrize(
    ("curve", "audit"), [(misleading, 0), (misleading, 5), (settled(bowl(-2.5)), 12)]
)
def test_without_audits_or_with_an_honest_rung_nothing_is_said(
    tmp_path: Path, curve: Curve, audit: int
) -> None:
    assert found(studied(tmp_path, curve, audit=audit), "early signal") == []


@pytest.mark.parametrize("scheduler", ["pasha", "pbt"])
def test_an_audit_against_a_scheduler_that_pauses_is_refused(
    tmp_path: Path, scheduler: str
) -> None:
    algorithm = "pbt" if scheduler == "pbt" else "random"
    with pytest.raises(ConfigurationError, match=r"study\.audit=3 with study\.scheduler="):
        build_study(tmp_path, scheduler=scheduler, algorithm=algorithm, audit=3)


def test_an_audited_trial_that_is_resumed_stays_one(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, EPOCHS, scheduler="asha", num_samples=8, audit=4)
    simulate(study, settled(bowl(-2.5)), reports=10)
    study = build_study(tmp_path, SPACE, EPOCHS, scheduler="asha", num_samples=8, resume=True)
    result = simulate(study, settled(bowl(-2.5)))
    audited = [trial for trial in result.trials if trial.is_audited]
    assert [(trial.number, trial.epochs) for trial in audited] == [(0, 9), (1, 9), (2, 9)]


# -- waste and luck --------------------------------------------------------------------------------


def test_trials_that_early_stopping_would_have_ended_are_waste(tmp_path: Path) -> None:
    result = studied(tmp_path, settled(bowl(-2.5)), 20, scheduler="none")
    (finding,) = found(result, "waste")
    assert finding.cost.startswith("60 of 180 epochs")  # 10 trials, 6 epochs each
    assert finding.patch == {"study": {"scheduler": "auto"}}


def test_early_stopping_that_would_stop_nothing_is_not_advised(tmp_path: Path) -> None:
    short = build_study(tmp_path, epochs=3, num_samples=12, name="short")
    assert found(simulate(short, lambda p, e: {"loss": p["x"] + 1 / e}), "waste") == []
    audited = studied(tmp_path, settled(bowl(-2.5)), 20, audit=20)
    with_asha = dataclasses.replace(audited, setup=Setup("random", "asha"))
    assert found(with_asha, "waste") == []


def test_early_stopping_that_would_have_ended_the_best_is_not_missed(tmp_path: Path) -> None:
    result = studied(tmp_path, misleading, 20, scheduler="none")
    assert found(result, "waste") == []


def test_trials_of_the_same_values_are_waste(tmp_path: Path) -> None:
    space = {"act": SPACE["act"], "bias": {"type": "bool"}}
    study = build_study(tmp_path, space, 1, num_samples=12)
    result = simulate(study, lambda p, e: {"validation_loss": float(p["bias"])})
    (finding,) = found(result, "waste")
    assert finding.evidence == "8 of 12 trials had the values of an earlier one."
    assert finding.patch == {"study": {"num_samples": 4}}


def test_a_default_outside_the_space_is_none_of_its_points(tmp_path: Path) -> None:
    space = {"x": {"type": "choice", "categories": [1, 2, 3]}}
    points = [{"x": x} for x in (1, 2, 1, 2)]
    study = build_study(tmp_path, space, 1, {"x": 7}, points=points, num_samples=5)
    result = simulate(study, lambda p, e: {"validation_loss": float(p["x"])})
    (finding,) = found(result, "waste")
    assert finding.evidence == "2 of 5 trials had the values of an earlier one."
    assert finding.patch == {}  # 3 has not been tried


def test_of_trials_that_are_alike_none_is_in_the_worse_half(tmp_path: Path) -> None:
    ranks = itertools.count()
    final: dict[float, int] = {}

    def at_chance_first(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
        rank = final.setdefault(params["optim_lr"], next(ranks))
        return {"validation_loss": 2.3 if epoch < 6 else 1 + rank / 100}

    result = studied(tmp_path, at_chance_first, 12, scheduler="none")
    assert found(result, "waste") == []


def test_slots_that_a_run_did_not_have_were_not_idle(tmp_path: Path) -> None:
    study = build_study(tmp_path, epochs=1)
    result = simulate(study, lambda p, e: {"loss": p["x"]})
    times = [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0), (4, 2000.0), (5, 3000.0)]  # four, then one
    attempts = tuple(Attempt(trial, began, 1000.0) for trial, began in times)
    cost = dataclasses.replace(result.cost, elapsed=3000.0)
    result = dataclasses.replace(result, attempts=attempts, cost=cost)
    starts = tuple(Start(time, "", "", "") for time in (0.0, 1500.0))
    assert found(dataclasses.replace(result, starts=starts), "waste") == []
    (finding,) = found(dataclasses.replace(result, starts=starts[:1]), "waste")
    assert finding.evidence == "Slots had no trial for 50% of their time."


@pytest.mark.parametrize(("luck", "kinds"), [(0.5, ["noise"]), (0.001, [])])
def test_a_lead_that_seeds_explain_is_called_luck(
    tmp_path: Path, luck: float, kinds: list[str]
) -> None:
    space = {"x": {"type": "choice", "categories": [1, 2, 3, 4]}}
    points = [{"x": x} for x in (1, 1, 2, 2, 3, 3)]
    losses = {1: 1.0, 2: 0.9, 3: 0.8, 4: 1.2}
    turns = iter([0, 1, -1, -1, 1, 1, -1])
    study = build_study(
        tmp_path, space, 1, {"x": 4}, points=points, num_samples=7, seed=None, algorithm="tpe"
    )
    curve: Curve = lambda p, e: {"validation_loss": losses[p["x"]] + luck * next(turns)}  # noqa: E731
    result = simulate(study, curve, slots=1)
    assert [f.kind for f in diagnose(result) if f.kind == "noise"] == kinds


# -- as a command ----------------------------------------------------------------------------------


def test_the_command_writes_blocks_json_and_a_patch(tmp_path: Path) -> None:
    result = studied(tmp_path, settled(bowl(-0.7)))
    (finding,) = diagnose(result)
    folder, file = str(result.record.parent), tmp_path / "patch.yaml"
    shown = CliRunner().invoke(app, ["hpo", "diagnose", folder, "--patch", str(file)])
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[0] == f"bound: {finding.evidence}"
    assert yaml.safe_load(file.read_text()) == finding.patch
    told = json.loads(CliRunner().invoke(app, ["hpo", "diagnose", folder, "--json"]).stdout)
    assert told == {
        "study": "study",
        "findings": [vars(finding)],
        "patch": finding.patch,
    }


def test_a_study_without_findings_is_said_to_have_none(tmp_path: Path) -> None:
    study = build_study(tmp_path)
    run_trial(study, [1.0, 0.5, 0.4, 0.3])
    shown = CliRunner().invoke(app, ["hpo", "diagnose", str(study.directory)])  # it runs
    assert shown.stdout.startswith("nothing found")
    study.close()


def test_of_two_patches_for_one_place_the_first_is_taken() -> None:
    first = Finding("waste", "", "", "", {"study": {"scheduler": "auto"}})
    other = Finding("waste", "", "", "", {"study": {"scheduler": "none", "num_samples": 4}})
    assert merged([first, other]) == {"study": {"scheduler": "auto", "num_samples": 4}}
