"""A study of a function, on a real Ray: what the function gets, and what becomes of its reports."""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hand_driven import build_study, simulate
from omegaconf import OmegaConf

from itwinai.cli.retrain import retrain_hints
from itwinai.components import DataGetter
from itwinai.errors import ConfigurationError
from itwinai.hpo import (
    FunctionTrainer,
    StudyResult,
    Trial,
    TrialState,
    load_checkpoint,
    load_study,
    tune,
)
from itwinai.hpo.engine import Place, ray_cluster
from itwinai.hpo.errors import ReportError, StudyError, TrialsFailedError, UnkeepableError
from itwinai.hpo.functions.configuration import TrialConfig
from itwinai.hpo.functions.trial import NewestCheckpoint, Task
from itwinai.hpo.retraining import rerun
from itwinai.hpo.trial import Assignment
from itwinai.pipeline import Pipeline
from itwinai.reporting import END_OF_EPOCH, NullReporter, Progress, Reporter, TrialStopped

SPACE = {"x": {"type": "uniform", "lower": 0, "upper": 4}}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One Ray for the whole module."""
    with ray_cluster():
        yield


def run(function: Any, folder: Path, **settings: Any) -> StudyResult:
    """Run a study of three trials, one at a time unless told otherwise."""
    settings = {"config": {"x": 1.0}, "epochs": 4, "metric": "loss", "mode": "min"} | settings
    settings = {"num_samples": 3, "scheduler": "none", "algorithm": "random", "seed": 3} | settings
    settings = {"resources_per_worker": {"CPU": 0.5}, "max_concurrent_trials": 1} | settings
    space = settings.pop("space", SPACE)
    return tune(function, space, storage_path=folder, **settings)


def metrics(result: StudyResult, number: int, name: str) -> list[float]:
    return [epoch[name] for epoch in result.trials[number].history]


def alone(folder: Path, reporter: Reporter, epochs: float = 0) -> Trial:
    """A trial of four epochs, so many of which are on record, in this process."""
    assignment = Assignment(0, {}, str(folder), epochs=epochs)
    kept = NewestCheckpoint(folder)
    return Trial(Task(assignment, Place(), TrialConfig({}), None, 4, kept), reporter)


def approach(config: Any, trial: Trial) -> None:
    w = trial.load() or 0.0
    for _ in trial.epochs():
        w += 0.5 * (config["x"] - w)
        trial.report({"loss": (w - 2) ** 2}, checkpoint=w)


# -- what the function gets ----------------------------------------------------------------------


def test_the_first_trial_runs_the_default_and_the_best_is_told(tmp_path: Path) -> None:
    result = run(approach, tmp_path, num_samples=6)
    assert result.default is not None
    assert result.default.params == {"x": 1.0}
    assert metrics(result, 0, "loss") == [2.25, 1.5625, 1.265625, 1.12890625]
    assert [trial.epochs for trial in result.trials] == [4] * 6
    assert result.best is not None
    assert result.best.checkpoint is not None
    assert [p.name for p in tmp_path.glob("study/trials/*/epoch_*")] == ["epoch_3"]
    w = load_checkpoint(result.best.checkpoint)
    assert result.best.metrics["loss"] == (w - 2) ** 2


def test_a_study_of_a_function_without_torch_never_loads_it(tmp_path: Path) -> None:
    # This process has loaded torch; a new one shows what a user's program loads.
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from itwinai.hpo import tune\n\n"
        "def train(config, trial):\n"
        "    loaded = 'torch' in sys.modules\n"
        "    trial.report({'loss': config.x, 'loaded': loaded}, checkpoint=[config.x])\n\n"
        "if __name__ == '__main__':\n"
        f"    result = tune(train, {SPACE!r}, config={{'x': 1.0}}, metric='loss', mode='min',\n"
        "                  num_samples=3)\n"
        "    print('loaded here:', 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "loaded here: False" in done.stdout
    result = load_study(tmp_path / "studies" / "study")
    assert [metrics(result, n, "loaded") for n in range(3)] == [[0.0]] * 3


def test_data_is_each_trials_own(tmp_path: Path) -> None:
    data = {"x": np.arange(5000.0), "names": ["a"]}

    def train(config: Any, trial: Trial) -> None:
        found = trial.data["x"].sum() + len(trial.data["names"])
        trial.data["x"] += config.x
        trial.data["names"].append("b")
        trial.report({"loss": found})

    result = run(train, tmp_path, data=data)
    assert [t.metrics["loss"] for t in result.trials] == [12497501.0] * 3
    assert data["names"] == ["a"]


def test_dotted_names_go_into_mappings_of_the_configuration(tmp_path: Path) -> None:
    def train(config: Any, trial: Trial) -> None:
        model = dict(**config["model"])
        trial.report({"loss": model["width"] + config.model.depth})

    space = {"model.width": {"type": "randint", "lower": 10, "upper": 20}}
    result = run(train, tmp_path, space=space, config={"model": {"width": 1, "depth": 2}})
    assert result.trials[0].metrics["loss"] == 3
    assert all(12 <= trial.metrics["loss"] <= 22 for trial in result.trials[1:])


def test_a_configuration_is_merged_as_dictionaries_are() -> None:
    config = TrialConfig({"model": {"width": 3, "depth": 2}, "lr": 0.1})
    assert {"width": 1, "bias": True} | config.model == {"width": 3, "bias": True, "depth": 2}
    assert config.model | {"width": 1} == {"width": 1, "depth": 2}
    assert config.unread(["model.width", "model.depth", "lr"]) == ["lr"]


def test_trials_with_the_same_seed_draw_the_same_and_leave_nothing(tmp_path: Path) -> None:
    def train(config: Any, trial: Trial) -> None:
        os.environ["LEFT_BY_A_TRIAL"] = str(trial.number)
        drawn = random.random() + float(np.random.rand())
        trial.report({"loss": drawn + 0 * config.x})

    first, second = run(train, tmp_path / "a"), run(train, tmp_path / "b", seed=None)
    assert len({trial.metrics["loss"] for trial in first.trials}) == 1
    assert len({trial.metrics["loss"] for trial in second.trials}) == 3

    def look(config: Any, trial: Trial) -> None:
        trial.report({"loss": config.x, "left": float("LEFT_BY_A_TRIAL" in os.environ)})
        os.environ["LEFT_BY_A_TRIAL"] = "yes"

    result = run(look, tmp_path / "c")
    assert [trial.metrics["left"] for trial in result.trials] == [0, 0, 0]


#: Trials in this process so far.
CALLED: list[int] = []


def count_calls(config: Any, trial: Trial) -> None:
    CALLED.append(trial.number)
    trial.report({"loss": config.x, "calls": len(CALLED)})


def test_what_the_functions_module_keeps_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(count_calls, tmp_path, epochs=1)
    assert [trial.metrics["calls"] for trial in result.trials] == [1, 2, 3]
    said = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert said == [
        "warning: trial 0 has changed test_functions.CALLED, which keeps its value for later "
        "trials in the same process. Set fresh_processes: true in the study if they must not see "
        "it."
    ]


#: What a user writes: a function that changes things in their places, here and in a second module.
_CHANGING = """
import random
import numpy as np
import torch
import my_counts

