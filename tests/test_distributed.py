"""Where a process stands, as each launcher tells, and what it prints."""

from __future__ import annotations

import builtins
import os
import sys

import pytest

import itwinai.distributed as cluster
from itwinai.distributed import ClusterEnvironment
from itwinai.environ import as_one_process

PREFIXES = ("SLURM", "OMPI", "MASTER", "RANK", "WORLD", "LOCAL", "RAY")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in list(os.environ):
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)


@pytest.fixture
def launched(monkeypatch):
    def set_all(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return set_all


TORCHRUN = {"RANK": 3, "LOCAL_RANK": 1, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": 3,
    "OMPI_COMM_WORLD_LOCAL_RANK": 1,
    "OMPI_COMM_WORLD_SIZE": 4,
    "OMPI_COMM_WORLD_LOCAL_SIZE": 2,
}
SLURM = {
    "SLURM_PROCID": 3,
    "SLURM_LOCALID": 1,
    "SLURM_NTASKS": 4,
    "SLURM_NTASKS_PER_NODE": 2,
    "SLURM_JOB_NODELIST": "gpu[007-008]",
    "SLURM_JOB_ID": 4711,
    "SLURM_STEP_ID": 0,
}


@pytest.mark.parametrize("variables", [TORCHRUN, OPEN_MPI, SLURM])
def test_each_launcher_is_read(launched, variables):
    launched(**variables)
    assert cluster.detect_distributed_environment() == ClusterEnvironment(
        global_rank=3, local_rank=1, global_world_size=4, local_world_size=2
    )


def test_alone_without_a_launcher():
    assert cluster.detect_distributed_environment() == ClusterEnvironment()
    assert cluster.rendezvous() == {}


def test_a_job_s_script_without_srun_is_one_process(launched):
    launched(**{name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"})
    launched(SLURM_PROCID=0, SLURM_LOCALID=0)
    assert cluster.detect_distributed_environment() == ClusterEnvironment()
    assert cluster.rendezvous() == {}


@pytest.mark.parametrize("task", [TORCHRUN, OPEN_MPI, SLURM, {"PMI_RANK": 1, "GROUP_RANK": 0}])
def test_what_a_task_starts_may_be_one_process(launched, task):
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "HOME": "/home/me"}
    variables = {name: str(value) for name, value in task.items()}
    assert as_one_process(job | {**variables, **job}) == job


def test_torchrun_within_a_slurm_job_wins(launched):
    launched(**SLURM | {"SLURM_PROCID": 0}, **TORCHRUN)
    assert cluster.detect_distributed_environment().global_rank == 3


@pytest.mark.parametrize(("node", "tasks"), [(0, 4), (1, 4), (2, 3)])
def test_slurm_s_tasks_may_differ_between_nodes(launched, node, tasks):
    launched(**SLURM | {"SLURM_NTASKS": 11}, SLURM_STEP_TASKS_PER_NODE="4(x2),3")
    launched(SLURM_NODEID=node)
    assert cluster.detect_distributed_environment().local_world_size == tasks


def test_a_step_of_a_job_counts_for_itself(launched):
    launched(**SLURM | {"SLURM_NTASKS": 16}, SLURM_STEP_NUM_TASKS=4)
    assert cluster.detect_distributed_environment().global_world_size == 4


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("login", "login"),
        ("a1,b2", "a1"),
        ("gpu[007-009,012],b2", "gpu007"),
        ("gpu[12,14]-ib.site", "gpu12-ib.site"),
        ("rack[3-4]n[01-16],x", "rack3n01"),
    ],
)
def test_first_host_of_slurm_s_list(hosts, first):
    assert cluster.first_host(hosts) == first


def test_under_slurm_the_processes_know_where_to_meet(launched):
    launched(**SLURM)
    found = cluster.rendezvous()
    port = int(found.pop("MASTER_PORT"))
    assert 15_000 <= port < 30_000
    assert found == {
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "gpu007",
    }
    launched(SLURM_PROCID=0, SLURM_LOCALID=0)
    assert int(cluster.rendezvous()["MASTER_PORT"]) == port
    launched(SLURM_STEP_ID=1)
    assert int(cluster.rendezvous()["MASTER_PORT"]) != port


def test_what_is_set_is_left_alone(launched):
    launched(**SLURM, MASTER_ADDR="elsewhere", MASTER_PORT=4321)
    assert cluster.rendezvous().keys() == {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"}


def test_on_one_node_the_processes_of_mpirun_meet_there(launched):
    launched(**OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": 4})
    assert cluster.rendezvous()["MASTER_ADDR"] == "127.0.0.1"
    launched(OMPI_COMM_WORLD_LOCAL_SIZE=2)
    assert "MASTER_ADDR" not in cluster.rendezvous()


@cluster.suppress_workers_print
def speak():
    print("one")  # noqa: T201
    print("two", force=True)  # noqa: T201


@pytest.mark.parametrize(("rank", "said"), [(0, "one\ntwo\n"), (1, "two\n")])
def test_only_rank_0_prints_unless_forced(launched, capsys, rank, said):
    launched(RANK=rank, WORLD_SIZE=2)
    before = builtins.print
    speak()
    assert capsys.readouterr().out == said
    assert builtins.print is before


@cluster.suppress_workers_output
def write():
    sys.stdout.write("out")
    sys.stderr.write("err")
    return 7


@pytest.mark.parametrize(("rank", "said"), [(0, ("out", "err")), (1, ("", ""))])
def test_only_rank_0_writes(launched, capsys, rank, said):
    launched(RANK=rank, WORLD_SIZE=2)
    assert write() == 7
    assert capsys.readouterr() == said


def test_without_the_command_ray_there_is_no_cluster(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cluster.ray_cluster_is_running() is False
    with pytest.raises(RuntimeError, match="no Ray cluster is running"):
        cluster.initialize_ray()


@pytest.mark.parametrize(("status", "running"), [(0, True), (1, False)])
def test_ray_status_tells_whether_there_is_a_cluster(monkeypatch, tmp_path, status, running):
    command = tmp_path / "ray"
    command.write_text(f"#!/bin/sh\nexit {status}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert cluster.ray_cluster_is_running() is running


def test_without_gpus_ray_gets_two_workers():
    scaling = cluster.get_adaptive_ray_scaling_config()
    assert (scaling.num_workers, scaling.use_gpu) == (2, False)
