"""The report of a study: what it says, and that nothing of a study becomes part of the page."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hand_driven import ask, build_study, report, run_trial, simulate
from page_reading import Page
from typer.testing import CliRunner

from itwinai.cli import app
from itwinai.errors import ConfigurationError, MissingPackageError, visible
from itwinai.hpo import StudyResult, load_study, report_study
from itwinai.hpo.insight import diagnose
from itwinai.hpo.record import Attempt, Setup, this_start
from itwinai.hpo.report.effort import timeline
from itwinai.hpo.trial import TrialState

SPACE = {
    "lr": {"type": "loguniform", "lower": 1e-4, "upper": 1.0},
    "width": {"type": "randint", "lower": 8, "upper": 257},
    "act": {"type": "choice", "categories": ["relu", "tanh"]},
}
DEFAULT = {"lr": 0.5, "width": 16, "act": "tanh"}
EPOCHS = 9
ON_FRONT = "datum.f === 'on the front'"
HOSTILE = "</script></style><img src=x onerror=alert(1)><!--\"'`{{7*7}}${7*7}&amp;\u202e\x1b[31m"


def curve(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
    return {"validation_loss": params["lr"] + 1 / epoch, "latency": float(params["width"])}


def studied(folder: Path, trials: int = 12, **settings: Any) -> StudyResult:
    settings = {"scheduler": "asha", **settings}
    study = build_study(folder, SPACE, EPOCHS, DEFAULT, num_samples=trials, **settings)
    return load_study(simulate(study, curve).record)


def page_of(*studies: StudyResult | Path) -> Page:
    first = studies[0]
    folder = first.record.parent if isinstance(first, StudyResult) else first
    return Page.read(report_study(*studies, file=folder.parent / "page.html"))


def test_the_answer_comes_first_and_the_sections_in_their_order(tmp_path: Path) -> None:
    result = studied(tmp_path)
    assert result.best is not None
    page = page_of(result)
    assert page.headings == [
        *("The answer", "Diagnosis", "Optimisation history", "Learning curves"),
        *(
            "Parallel coordinates",
            "Importance",
            "Slices",
            "Use of the slots",
            "Failures",
            "Cost",
            "How to repeat it",
        ),
    ]
    answer = page.section("answer")
    assert answer.startswith(f"The answer Use trial {result.best.number}: it is ")
    assert "95% interval" in answer
    assert f"It has cost {result.cost.epochs} epochs in 12 trials" in answer


def test_a_trial_that_ended_itself_has_not_trained_all_epochs(tmp_path: Path) -> None:
    study = build_study(tmp_path, num_samples=2, epochs=3)
    run_trial(study, [0.9, 0.2])
    run_trial(study, [0.9, 0.8, 0.7])
    result = study.close()
    assert (result.best and result.best.number, result.why_best) == (0, "the lowest of 2 completed")
    told = "1 trial trained all 3 epochs, 1 training ended before that, and none was stopped early"
    assert told in page_of(result).section("curves")


def test_a_default_that_only_came_furthest_is_no_answer(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, 3, DEFAULT)
    first, second = ask(study), ask(study)
    report(study, first, [0.9, 0.8])
    report(study, second, [0.1])
    lead = page_of(study.close()).section("answer")
    assert "No trial trained to the end; trial 0 (default) came furthest" in lead


def test_the_value_of_a_default_that_was_stopped_says_of_which_epoch(tmp_path: Path) -> None:
    study = build_study(tmp_path, num_samples=2, default={"x": 0.5})
    default, other = ask(study), ask(study)
    report(study, default, [0.9, 0.8])
    study.tell(default.number, TrialState.STOPPED)
    run_trial(study, [0.7, 0.5, 0.4, 0.3], trial=other)
    answer = page_of(study.close()).section("answer")
    assert "trial 1 0.3 " in answer
    assert "default 0.8 at epoch 2 " in answer
    assert "gain - " in answer


def test_a_default_outside_the_space_is_at_no_place_of_an_axis(tmp_path: Path) -> None:
    default = {"lr": 0.5, "width": 512, "act": "gelu"}
    study = build_study(tmp_path, SPACE, 1, default)
    page = page_of(simulate(study, curve))
    rows = [row for rows in page.data["rows"] for row in rows if row.get("n") == 0]
    assert {row["a"] for row in rows if "a" in row} == {"lr", "loss (min)"}
    assert "not drawn: some of trial 0 (default)." in page.section("parallel")


def test_trials_that_have_not_ended_have_not_failed_to_be_better(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, 2)
    run_trial(study, [0.9, 0.8])
    for _ in range(2):
        report(study, ask(study), [0.9])
    lead = page_of(study.result()).section("history")
    assert "with its last improvement at trial 0; at the end." in lead
    study.close()


def test_two_trials_settle_nothing(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, 4, DEFAULT, num_samples=2)
    run_trial(study, [0.9, 0.5, 0.3, 0.2])
    other = ask(study)
    report(study, other, [0.95, 0.94])
    study.tell(other.number, TrialState.STOPPED, "asha after epoch 2")
    page = page_of(study.close())
    assert page.section("importance").startswith("Importance It is not settled what matters most")
    assert "and 1 was stopped early" in page.section("curves")
    assert "1 later trial brought nothing better" in page.section("history")


def test_findings_are_told_with_cost_and_remedy(tmp_path: Path) -> None:
    space = {"lr": {"type": "uniform", "lower": 1e-4, "upper": 1.0}}
    study = build_study(tmp_path, space, num_samples=4)
    result = simulate(study, lambda p, e: {"validation_loss": p["lr"] + 1 / e})
    section = page_of(result).section("diagnosis")
    (finding,) = diagnose(result)
    assert all(t in section for t in (finding.evidence, finding.cost, finding.remedy))
    assert "itwinai hpo diagnose " in section


def test_a_gain_is_never_told_without_its_interval(tmp_path: Path) -> None:
    page = page_of(studied(tmp_path))
    (lead,) = re.findall(r"The answer (.*?\.) loss \(min\)", page.section("answer"))
    assert re.search(r"\(95% interval [-\d.e]+ to [-\d.e]+\)", lead)


def test_the_ends_of_an_interval_can_be_told_apart(tmp_path: Path) -> None:
    study = build_study(tmp_path, epochs=1, default={"x": 0.9}, num_samples=12)
    result = simulate(study, lambda params, epoch: {"loss": 5000 + params["x"] ** 2})
    answer = page_of(result).section("answer")
    ends = re.findall(r"([-+.\de]+) to ([-+.\de]+)", answer)
    assert len(ends) > 2
    assert all(float(low) < float(high) for low, high in ends)


def test_energy_that_was_measured_stands_apart_from_an_estimate(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, 1, DEFAULT, num_samples=2)
    study.note_setup(Setup("random", "none", per_worker={"CPU": 3_600_000}))
    for energy in [{"RAPL": 9e6}, {}]:
        trial = ask(study)
        study.note_energy(trial.number, 1.0, energy)
        report(study, trial, [0.5])
        study.tell(trial.number, TrialState.COMPLETED)
    cost = page_of(study.close()).section("cost")
    assert "energy of processors and memory 2.5 kWh, measured by RAPL" in cost
    assert "energy of GPUs not measured" in cost
    assert re.search(r"not measured about [\d.e-]+ kWh, at 10 W a core and 400 W a GPU", cost)
    assert cost.endswith("trial joules by RAPL joules by NVML 0 9e+06 -")


def test_how_the_runs_were_started_is_told_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = studied(tmp_path, name="older")
    assert "does not tell how its runs were started" in page_of(older).section("origin")
    study = build_study(tmp_path, SPACE, EPOCHS, DEFAULT)
    monkeypatch.setattr(sys, "orig_argv", ["train.py", "uri=https://me:hunter2@host/x", HOSTILE])
    study.note_start(this_start())
    origin = page_of(simulate(study, curve)).section("origin")
    assert "train.py 'uri=https://***@host/x'" in origin
    assert f"python {platform.python_version()}, itwinai" in origin
    assert "hunter2" not in (tmp_path / "page.html").read_text()


def test_every_chart_has_its_rows_and_a_caption(tmp_path: Path) -> None:
    page = page_of(studied(tmp_path))
    data = page.data
    places = [attrs for _, attrs in page.elements if "data-chart" in attrs]
    captions = {attrs["id"] for tag, attrs in page.elements if tag == "figcaption"}
    assert [attrs["data-chart"] for attrs in places] == [str(i) for i in range(len(data["charts"]))]
    assert {attrs["aria-labelledby"] for attrs in places} == captions
    assert all(data["rows"][chart["rows"]] for chart in data["charts"])
    folded = [text.split("\n")[1] for text in page.texts["details"]]
    without = ("The answer", "Diagnosis", "Failures", "Cost", "How to repeat it")
    named = [heading for heading in page.headings if heading not in without]
    assert folded == [f"{name}: the data as a table" for name in named]


def test_nothing_in_a_study_adds_an_element_to_the_page(tmp_path: Path) -> None:
    harmless = page_of(_named(tmp_path, "harmless", "a", "b"))
    hostile = page_of(_named(tmp_path, "hostile", HOSTILE, f"{HOSTILE}2"))
    assert hostile.shape == harmless.shape
    text = (tmp_path / "page.html").read_text()
    assert not [script for script in hostile.texts["script"][:-1] if "<" in script]
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "49" not in hostile.section("answer")


def _named(folder: Path, name: str, first: str, second: str) -> StudyResult:
    """A study with texts in all places that hold some."""
    one, other = (visible(text).replace(".", "") for text in (first, second))  # or it is refused
    space = {one: SPACE["lr"], other: {"type": "choice", "categories": [first, second]}}
    study = build_study(
        folder,
        space,
        2,
        {one: 0.5, other: first},
        name=name,
        metric=[f"{first}m", f"{second}n"],
        mode=["min", "max"],
        num_samples=6,
    )
    for index in range(4):
        trial = ask(study)
        metrics = {f"{first}m": 1.0 + index, f"{second}n": 1.0 + index}
        for epoch in (1, 2):
            study.report(trial.number, metrics, None, epoch)
        study.tell(trial.number, TrialState.COMPLETED)
    for _ in range(2):
        study.tell(ask(study).number, TrialState.FAILED, f"ValueError: {first}")
    return load_study(study.close().record)


def test_the_policy_allows_the_page_its_own_script_and_style_and_nothing_else(
    tmp_path: Path,
) -> None:
    page = page_of(studied(tmp_path))
    program = page.texts["script"][-1]
    style = page.texts["style"][0]
    assert page.policy == (
        f"default-src 'none'; script-src '{_digest(program)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    tags = [tag for tag, _ in page.elements]
    assert tags.index("meta") < tags.index("style")
    names = {name for _, attrs in page.elements for name in attrs}
    assert not {name for name in names if name.startswith("on") or name in ("src", "style")}
    links = [attrs["href"] or "" for _, attrs in page.elements if "href" in attrs]
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    assert {link.removeprefix("#") for link in links} <= ids


def _digest(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def test_a_running_study_can_be_reported(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, EPOCHS, DEFAULT)
    run_trial(study, [1.0] * EPOCHS)
    report(study, ask(study), [0.5, 0.4])
    page = page_of(study.directory)
    assert "The study still runs (1/4 trials done, 1 running" in page.section("answer")
    assert "A study that is running" in " ".join(page.texts["header"])
    study.close()


def test_a_study_without_any_result_says_so(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, EPOCHS, DEFAULT)
    empty = page_of(study.directory)
    assert "There is nothing to use yet: no trial has reported loss." in empty.section("answer")
    assert empty.data["charts"] == []
    for _ in range(3):
        study.tell(ask(study).number, TrialState.FAILED, "no such file")
    page = page_of(study.close())
    assert "3 of 3 trials have no result: 3 failed." in page.section("failures")
    assert "failed 3 0 no such file" in page.section("failures")
    assert "look at the failures first" in page.section("answer")


def test_without_a_completed_trial_none_is_recommended(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, EPOCHS)
    for _ in range(3):
        report(study, ask(study), [0.5, 0.4])
    page = page_of(study.directory)
    assert "No trial trained to the end" in page.section("answer")
    assert "no best so far" in page.section("history")
    study.close()


def test_several_objectives_offer_a_choice(tmp_path: Path) -> None:
    objectives = {"metric": ["loss", "latency"], "mode": ["min", "min"], "scheduler": "none"}
    result = studied(tmp_path, **objectives)
    page = page_of(result)
    answer = page.section("answer")
    assert f"Choose among {len(result.front)} trial" in answer
    assert all(f"trial {trial.number}" in answer for trial in result.front)
    front = [row for rows in page.data["rows"] for row in rows if row.get("f") == "on the front"]
    assert len(front) == len(result.front)


@pytest.mark.parametrize(("mode", "steps"), [("min", "step-after"), ("max", "step-before")])
def test_the_steps_of_a_front_promise_no_more_than_was_reached(
    tmp_path: Path, mode: str, steps: str
) -> None:
    result = studied(tmp_path, metric=["loss", "latency"], mode=[mode, "min"], scheduler="none")
    layers = [
        layer
        for drawn in page_of(result).data["charts"]
        for layer in drawn["spec"].get("layer", [])
    ]
    (front,) = [layer for layer in layers if layer.get("transform") == [{"filter": ON_FRONT}]]
    assert front["mark"]["interpolate"] == steps


def test_studies_side_by_side(tmp_path: Path) -> None:
    one, two = studied(tmp_path, name="one"), studied(tmp_path, name="two", seed=2)
    page = page_of(one, two)
    assert page.headings == ["All studies", "one finished", "two finished"]
    text = page.section("comparison")
    assert "is expected to be the best, with loss" in text
    names = {row["a"] for row in page.data["rows"][0]}
    assert names == {"one", "two"}


def test_the_best_of_three_studies_is_proven_against_each(tmp_path: Path) -> None:
    """The second one is known well and the third hardly, so that it may be the best."""

    def of(name: str, trials: int, offset: float, spread: float) -> StudyResult:
        study = build_study(tmp_path, epochs=1, num_samples=trials, name=name)
        return simulate(study, lambda p, e: {"loss": offset + spread * p["x"]})

    studies = of("one", 16, 0.0, 0.01), of("two", 16, 1.0, 0.01), of("three", 3, 1.0, 8.0)
    text = page_of(*studies).section("comparison")
    assert text.count("one is expected to be the best") == 1
    assert "the interval of three overlaps, so that this is not proven" in text


def test_a_study_without_an_estimate_is_said_not_to_be_compared(tmp_path: Path) -> None:
    def of(name: str, trials: int, loss: float) -> StudyResult:
        study = build_study(tmp_path, epochs=1, num_samples=trials, name=name)
        return simulate(study, lambda p, e: {"loss": loss + p["x"]})

    text = page_of(of("one", 4, 1.0), of("two", 4, 2.0), of("three", 1, 0.0)).section("comparison")
    assert "one is expected to be the best" in text
    assert "Not compared, as too few of their trials have reported: three." in text


def test_failures_with_one_message_are_counted_together(tmp_path: Path) -> None:
    study = build_study(tmp_path, num_samples=3)
    for number in range(3):
        trial = ask(study)
        where = f"traceback: trials/0000{number}/log.txt"
        reason = f"ValueError: no (here) ({where})" if number < 2 else f"Lost (rank 1, {where})"
        study.tell(trial.number, TrialState.FAILED, reason)
    text = page_of(study.close()).section("failures")
    assert "failed 2 0 ValueError: no (here) (traceback: trials/00000/log.txt)" in text
    assert "failed 1 2 Lost (rank 1, traceback: trials/00002/log.txt)" in text


def test_where_nothing_makes_a_difference_nothing_matters(tmp_path: Path) -> None:
    study = build_study(tmp_path, epochs=1, num_samples=6)
    result = simulate(study, lambda params, epoch: {"loss": 0.5})
    text = page_of(result).section("importance")
    assert "The trials show no difference that a hyper-parameter would have made." in text


def test_it_is_read_from_the_record_alone(tmp_path: Path) -> None:
    result = studied(tmp_path / "here")
    moved = tmp_path / "there" / "study"
    moved.mkdir(parents=True)
    shutil.copy(result.record, moved)
    shutil.rmtree(result.record.parent)
    assert "Use trial" in page_of(moved).section("answer")


def test_the_search_space_is_told_with_conditions_and_constraints(tmp_path: Path) -> None:
    space = SPACE | {
        "depth": {"type": "randint", "lower": 1, "upper": 9, "only_if": {"act": ["tanh"]}},
        "heads": {"type": "constant", "value": 4},
    }
    study = build_study(tmp_path, space, num_samples=1, constraints=["depth * heads <= width"])
    run_trial(study, [0.5, 0.4, 0.3, 0.2])
    origin = page_of(study.close()).section("origin")
    assert "depth type randint, lower 1, upper 9, only if act is tanh" in origin
    assert "act type choice, categories relu or tanh" in origin
    assert "heads type constant, value 4" in origin
    assert "constraint depth * heads <= width" in origin


def test_secrets_are_not_passed_on(tmp_path: Path) -> None:
    space = {"x": SPACE["lr"], "api_key": {"type": "choice", "categories": ["hush-1", "hush-2"]}}
    (tmp_path / "study").mkdir(mode=0o700)
    (tmp_path / "study" / "record.log").touch()  # one that goes on may have had them before
    study = build_study(tmp_path, space, 2, resume=True)
    run_trial(study, [1.0, 0.9])
    run_trial(study, [1.0, 0.8])
    study.tell(ask(study).number, TrialState.FAILED, "no answer: https://me:hush-3@example.org")
    file = report_study(study.directory, file=tmp_path / "page.html")
    assert "hush" not in file.read_text()
    study.close()


def test_thousands_of_trials_are_thinned_out_and_that_is_said(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, 2, num_samples=1800)
    for _ in range(1800):
        trial = ask(study)
        for epoch in (1, 2):
            study.report(trial.number, curve(trial.params, epoch), None, epoch)
        study.tell(trial.number, TrialState.COMPLETED)
    result = load_study(study.close().record)
    file = report_study(result, file=tmp_path / "page.html")
    page = Page.read(file)
    assert "1500 of 1800 trials are drawn" in page.section("history")
    assert max(map(len, page.data["rows"])) <= 1500
    ranked = sorted(result.trials, key=lambda trial: trial.metrics["validation_loss"])
    drawn = {row["n"] for row in page.data["rows"][0]}
    assert {trial.number for trial in ranked[:300]} <= drawn
    assert file.stat().st_size < 3_000_000


def test_slots_in_use_are_told_at_the_times_at_which_they_were(tmp_path: Path) -> None:
    study = build_study(tmp_path, epochs=1, num_samples=1)
    run_trial(study, [0.5])
    times = [(float(n), n % 3 + 0.5) for n in range(450)]
    attempts = tuple(Attempt(0, began, seconds) for began, seconds in times)
    section = timeline(replace(study.close(), attempts=attempts))
    (chart,) = section.charts
    at = [(row["x"] * 60, row["v"]) for row in chart.data]  # in minutes
    assert len(at) == 301
    for time, count in at[:-1]:
        assert count == sum(began <= time < began + seconds for began, seconds in times)


def test_the_command_writes_a_page(tmp_path: Path) -> None:
    result, file = studied(tmp_path), tmp_path / "out" / "page.html"
    done = CliRunner().invoke(app, ["hpo", "report", str(result.record.parent), "-o", str(file)])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{file} is written; open it in a browser\n"
    assert Page.read(file).headings[0] == "The answer"
    again = ["hpo", "report", str(result.record.parent), "-o", str(file), "--json"]
    told = json.loads(CliRunner().invoke(app, again).stdout)
    assert told == {"studies": ["study"], "file": str(file)}


def test_no_study_and_no_package_are_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "page.html"
    with pytest.raises(ConfigurationError, match="give it at least one study"):
        report_study(file=file)
    result = studied(tmp_path)
    for package in ("vl_convert", "jinja2"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(MissingPackageError, match=r"pip install 'itwinai\[report\]'"):
                report_study(result, file=file)
    assert not file.exists()
