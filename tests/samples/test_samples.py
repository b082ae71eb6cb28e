"""Samples of an earlier version: its studies and checkpoints are read, and gone on with, for ever.

README.md says what they are. Numbers that are trained anew may differ in their last digits from
those of the machine that made the samples.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from click.testing import Result
from sample_program import EPOCHS, PLAIN, Network, points, told, train
from typer.testing import CliRunner

from itwinai.cli import app
from itwinai.hpo import StudyResult, TrialState, list_studies, load_study
from itwinai.torch.inference import (
    MulticlassTorchPredictor,
    TorchModelLoader,
    TorchPredictor,
)

HERE = Path(__file__).parent
EXPECTED: dict[str, Any] = json.loads((HERE / "expected.json").read_text())
STUDIES = ("finished", "interrupted")
#: Of what is computed anew.
TOLERANCE = 1e-5


def hpo(*args: str | Path, codes: tuple[int, ...] = (0,)) -> Result:
    result = CliRunner().invoke(app, ["hpo", *map(str, args)], prog_name="itwinai")
    assert result.exit_code in codes, f"{result.stderr}\n{result.stdout}\n{result.exception!r}"
    return result


def as_json(*args: str | Path, codes: tuple[int, ...] = (0,)) -> Any:
    return json.loads(hpo(*args, "--json", codes=codes).stdout)


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the program of the samples, in which all tests work."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(HERE / "sample_program.py", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # This process has loaded it already, from another folder than the study's.
        patch.setenv("ITWINAI_ALLOW", "sample_program")
        yield folder


@pytest.fixture(scope="module")
def studies(project: Path) -> Path:
    """The studies, copied to another place."""
    return Path(shutil.copytree(HERE / "studies", project / "studies"))


@pytest.fixture(params=STUDIES)
def study(request: pytest.FixtureRequest, studies: Path) -> Path:
    return studies / str(request.param)


def expected_of(study: Path | str) -> dict[str, Any]:
    content: dict[str, Any] = EXPECTED["studies"][Path(study).name]
    return content


def numbers_of(study: Path | str, *states: str) -> list[int]:
    return [trial["number"] for trial in expected_of(study)["trials"] if trial["state"] in states]


def near(history: Any) -> Any:
    """A history that is expected, within the tolerance."""
    return [pytest.approx(epoch, abs=TOLERANCE) for epoch in history]


# -- studies, read ---------------------------------------------------------------------------------


def test_a_study_tells_all_that_it_told(study: Path) -> None:
    assert told(load_study(study)) == expected_of(study)


def test_a_record_with_check_sums_tells_all_that_it_told(caplog: pytest.LogCaptureFixture) -> None:
    folder = HERE / "sealed"
    expected = json.loads((folder / "expected.json").read_text())
    lines = (folder / "record.log").read_text().splitlines()
    assert all(re.search(r',"line":\d+,"sum":"[0-9a-f]{8}"\}$', line) for line in lines)
    assert told(load_study(folder)) == expected
    assert caplog.text == ""


def test_what_the_samples_hold(studies: Path) -> None:
    """So that samples that are made anew are no poorer."""
    finished, interrupted = (load_study(studies / name) for name in STUDIES)
    states = [trial.state.value for trial in interrupted.trials]
    assert set(states) == {"completed", "stopped", "interrupted"}
    assert len(states) < interrupted.total
    assert all(
        trial.checkpoint is not None and 0 < trial.epochs == trial.checkpoint_epochs < 6
        for trial in interrupted.trials
        if trial.state is TrialState.INTERRUPTED
    )
    assert interrupted.threads == 1
    assert {trial.seed for trial in interrupted.trials} == {1}
    assert len({trial.seed for trial in finished.trials}) == len(finished.trials)
    assert len(finished.front) > 1
    for trial in finished.trials:
        assert trial.params["hidden"] in ([4], [8], [4, 4])
        is_sgd = trial.params["optimizer"] == "sgd"
        assert ("optim_momentum" in trial.params) == is_sgd
        if is_sgd:
            assert trial.params["optim_momentum"] in (0.0, 0.3, 0.6, pytest.approx(0.9))


def test_list(studies: Path) -> None:
    listed = {entry.directory.name: entry for entry in list_studies(studies)}
    assert [listed[name].state for name in STUDIES] == list(STUDIES)
    for name, entry in listed.items():
        assert entry.best == best_of(studies / name)["history"][-1]["validation_loss"]
    assert {entry["state"] for entry in as_json("list", studies)} == set(STUDIES)


def best_of(study: Path) -> dict[str, Any]:
    expected = expected_of(study)
    best: dict[str, Any] = expected["trials"][expected["best"]]
    return best


def test_show(study: Path) -> None:
    expected = expected_of(study)
    shown = as_json("show", study)["trials"]
    assert [(t["number"], t["state"], t["params"]) for t in shown] == [
        (t["number"], t["state"], t["params"]) for t in expected["trials"]
    ]
    text = hpo("show", study).stdout
    assert f"{study.name}, {len(shown)} trials" in text
    table = text.split("Pareto front")[0].splitlines()
    ends = len(numbers_of(study, "completed"))
    assert sum("trained to the last epoch" in line for line in table) == ends


def test_best(study: Path) -> None:
    expected = expected_of(study)
    content = as_json("best", study)
    assert content["best"]["params"] == best_of(study)["params"]
    assert content["best"]["metrics"] == best_of(study)["history"][-1]
    front = content["front"] and [trial["number"] for trial in content["front"]]
    assert front == (expected["front"] if study.name == "finished" else None)
    assert f"optim_lr = {best_of(study)['params']['optim_lr']}" in hpo("best", study).stdout


def test_export(study: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(hpo("export", study, "--format", "csv").stdout)))
    assert [(int(row["number"]), row["state"], int(row["epochs"])) for row in rows] == [
        (t["number"], t["state"], len(t["history"])) for t in expected_of(study)["trials"]
    ]
    for row, trial in zip(rows, expected_of(study)["trials"], strict=True):
        assert float(row["params.optim_lr"]) == trial["params"]["optim_lr"]
        last = trial["history"][-1]
        assert {name: float(row[f"metrics.{name}"]) for name in last} == last


# -- studies, used ---------------------------------------------------------------------------------


def predictions(place: Path) -> list[list[float]]:
    loader = TorchModelLoader(place, model_class=Network)
    predictor = TorchPredictor(loader, config={"num_workers_dataloader": 0})
    return [prediction.tolist() for prediction in predictor.execute(points(10))]


@pytest.mark.parametrize("place", EXPECTED["predictions"])
def test_models_predict_what_they_predicted(place: str) -> None:
    expected = EXPECTED["predictions"][place]
    assert predictions(HERE / place) == near(expected)


def test_the_best_trial_knows_most_of_the_points(study: Path) -> None:
    data = points(200, first=500)
    loader = TorchModelLoader(f"study:{study}", model_class="sample_program.Network")
    predictor = MulticlassTorchPredictor(loader, config={"num_workers_dataloader": 0})
    predicted = torch.tensor(predictor.execute(data))
    assert (predicted == data.tensors[1]).float().mean() > 0.75


@pytest.mark.parametrize("end", ["completed", "stopped"])
def test_a_trial_is_repeated(study: Path, end: str) -> None:
    number = numbers_of(study, end)[-1]
    # To the last bit on a machine like the one that made the sample: code 3 tells of another.
    outcome = as_json("rerun", study, "--trial", str(number), codes=(0, 3))
    assert outcome["runs"][0]["history"] == near(expected_of(study)["trials"][number]["history"])


# -- studies, gone on with -------------------------------------------------------------------------

#: A study before and after it went on, and what the command said.
GoneOn = tuple[StudyResult, StudyResult, Any]


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    """One Ray for all studies, on this machine alone, with room for one trial at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def resumed(_ray: None, project: Path) -> GoneOn:
    return go_on(project, "interrupted", "resume")


