"""Going on in the middle of an epoch equals never having stopped, to the last bit."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks

PROGRAM = Path(__file__).with_name("within_program.py")
SAMPLES, EPOCHS = 75, 3

#: What a case is cut off before: a batch of its second epoch.
CUT = {1: 19 + 12, 2: 10 + 6}

_ALL = {"gradient_accumulation_steps": 2, "ema_decay": 0.8, "lr_scheduler": "cosine"}
CASES: dict[str, dict[str, Any]] = {
    "all of it": {"data": "noisy", "config": {**_ALL, "loss": "mse"}},
    "processes that load": {
        "config": {"num_workers_dataloader": 2, "drop_last": True, "lr_scheduler": "onecycle"}
    },
    "weights that the ranks tell": {
        "kind": "weighing",
        "data": "ignoring",
        "config": {**_ALL, "precision": "bf16", "drop_last": True},
    },
    "a stream": {"data": "stream"},
    "a stream that is read ahead": {"data": "stream", "config": _ALL | {"lr_scheduler": None}},
    "a loop of its own": {"config": _ALL, "kind": "loop"},
    "in shards": {"config": _ALL, "sharded": True},
}
ALONE: dict[str, dict[str, Any]] = {
    "another sampler": {"loader": "shuffled"},
    "another sampler that draws as it goes": {
        "loader": "weighted",
        "config": {"num_workers_dataloader": 2},
    },
    "a loader that knows its place": {"loader": "remembering"},
    "torchdata's": {"loader": "stateful"},
    "torchdata's with processes": {
        "loader": "stateful",
        "config": {"num_workers_dataloader": 2},
    },
}
TOGETHER: dict[str, dict[str, Any]] = {
    "fsdp": {"config": _ALL, "strategy": "fsdp"},
    "a stream that draws its order": {"data": "drawing"},
}


STREAMS = ("stream", "drawing")
BY_THE_CLOCK = "by the clock, resumed"


def launch(folder: Path, ranks: int, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Train all runs in that many ranks; return what each rank has seen, by name of the run."""
    (folder / "runs.json").write_text(json.dumps(runs))
    run_ranks(PROGRAM, str(folder), str(folder / "runs.json"), ranks=ranks, timeout=280)
    return [json.loads((folder / f"outcomes-{rank}.json").read_text()) for rank in range(ranks)]


def cases_of(ranks: int) -> dict[str, dict[str, Any]]:
    return CASES | (ALONE if ranks == 1 else TOGETHER)


