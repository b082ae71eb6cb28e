"""Who is how many in a job, on a real Slurm: what srun starts as tasks, and nobody else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from testbed import Testbed

from itwinai.slurm.configuration import SlurmConfiguration
from itwinai.slurm.script import render
from itwinai.slurm.submission import run_of

pytestmark = pytest.mark.slurm

_HERE = Path(__file__).resolve().parent
_PROGRAM = f"{sys.executable} {_HERE / 'rank_program.py'}"

#: In a job of two tasks. The study is one of them, and so is the Ray that it starts; so is who
#: submits the next job.
_STEPS = f"""
{_PROGRAM} script
srun {_PROGRAM} srun train
srun --nodes=1 --ntasks=1 bash -c '{_PROGRAM} shell'
srun bash -c 'test $SLURM_PROCID = 1 || exec {_PROGRAM} study study'
srun bash -c 'test $SLURM_PROCID = 1 || exec {sys.executable} -m itwinai slurm submit'
"""

#: Within salloc: where it was typed, and in the shell that some sites start on the first node.
_INTERACTIVE = f"""
{_PROGRAM} salloc
srun --interactive --preserve-env bash -c '{_PROGRAM} shell; srun {_PROGRAM} srun'
"""


@pytest.fixture
def folder(slurm: Testbed, tmp_path: Path) -> Path:
    """A folder that both nodes see."""
    shared = slurm.storage / tmp_path.name
    shared.mkdir()
    return shared


def _configuration(folder: Path, **settings: Any) -> SlurmConfiguration:
    places = {"storage_path": folder, "working_dir": folder}
    return SlurmConfiguration(kind="plain", nodes=2, time="10", **places, **settings)


def _ranks(folder: Path) -> set[str]:
    return set((folder / "ranks").read_text().splitlines())


@pytest.mark.exhaustive
def test_a_job_of_several_tasks_is_several_processes_by_srun_alone(
    slurm: Testbed, folder: Path
) -> None:
    (folder / "steps.sh").write_text(f"set -e{_STEPS}")
    next_job = _configuration(folder, job_name="next", command=f"{_PROGRAM} submitted".split())
    (folder / "slurm.yaml").write_text(next_job.model_dump_json(exclude_unset=True))
    job = render(_configuration(folder, command=["bash", "steps.sh"]))
    ended = slurm.wait(slurm.submit(job), 240)
    assert ended.exit_code == 0, ended.output
    assert slurm.wait(run_of(next_job)).exit_code == 0
    srun = {"srun: 0 of 2", "srun: 1 of 2"}
    alone = {f"{word}: 0 of 1" for word in ("script", "shell", "study", "submitted")}
    assert _ranks(folder) == alone | srun


def test_so_is_an_interactive_one(slurm: Testbed, folder: Path) -> None:
    salloc = ["salloc", "--quiet", "--nodes=2", "--ntasks=2", "bash", "-ec", _INTERACTIVE]
    slurm.run(salloc, cwd=folder)
    srun = {"srun: 0 of 2", "srun: 1 of 2"}
    assert _ranks(folder) == {"salloc: 0 of 1", "shell: 0 of 1"} | srun