ORDER = np.arange(1000)
NAMES = [f"file {n}" for n in range(300)]
KEPT = {"losses": {"seen": []}}
RNG = np.random.default_rng(0)
NETWORK = torch.nn.Linear(2, 1)
SAME = np.arange(1000)


def train(config, trial):
    np.random.shuffle(ORDER)
    random.shuffle(NAMES)
    KEPT["losses"]["seen"].append(config.x)
    with torch.no_grad():
        NETWORK.weight *= 0.9
    my_counts.CALLS += 1
    trial.report({"loss": RNG.normal() + SAME[0]})
"""


def test_what_changes_in_its_place_is_said_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_counts.py").write_text("CALLS = 0")
    (tmp_path / "my_changing.py").write_text(_CHANGING)
    monkeypatch.syspath_prepend(tmp_path)
    train = importlib.import_module("my_changing").train
    run(train, tmp_path, epochs=1, num_samples=2)
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    first = ("my_changing.KEPT", "my_changing.NAMES", "my_changing.NETWORK")
    assert f"trial 0 has changed {', '.join(first)} and 3 more, which keep their values" in said


# -- checkpoints -----------------------------------------------------------------------------------


class KilledOnce:
    """Trains by random numbers, and has its process killed in trial 1 once, after two epochs."""

    def __init__(self, folder: Path, asks: bool = True, checkpoints: bool = True) -> None:
        self.folder, self.asks, self.checkpoints = folder, asks, checkpoints

    def __call__(self, config: Any, trial: Trial) -> None:
        state = (trial.load() if self.asks else None) or {"w": np.zeros(3), "seen": ()}
        for epoch in trial.epochs():
            self._may_be_killed(trial, epoch)
            noise = random.random() + np.random.rand(3)
            state = {"w": state["w"] + noise * config.x, "seen": (*state["seen"], epoch)}
            kept = state if self.checkpoints else None
            trial.report({"loss": float(state["w"].sum()), "at": epoch}, checkpoint=kept)
        (trial.folder / "seen.json").write_text(json.dumps(state["seen"]))

    def _may_be_killed(self, trial: Trial, epoch: int) -> None:
        mark = self.folder / "killed"
        if trial.number == 1 and epoch == 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "how",
    [
        "goes on",
        pytest.param("does not ask", marks=pytest.mark.exhaustive),
        pytest.param("keeps nothing", marks=pytest.mark.exhaustive),
    ],
)
def test_a_lost_trial_ends_as_if_nothing_had_happened(tmp_path: Path, how: str) -> None:
    options = {"asks": how != "does not ask", "checkpoints": how != "keeps nothing"}
    undisturbed = tmp_path / "a"
    undisturbed.mkdir()
    (undisturbed / "killed").touch()
    expected = run(KilledOnce(undisturbed, **options), undisturbed)
    result = run(KilledOnce(tmp_path, **options), tmp_path / "b")
    assert (tmp_path / "killed").exists()
    assert [t.state for t in result.trials] == [TrialState.COMPLETED] * 3
    assert [t.history for t in result.trials] == [t.history for t in expected.trials]
    seen = json.loads((tmp_path / "b/study/trials/00001/seen.json").read_text())
    assert seen == [0, 1, 2, 3]


def test_a_checkpoint_holds_what_was_handed_over(tmp_path: Path) -> None:
    kept = {
        "plain": [None, True, 3, 2.5, "text", b"bytes", (1, "two"), {3, 4}],
        "array": np.arange(6).reshape(2, 3),
        "number": np.float32(0.1),
        7: {"nested": float("inf")},
    }

    def train(config: Any, trial: Trial) -> None:
        state = trial.load()
        for epoch in trial.epochs():
            mark = trial.folder / "killed"
            if epoch == 1 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            same = -1.0
            if state is not None:
                same = float(
                    state["plain"] == kept["plain"]
                    and (state["array"] == kept["array"]).all()  # type: ignore[attr-defined]
                    and state["array"].dtype == kept["array"].dtype  # type: ignore[attr-defined]
                    and state["number"] == kept["number"]
                    and type(state["number"]) is np.float32
                    and state[7] == kept[7]
                )
            trial.report({"loss": config.x, "same": same}, checkpoint=kept)

    result = run(train, tmp_path, num_samples=1, epochs=2)
    assert metrics(result, 0, "same") == [-1.0, 1.0]


def test_what_would_need_code_to_load_is_refused_with_what_to_do(tmp_path: Path) -> None:
    def train(config: Any, trial: Trial) -> None:
        trial.report({"loss": config.x}, checkpoint={"model": [random.Random(1)]})

    with pytest.raises(TrialsFailedError) as refused:
        run(train, tmp_path)
    assert "checkpoint['model'][0] is a Random, and loading that would run code" in str(
        refused.value
    )
    assert not list(tmp_path.glob("study/trials/*/epoch_*"))


def test_collections_come_back_as_what_they_were(tmp_path: Path) -> None:
    weights = np.ones(3)
    kept = {
        "counts": Counter("aab"),
        "missing": defaultdict(list, a=[1]),
        "newest": deque([1, 2], maxlen=2),
        "ordered": OrderedDict(a=1),
        "weights": weights,
        "average": weights,
    }
    trial = alone(tmp_path, NullReporter())
    trial.report({"loss": 1.0}, checkpoint=kept)
    found = load_checkpoint(tmp_path / "epoch_0")
    assert [type(value) for value in found.values()] == [type(value) for value in kept.values()]
    assert found["newest"].maxlen == 2
    assert found["missing"]["b"] == []
    assert found["counts"]["c"] == 0
    assert found["weights"] is found["average"]  # as they were one array
    assert (found["counts"], found["newest"]) == (kept["counts"], kept["newest"])


class Moments(NamedTuple):
    mean: float
    variance: float


@pytest.mark.parametrize(
    "state",
    [
        np.ma.masked_array([1.0, 2.0], [False, True]),
        Moments(0.0, 1.0),
        defaultdict(lambda: 1.0),
    ],
    ids=["masked array", "named tuple", "lambda"],
)
def test_what_would_come_back_as_something_else_is_refused(tmp_path: Path, state: Any) -> None:
    trial = alone(tmp_path, NullReporter())
    with pytest.raises(UnkeepableError, match=f"is a {type(state).__name__}"):
        trial.report({"loss": 1.0}, checkpoint={"state": state})


class StopsAt(NullReporter):
    """A study that has ended when the second report comes, which is on no record."""

    def __init__(self) -> None:
        self.checkpoints: list[Path | None] = []

    def report(
        self,
        metrics: Any,
        checkpoint: Path | None = None,
        progress: Progress = END_OF_EPOCH,
    ) -> bool:
        self.checkpoints.append(checkpoint)
        return len(self.checkpoints) == 2


def test_a_trial_that_is_told_to_stop_leaves_the_checkpoint_on_record(tmp_path: Path) -> None:
    study = StopsAt()
    trial = alone(tmp_path, study)
    trial.report({"loss": 2.0}, checkpoint=2)
    with pytest.raises(TrialStopped):
        trial.report({"loss": 1.0}, checkpoint=1)
    assert study.checkpoints[0] is not None
    assert study.checkpoints[0].is_dir()


def test_what_stopped_trials_leave_is_deleted_by_the_next_ones(tmp_path: Path) -> None:
    def train(config: Any, trial: Trial) -> None:
        left = sorted(trial.folder.parent.glob("*/epoch_*"))
        for epoch in trial.epochs():
            reported = {"loss": config.x + 1 / (epoch + 1), "left": len(left)}
            trial.report(reported, checkpoint=epoch)

    points = [{"x": x} for x in (1.5, 2.0, 3.0, 4.0)]
    asha = {"name": "asha", "grace_period": 2, "reduction_factor": 2}
    result = run(train, tmp_path, num_samples=5, points=points, scheduler=asha)
    stopped = [trial.number for trial in result.trials if trial.state is TrialState.STOPPED]
    assert len(stopped) > 1
    # Only that of the best one, the first, is there when another one begins.
    assert [trial.metrics["left"] for trial in result.trials] == [0, 1, 1, 1, 1]


# -- reports ---------------------------------------------------------------------------------------


def test_a_stopped_trial_ends_at_its_report(tmp_path: Path) -> None:
    def train(config: Any, trial: Trial) -> None:
        for epoch in trial.epochs():
            trial.report({"loss": config.x + 1 / (epoch + 1)})
            (trial.folder / f"after_{epoch}").touch()

    settings = {"scheduler": {"name": "asha", "grace_period": 1, "reduction_factor": 2}}
    points = [{"x": x} for x in (0.0, 1.0, 2.0, 3.0)]
    result = run(train, tmp_path, num_samples=5, points=points, **settings)
    stopped = [trial for trial in result.trials if trial.state is TrialState.STOPPED]
    assert stopped
    for trial in stopped:
        folder = tmp_path / "study" / "trials" / f"{trial.number:05d}"
        assert len(list(folder.glob("after_*"))) == trial.epochs - 1


def test_one_report_at_the_end_is_enough(tmp_path: Path) -> None:
    result = run(lambda config, trial: trial.report({"loss": config.x}), tmp_path, epochs=1)
    assert [trial.state for trial in result.trials] == [TrialState.COMPLETED] * 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("too many", "report 5 of 4 epochs"),
        ("no number", "loss is a list, not a number"),
        ("complex", "loss is a complex128, not a number"),
        ("huge", "loss is larger than a floating-point number can be"),
        ("no mapping", "expected numbers by name"),
        ("unread", "'x' was sampled but never read; did you mean 'xs'?"),
        ("unknown", "config.y: there is no such key"),
        ("late", "trial.load() after the first epoch"),
    ],
)
def test_what_is_wrong_with_a_report_is_said(tmp_path: Path, wrong: str, message: str) -> None:
    def train(config: Any, trial: Trial) -> None:
        value = {"loss": 1.0} if wrong == "unread" else {"loss": config["x"]}
        if wrong == "unknown":
            value = {"loss": config["y"]}
        for _ in range(5):
            losses = {"no number": [1, 2], "complex": np.complex128(1 + 2j), "huge": 10**400}
            given: Any = {"loss": losses[wrong]} if wrong in losses else value
            given = 3.0 if wrong == "no mapping" else given
            trial.report(given)
            if wrong == "late":
                trial.load()

    with pytest.raises(StudyError) as refused:
        run(train, tmp_path, config={"x": 1.0, "xs": 2.0})
    assert message in str(refused.value)


# -- several processes -----------------------------------------------------------------------------


def test_all_ranks_of_a_trial_report_and_stop_together(tmp_path: Path) -> None:
    def train(config: Any, trial: Trial) -> None:
        state = trial.load()
        assert state is None or state == "of rank 0"
        variables = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
        assert variables == [str(trial.rank), "2", str(trial.rank)]
        for epoch in trial.epochs():
            (trial.folder / f"drawn_{epoch}_{trial.rank}").write_text(str(random.random()))
            loss = config.x + 1 / (epoch + 1) if trial.rank == 0 else float("nan")
            trial.report({"loss": loss}, checkpoint=f"of rank {trial.rank}")
            (trial.folder / f"after_{epoch}_{trial.rank}").touch()

    settings = {"scheduler": {"name": "asha", "grace_period": 1, "reduction_factor": 2}}
    points = [{"x": x} for x in (0.0, 2.0, 3.0)]
    result = run(train, tmp_path, num_samples=4, points=points, workers_per_trial=2, **settings)
    ended = {TrialState.COMPLETED, TrialState.STOPPED}
    assert {trial.state for trial in result.trials} == ended
    for trial in result.trials:
        folder = tmp_path / "study" / "trials" / f"{trial.number:05d}"
        went_on = trial.epochs - (trial.state is TrialState.STOPPED)
        for rank in range(2):
            assert len(list(folder.glob(f"after_*_{rank}"))) == went_on
        drawn = {path.read_text() for path in folder.glob("drawn_0_*")}
        assert len(drawn) == 1, "a split at random is the same on all ranks"


def test_a_rank_that_reports_oftener_than_rank_0_ends_the_trial(tmp_path: Path) -> None:
    def train(config: Any, trial: Trial) -> None:
        for _ in range(1 + trial.rank):
            trial.report({"loss": config.x})

    with pytest.raises(TrialsFailedError, match="it reported once more than rank 0"):
        run(train, tmp_path, num_samples=1, workers_per_trial=2)


# -- before the start ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": {"z": SPACE["x"]}, "config": {"zz": 1}}, "search_space.z: config has no such"),
        ({"epochs": 0}, "epochs=0"),
        ({"config": {"x": "1e-1"}}, "config.x='1e-1' is text, and the search space has numbers"),
        ({"metrik": "loss"}, "study.metrik"),
        ({"study": {"metric": "loss"}}, "metric is given twice"),
        ({"data": threading.Lock()}, "data: it cannot be sent"),
    ],
)
def test_mistakes_are_refused_before_anything_starts(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        run(approach, tmp_path, **change)
    assert message in str(refused.value)
    assert not (tmp_path / "study").exists()


def test_a_study_that_begins_with_the_import_of_its_function_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_unguarded.py").write_text(
        "from itwinai.hpo import tune\n\n"
        "def train(config, trial):\n"
        "    trial.report({'loss': config.x})\n\n"
        f"tune(train, {SPACE!r}, metric='loss', mode='min', num_samples=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match=r"my_unguarded\.py, line 6: the study begins"):
        importlib.import_module("my_unguarded")


def test_a_function_of_other_arguments_is_refused(tmp_path: Path) -> None:
    def train(config: Any) -> None:
        raise AssertionError

    for function in (train, partial(train)):
        with pytest.raises(ConfigurationError, match=r"^function: train cannot be called with"):
            run(function, tmp_path)


# -- once, without a study ---------------------------------------------------------------------


def test_without_a_search_space_the_function_is_called_once(tmp_path: Path) -> None:
    class Data(DataGetter):
        def execute(self) -> tuple[float, float]:
            return 0.5, 2.0

    def train(config: Any, trial: Trial) -> dict[str, Any]:
        drawn = random.random()
        w = sum(trial.data) + drawn
        for _ in trial.epochs():
            trial.report({"loss": w - config.x}, checkpoint={"w": w})
        return {"w": w, "place": (trial.rank, trial.world_size, trial.seed)}

    step = FunctionTrainer(
        train, config={"x": 1.0}, epochs=3, random_seed=5, checkpoints_location=tmp_path
    )
    expected = 2.5 + random.Random(5).random()
    assert Pipeline([Data(), step]).execute() == {"w": expected, "place": (0, 1, 5)}
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_2"]
    assert step.study_result is None


def test_processes_of_torchrun_call_the_function_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)

    def train(config: Any, trial: Trial) -> tuple[int, int]:
        trial.report({"loss": config.x}, checkpoint=1)
        return trial.rank, trial.world_size

    step = FunctionTrainer(train, config={"x": 1.0}, checkpoints_location=tmp_path)
    assert step.execute() == (1, 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"study": {"metric": "loss"}}, "search_space: there is none, and study says"),
        ({"search_space": SPACE, "random_seed": 3}, "random_seed=3: .* study.seed=3"),
    ],
)
def test_what_is_meant_for_the_other_way_to_train_is_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FunctionTrainer(approach, config={"x": 1.0}, **arguments)


# -- in the middle of epochs ---------------------------------------------------------------------


class InParts:
    """Reports each half of an epoch, with a checkpoint; trial 1 loses its process once."""

    def __init__(self, mark: Path | None = None) -> None:
        self.mark = mark

    def __call__(self, config: Any, trial: Trial) -> None:
        done, w = trial.load() or (0, 0.0)
        for half in range(done, 2 * trial.total):
            w += 0.5 * (config["x"] - w)
            state = [half + 1, w]
            trial.report({"loss": (w - 2) ** 2}, state, epoch=(half + 1) / 2, step=10 * (half + 1))
            if self.mark is not None and trial.number == 1 and half == 2 and not self.mark.exists():
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)


def test_a_function_reports_in_the_middle_of_epochs_and_goes_on_there(tmp_path: Path) -> None:
    whole = run(InParts(), tmp_path / "whole", num_samples=2)
    mark = tmp_path / "mark"
    killed = run(InParts(mark), tmp_path / "killed", num_samples=2)
    assert mark.exists()
    halves = (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)
    for one, other in zip(whole.trials, killed.trials, strict=True):
        assert one.at == other.at == halves
        assert one.history == other.history
    assert killed.trials[1].epochs == 4


@pytest.mark.parametrize(
    ("unit", "grace", "ends"),
    [
        ("steps", 15, 1),
        pytest.param("epochs", 0.5, 0.5, marks=pytest.mark.exhaustive),
        pytest.param("seconds", 1e-6, 0.5, marks=pytest.mark.exhaustive),
    ],
)
def test_a_function_is_stopped_in_the_middle_of_an_epoch(
    tmp_path: Path, unit: str, grace: float, ends: float
) -> None:
    scheduler = {"name": "asha", "grace_period": grace, "unit": unit, "reduction_factor": 10**9}
    points = [{"x": 0.1}]  # worse than the default from the first half on
    result = run(InParts(), tmp_path, num_samples=2, scheduler=scheduler, points=points)
    assert result.trials[1].state is TrialState.STOPPED
    assert result.trials[1].epochs == ends


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ((0.5, 0.25), r"trial.report\(epoch=0.25\): the report before was at 0.5"),
        ((float("nan"),), r"trial.report\(epoch=nan\): give the epochs trained so far"),
        ((4.5,), r"trial.report\(\): report 4.5 of 4 epochs"),
    ],
)
def test_a_place_that_makes_no_sense_is_refused(
    tmp_path: Path, places: Sequence[float], message: str
) -> None:
    trial = alone(tmp_path, NullReporter())
    for epoch in places[:-1]:
        trial.report({"loss": 1.0}, epoch=epoch)
    with pytest.raises(ReportError, match=message):
        trial.report({"loss": 1.0}, epoch=places[-1])


class Hearing(NullReporter):
    """Notes the places of the reports that come."""

    def __init__(self) -> None:
        self.heard: list[float | None] = []

    def report(
        self,
        metrics: Any,
        checkpoint: Path | None = None,
        progress: Progress = END_OF_EPOCH,
    ) -> bool:
        self.heard.append(progress.epochs)
        return False


def test_what_a_function_reports_again_is_passed_over(tmp_path: Path) -> None:
    study = Hearing()
    trial = alone(tmp_path, study, epochs=1.5)
    # It begins its running epoch, or all of them, again.
    for epoch in (0.25, 1, 1.25, 1.5, 1.75, 2):
        trial.report({"loss": 1.0}, [epoch], epoch=epoch)
    assert study.heard == [1.75, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1"]


def test_a_function_that_trains_a_part_of_its_checkpoint_again_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone(tmp_path, NullReporter()).report({"loss": 1.0}, [1.5], epoch=1.5)
    assignment = Assignment(0, {}, str(tmp_path), str(tmp_path / "epoch_1_part_0.5"), 1.5)
    kept = NewestCheckpoint(tmp_path)
    trial = Trial(Task(assignment, Place(), TrialConfig({}), None, 4, kept), NullReporter())
    assert trial.load() == [1.5]
    trial.report({"loss": 1.0}, epoch=1.75)
    assert "once more" not in caplog.text
    trial = Trial(Task(assignment, Place(), TrialConfig({}), None, 4, kept), NullReporter())
    trial.load()
    for epoch in trial.epochs():  # 1, of which the checkpoint holds a half
        trial.report({"loss": 1.0}, epoch=epoch + 0.5)
        break
    assert "trains up to epoch 1.5 once more" in caplog.text


def test_a_study_that_goes_on_says_which_values_of_its_configuration_have_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def train(config: Any, trial: Trial) -> None:
        trial.report({"loss": config.x + config.data.noise})

    config = {"x": 1.0, "data": {"noise": np.int64(1), "names": ["a"], "made by": train}}
    run(train, tmp_path, config=config, num_samples=1, epochs=1)
    run(train, tmp_path, config={**config, "x": 2.0}, num_samples=2, epochs=1, resume=True)
    assert "trained otherwise" not in caplog.text
    changed = {**config, "data": {"noise": 0.0}}
    run(train, tmp_path, config=changed, num_samples=3, epochs=1, resume=True)
    assert "since then config.data.noise, config.data.names has changed" in caplog.text


def test_the_command_that_trains_the_best_makes_sections_that_the_configuration_lacks(
    tmp_path: Path,
) -> None:
    space = {"model.width": {"type": "int", "lower": 1, "upper": 9}}
    study = build_study(tmp_path, space, num_samples=1)
    step = FunctionTrainer(approach, space, {}, 4, {"metric": "loss", "mode": "min"})
    step.study_result = simulate(study, lambda params, epoch: {"validation_loss": 1.0})
    described = {"_target_": "itwinai.pipeline.Pipeline", "steps": {"fit": {"search_space": space}}}
    cfg = OmegaConf.create({"training_pipeline": described})
    OmegaConf.set_struct(cfg, True)  # as Hydra composes it
    (hint,) = retrain_hints(cfg, [], Pipeline({"fit": step}))
    assert "++training_pipeline.steps.fit.config.model.width=" in hint


@pytest.mark.parametrize("workers", [1, 2])
def test_new_trainings_of_what_several_processes_trained_are_told_to_be_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    study = build_study(tmp_path, SPACE, default={"x": 1.0}, num_samples=1)
    result = simulate(study, lambda params, epoch: {"validation_loss": 1.0})
    settings = {"metric": "loss", "mode": "min", "workers_per_trial": workers}
    trainer = FunctionTrainer(approach, SPACE, {"x": 1.0}, 4, settings)
    caplog.set_level("WARNING", logger="itwinai")
    outcome = rerun(trainer, (None,), result, trial=0, epochs=2)
    assert outcome.metrics["loss"] == ((0.75 - 2) ** 2, None)
    assert ("each trial was trained by 2 processes" in caplog.text) is (workers == 2)