@pytest.fixture(scope="module", params=[1, 2])
def trained(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each case whole, cut off and resumed: its ranks, the folder, and what they have seen."""
    ranks, folder, runs = request.param, tmp_path_factory.mktemp("within"), []
    for name, case in cases_of(ranks).items():
        place = str(folder / name)
        runs += [
            {**case, "name": f"{name}, whole", "folder": f"{place}, whole", "every": 1000},
            {**case, "name": f"{name}, cut", "folder": place, "cut": CUT[ranks], "every": 3},
            {**case, "name": f"{name}, resumed", "folder": place, "start": place, "every": 1000},
        ]
    case, place = CASES["all of it"], str(folder / BY_THE_CLOCK)
    runs += [
        {**case, "name": "by the clock", "folder": place, "seconds": 1e-6},
        {**case, "name": BY_THE_CLOCK, "folder": place, "start": f"{place}/epoch_0_step_2"},
    ]
    return ranks, folder, launch(folder, ranks, runs)


def test_the_rest_is_that_of_an_uninterrupted_training(trained: Any) -> None:
    ranks, _, outcomes = trained
    for name in cases_of(ranks):
        for outcome in outcomes:
            whole, resumed = outcome[f"{name}, whole"], outcome[f"{name}, resumed"]
            assert resumed["weights"] == whole["weights"] != [], name
            assert resumed["history"] == whole["history"][1:], name
            assert resumed["seen"] == whole["seen"][-len(resumed["seen"]) :], name


def test_a_checkpoint_by_the_clock_is_one_of_all_ranks(trained: Any) -> None:
    for outcome in trained[2]:
        whole, resumed = outcome["all of it, whole"], outcome[BY_THE_CLOCK]
        assert resumed["weights"] == whole["weights"] != []
        assert resumed["history"] == whole["history"]
        assert len(resumed["seen"]) == len(whole["seen"]) - 4  # two steps of two batches


def test_nothing_of_an_epoch_is_trained_twice_or_left_out(trained: Any) -> None:
    ranks, folder, outcomes = trained
    for name in cases_of(ranks):
        newest = max(path.name for path in (folder / name).glob("epoch_1_step_*"))
        for outcome in outcomes:
            whole, cut, resumed = (
                [batch for batch in outcome[f"{name}, {part}"]["seen"] if batch[0] == 1]
                for part in ("whole", "cut", "resumed")
            )
            assert 0 < len(resumed) < len(whole), (name, newest)
            done = len(whole) - len(resumed)
            assert cut[:done] + resumed == whole, name


def test_a_stream_that_draws_its_order_has_one_on_all_ranks(trained: Any) -> None:
    ranks, _, outcomes = trained
    for name in set(cases_of(ranks)) & {"a stream that draws its order"}:
        seen = [batch for outcome in outcomes for batch in outcome[f"{name}, whole"]["seen"]]
        for epoch in range(EPOCHS):
            numbers = [n for number, *batch in seen if number == epoch for n in batch]
            # The last batch of one rank stands in once more for the one that it lacks.
            assert set(numbers) == set(range(SAMPLES)), epoch
            assert len(numbers) <= SAMPLES + 1, epoch


def test_what_was_trained_on_is_not_loaded_again(trained: Any) -> None:
    ranks, _, outcomes = trained
    for name, case in cases_of(ranks).items():
        if case.get("config", {}).get("num_workers_dataloader") or case.get("data") in STREAMS:
            continue  # loaded elsewhere; each rank reads all of a stream
        for outcome in outcomes:
            resumed = outcome[f"{name}, resumed"]
            seen = [number for _, *numbers in resumed["seen"] for number in numbers]
            assert resumed["loaded"] == seen, name


@pytest.mark.parametrize(
    ("before", "after"), [(1, 2), pytest.param(2, 1, marks=pytest.mark.exhaustive)]
)
def test_other_ranks_train_on_the_rest_exactly_once(
    tmp_path: Path, before: int, after: int
) -> None:
    names = ["all of it", "processes that load", "in shards", "a stream"]
    runs = [{**CASES[name], "name": name, "folder": str(tmp_path / name)} for name in names]
    begun = launch(tmp_path, before, [{**run, "cut": CUT[before], "every": 3} for run in runs])
    rest = launch(tmp_path, after, [{**run, "start": run["folder"], "every": 99} for run in runs])
    for name in names:
        config = CASES[name].get("config", {})
        done = steps_of_newest(tmp_path / name) * config.get("gradient_accumulation_steps", 1)
        trained = [n for outcome in begun for n in numbers(outcome[name])[:done]]
        trained += [n for outcome in rest for n in numbers(outcome[name])]
        counts = Counter(number for batch in trained for number in batch)
        # drop_last leaves out a batch's part.
        most_left_out = {"processes that load": 3}.get(name, 0)
        assert SAMPLES - len(counts) <= most_left_out, name
        # A rank whose last batch would be empty repeats a sample, which counts nothing there.
        assert sorted(counts.values(), reverse=True)[1:] == [1] * (len(counts) - 1), name


def steps_of_newest(folder: Path) -> int:
    return max(int(path.name.split("_")[-1]) for path in folder.glob("epoch_1_step_*"))


def numbers(outcome: dict[str, Any]) -> list[list[int]]:
    """The samples of each batch of the second epoch, on one rank."""
    return [batch for epoch, *batch in outcome["seen"] if epoch == 1]