@pytest.fixture(scope="module")
def extended(_ray: None, project: Path) -> GoneOn:
    return go_on(project, "finished", "extend", "--trials", "1")


def go_on(project: Path, name: str, command: str, *options: str) -> GoneOn:
    folder = project / command / name
    shutil.copytree(HERE / "studies" / name, folder)
    before = load_study(folder)
    (said,) = as_json(command, folder, *options)["studies"]
    return before, load_study(folder), said


def assert_left_alone(before: StudyResult, after: StudyResult, numbers: list[int]) -> None:
    """All of the trials but their checkpoints, of which only the best stay."""
    trials = [before.trials[number] for number in numbers]
    now = [after.trials[number] for number in numbers]
    assert trials
    assert [replace(trial, checkpoint=None) for trial in now] == [
        replace(trial, checkpoint=None) for trial in trials
    ]


def test_an_interrupted_study_is_resumed_to_its_total(resumed: GoneOn) -> None:
    _, after, said = resumed
    assert (said["state"], said["trials"]) == ("finished", 8)
    assert said["directory"] == str(after.record.parent)
    assert [trial.number for trial in after.trials] == list(range(8))
    assert {trial.state.value for trial in after.trials} <= {"completed", "stopped"}
    assert not (after.record.parent / "stop").exists()
    best = after.best
    assert best is not None
    assert best.checkpoint is not None
    assert best.checkpoint.is_relative_to(after.record.parent)
    assert len(predictions(after.record.parent)) == 10


def test_trials_that_had_ended_are_left_alone(resumed: GoneOn) -> None:
    assert_left_alone(*resumed[:2], numbers_of("interrupted", "completed", "stopped"))


def test_interrupted_trials_go_on_from_their_checkpoints(resumed: GoneOn) -> None:
    before, after, _ = resumed
    numbers = numbers_of("interrupted", "interrupted")
    assert len(numbers) == 2
    for trial in (before.trials[number] for number in numbers):
        now = after.trials[trial.number]
        assert now.continued
        assert (now.params, now.seed) == (trial.params, trial.seed)
        assert now.history[: trial.epochs] == trial.history
        assert now.epochs > trial.epochs
        expected = EXPECTED["gone_on"][str(trial.number)]
        assert list(now.history) == near(expected[: now.epochs])
    # No epoch was trained twice.
    assert after.cost.epochs == sum(trial.epochs for trial in after.trials)


def test_a_space_with_conditions_constraints_and_lists_is_extended(extended: GoneOn) -> None:
    before, after, said = extended
    assert (said["state"], said["trials"]) == ("finished", 9)
    assert_left_alone(before, after, list(range(8)))
    new = after.trials[8].params
    assert new["hidden"] in ([4], [8], [4, 4])
    assert ("optim_momentum" in new) == (new["optimizer"] == "sgd")
    assert new["batch_size"] * new["optim_lr"] <= 1
    assert len(after.front) > 0


# -- trainings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("whole", {"noisy": True}),
        # Written by two ranks, in shards; their batches together are those of one process.
        ("sharded", {"config": PLAIN, "checkpoint_sharded": True}),
    ],
)
def test_a_training_goes_on_as_if_it_had_not_been_broken_off(
    tmp_path: Path, name: str, choices: dict[str, Any]
) -> None:
    expected = EXPECTED["trainings"][name]
    rest = train(tmp_path, from_checkpoint=HERE / "checkpoints" / name, **choices)
    assert rest == near(expected[-len(rest) :])
    assert len(rest) == len(expected) - 6
    assert len(expected) < EPOCHS  # early stopping has its part in it
