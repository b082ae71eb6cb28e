"""Ray's memory monitor ends a trial's process: on a Ray of its own, with little memory to spare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_engine import Nodes, log_of, run, states
from toy_study import ToyProgram

from itwinai.environ import environment
from itwinai.hpo.engine import Place, ray_cluster
from itwinai.hpo.trial import Assignment

_GIB = 2**30


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A Ray that ends processes once four gigabytes more than now are in use, by whomever."""
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(memory[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    threshold = (total - free + 4 * _GIB) / total
    if threshold > 0.9:
        pytest.skip("this machine has too little memory to spare")
    settings = {
        "RAY_memory_usage_threshold": f"{threshold:.4f}",
        "RAY_memory_monitor_refresh_ms": "50",
    }
    with environment(settings), ray_cluster() as found:
        yield found


class Fill:
    """Fills the memory in trial 0, up to eight gigabytes."""

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        """Write into every page."""
        filled = []
        while assignment.number == 0 and epoch == 3 and len(filled) < 128:
            filled.append(bytearray(b"x" * (_GIB // 16)))


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.exhaustive), 2])
def test_a_trial_that_fills_the_memory_is_not_retried_and_the_study_goes_on(
    tmp_path: Path, nodes: Nodes, workers: int
) -> None:
    program = ToyProgram(Fill())
    study = run(tmp_path, nodes, program, num_samples=2, workers_per_trial=workers)
    result = study.result()
    assert states(result) == ["out of memory", "completed"]
    assert result.trials[0].reason == "Ray ended its process: the machine ran out of memory"
    assert log_of(study, 0).count("from 0 in process") == 1
