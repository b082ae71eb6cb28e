"""However it is trained, the numbers are those of one process that is never interrupted.

Every strategy, uninterrupted and resumed, with every kind of schedule, accumulation and average.
"""

from __future__ import annotations

import json
import logging
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ranks import run_ranks

PROGRAM = Path(__file__).with_name("matrix_program.py")

ALONE = "one process"
#: Each of them in two ranks, but the first.
STRATEGIES = (ALONE, "ddp", "fsdp", "deepspeed")
CONTINUATIONS = ("uninterrupted", "resumed", "resumed in another world size")
SCHEDULES: dict[str, dict[str, Any]] = {
    "no schedule": {},
    "cosine": {"lr_scheduler": "cosine", "lr_warmup_epochs": 0.5},
    "one-cycle": {"lr_scheduler": "onecycle"},
    "plateau": {"plateau": 0.15},
}
ACCUMULATIONS = (1, 4)
AVERAGES = (None, 0.9)

#: Largest difference of a loss, or of a weight, of which the largest are about 1. Sums in another
#: order differ in the last bits: of a float64, or of a float32, in which DeepSpeed keeps weights.
TOLERANCES = {ALONE: 1e-13, "ddp": 1e-13, "fsdp": 1e-13, "deepspeed": 1e-5}


class Cell(NamedTuple):
    """One combination."""

    strategy: str
    continuation: str
    schedule: str
    accumulation: int
    average: float | None

    @property
    def kind(self) -> str:
        """Name of its configuration."""
        return f"{self.schedule}, {self.accumulation}, {self.average}"

    @property
    def config(self) -> dict[str, Any]:
        steps, decay = self.accumulation, self.average
        return SCHEDULES[self.schedule] | {"gradient_accumulation_steps": steps, "ema_decay": decay}

    @property
    def name(self) -> str:
        return f"{self.strategy}, {self.continuation}, {self.kind}"

    @property
    def origin(self) -> str:
        """Strategy of the training that it resumes, if it resumes one."""
        if self.continuation == "resumed":
            return self.strategy
        return "ddp" if self.strategy == ALONE else ALONE


def all_cells() -> list[Cell]:
    factors = (STRATEGIES, CONTINUATIONS, SCHEDULES, ACCUMULATIONS, AVERAGES)
    return [Cell(*values) for values in product(*factors)]


def pairwise() -> list[Cell]:
    """The fewest cells in which each two values of two factors meet."""
    schedules = list(SCHEDULES)
    return [
        Cell(
            STRATEGIES[one],
            CONTINUATIONS[(one + other) % 3],
            schedules[other],
            ACCUMULATIONS[(one ^ other) & 1],
            AVERAGES[(one ^ other) >> 1],
        )
        for one, other in product(range(4), repeat=2)
    ]


class Matrix(NamedTuple):
    """Cells, and what was measured: of each, and of each configuration in one process."""

    cells: list[Cell]
    outcomes: dict[str, Any]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(pairwise, id="pairs"),
        pytest.param(all_cells, id="all", marks=pytest.mark.exhaustive),
    ],
)
def matrix(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    cells, folder = request.param(), tmp_path_factory.mktemp("matrix")
    whole = [run_of(folder, cell.kind, ALONE, cell) for cell in cells]
    cut, final = [], []
    for cell in cells:
        start = None
        if cell.continuation != "uninterrupted":
            start = f"cut, {cell.origin}, {cell.kind}"
            cut.append(run_of(folder, start, cell.origin, cell, cut=True))
        final.append(run_of(folder, cell.name, cell.strategy, cell, start=start))
    outcomes = launch(folder, [*whole, *alone(cut)], ranks=1)
    outcomes |= launch(folder, [*alone(cut, False), *alone(final, False)], ranks=2)
    outcomes |= launch(folder, alone(final), ranks=1)
    return Matrix(cells, outcomes)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("continuation", CONTINUATIONS)
def test_the_numbers_are_those_of_one_uninterrupted_process(matrix, strategy, continuation):
    differences = {}
    for cell in matrix.cells:
        if (cell.strategy, cell.continuation) == (strategy, continuation):
            expected, outcome = matrix.outcomes[cell.kind], matrix.outcomes[cell.name]
            epochs = slice(0 if continuation == "uninterrupted" else 2, None)
            assert outcome["rates"] == pytest.approx(expected["rates"][epochs]), cell
            differences[cell] = difference(outcome, expected)
    losses, weights = zip(*differences.values(), strict=True)
    logging.getLogger(__name__).info(  # the table in docs/training.md
        "%s, %s: loss %.1e, weights %.1e", strategy, continuation, max(losses), max(weights)
    )
    assert {c: d for c, d in differences.items() if max(d) > TOLERANCES[strategy]} == {}


def test_all_that_is_configured_matters(matrix):
    kinds = {cell.kind: matrix.outcomes[cell.kind] for cell in matrix.cells}
    for one, other in combinations(kinds.values(), 2):
        assert min(difference(one, other)) > 1e-4
    for kind, outcome in kinds.items():
        if kind.startswith("plateau"):
            assert outcome["rates"][-1] < outcome["rates"][1]


def test_each_two_values_meet():
    few, all_of_them = (
        {pair for cell in cells for pair in combinations(enumerate(cell), 2)}
        for cells in (pairwise(), all_cells())
    )
    assert few == all_of_them


def run_of(
    folder: Path, name: str, strategy: str, cell: Cell, start: str | None = None, cut: bool = False
) -> dict[str, Any]:
    """What the program is asked to train, in a folder of its name."""
    return {
        "name": name,
        "strategy": None if strategy == ALONE else strategy,
        "config": cell.config,
        "folder": str(folder / name),
        "start": None if start is None else str(folder / start),
        "cut": cut,
    }


def alone(runs: list[dict[str, Any]], yes: bool = True) -> list[dict[str, Any]]:
    """Those of one process, or the others."""
    return [run for run in runs if (run["strategy"] is None) == yes]


def launch(folder: Path, runs: list[dict[str, Any]], ranks: int) -> dict[str, Any]:
    """Train runs one after the other, each name once; return what each came to."""
    once = {run["name"]: run for run in runs}
    asked, outcomes = folder / "runs.json", folder / "outcomes.json"
    asked.write_text(json.dumps(list(once.values())))
    run_ranks(PROGRAM, str(asked), str(outcomes), ranks=ranks, timeout=900)
    return json.loads(outcomes.read_text())


def difference(one: Any, other: Any) -> tuple[float, float]:
    """Of the losses, and the largest of a weight."""
    pairs = zip(one["weights"], other["weights"], strict=True)
    return abs(one["loss"] - other["loss"]), max(abs(a - b) for a, b in pairs)
