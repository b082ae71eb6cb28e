"""The Slurm of two nodes on which other tests stand: it is real, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from testbed import NODES, Testbed, until

pytestmark = pytest.mark.slurm

_REPOSITORY = Path(__file__).resolve().parents[2]

_BOTH_HOSTS = """#!/bin/sh
#SBATCH --nodes=2
srun sh -c 'hostname; touch /tmp/of-this-node; ls /tmp/of-this-node'
"""

_SIGNALLED = """#!/bin/sh
#SBATCH --time=1 --signal=B:USR1@50
trap 'echo the time is nearly up; kill $!; exit 3' USR1
sleep 60 &
wait
"""


def test_a_job_runs_on_both_nodes(slurm: Testbed) -> None:
    job = slurm.wait(slurm.submit(_BOTH_HOSTS))
    assert job.state == "COMPLETED"
    assert sorted(job.output.split()) == ["/tmp/of-this-node"] * 2 + sorted(NODES)
    assert not Path("/tmp/of-this-node").exists()


@pytest.mark.exhaustive
def test_a_job_hears_that_its_time_is_nearly_up(slurm: Testbed) -> None:
    job = slurm.wait(slurm.submit(_SIGNALLED))
    # slurmstepd may add that the killed process was gone before it could be continued.
    assert (job.exit_code, job.output.splitlines()[0]) == (3, "the time is nearly up")


def test_two_jobs_share_a_node_and_one_can_wait_for_another(slurm: Testbed) -> None:
    here = "--nodelist=node1"
    first = slurm.submit("#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.1; done\n", here)
    second = slurm.submit("#!/bin/sh\ntouch go\n", here)
    third = slurm.submit("#!/bin/sh\nhostname\n", here, f"--dependency=afterany:{first}")
    assert slurm.wait(second).state == "COMPLETED"
    assert slurm.wait(third).output == "node1\n"
    assert slurm.state(first) == "COMPLETED"


@pytest.mark.exhaustive
def test_processes_of_a_node_are_seen_and_die_with_it(slurm: Testbed) -> None:
    job = slurm.submit("#!/bin/sh\necho began\nsleep 1234\n", "--nodelist=node2", "--no-requeue")
    until(lambda: "began" in slurm.output(job), 30, lambda: "the job does not begin")
    assert "sleep 1234" in slurm.processes("node2")
    assert "sleep 1234" not in slurm.processes("node1")
    slurm.kill_node("node2")
    assert slurm.wait(job).state == "NODE_FAIL"
    slurm.start_node("node2")
    assert slurm.processes("node2") == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_it(slurm: Testbed, how: signal.Signals, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.slurm.testbed"]
    options = {"cwd": _REPOSITORY, "env": {**os.environ, "TMPDIR": str(tmp_path)}}
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, **options) as bed:
        assert bed.stdout is not None
        shown = next(line for line in bed.stdout if "SLURM_CONF" in line)
        folder = shown.partition("SLURM_CONF=")[2].partition("/slurm.conf")[0]
        assert _processes(folder)
        bed.send_signal(how)
    until(lambda: not _processes(folder), 10, lambda: f"still there: {_processes(folder)}")
    assert how is signal.SIGKILL or not Path(folder).exists()


def _processes(folder: str) -> str:
    found = subprocess.run(["pgrep", "-af", folder], stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout
