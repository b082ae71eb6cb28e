"""The parts of a job's cluster that need no Slurm."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from testbed import until

from itwinai.hpo.ray_private import start_without_extras
from itwinai.slurm import network
from itwinai.slurm.allotment import allotment
from itwinai.slurm.hostlist import expand
from itwinai.slurm.network import AddressError, interfaces, own_address
from itwinai.slurm.rendezvous import Rendezvous, RendezvousError

_MIB = 1024**2


@pytest.mark.parametrize(
    ("written", "hosts"),
    [
        ("node1", ["node1"]),
        ("node[1-2]", ["node1", "node2"]),
        ("n[08-11,20],login1", ["n08", "n09", "n10", "n11", "n20", "login1"]),
        ("r[1-2]n[1,3]-ib", ["r1n1-ib", "r1n3-ib", "r2n1-ib", "r2n3-ib"]),
        ("", []),
    ],
)
def test_lists_of_hosts_are_expanded(written: str, hosts: list[str]) -> None:
    assert expand(written) == hosts


def test_ray_gets_what_slurm_has_allotted() -> None:
    given = allotment({"SLURM_CPUS_ON_NODE": "3", "SLURM_MEM_PER_NODE": "1000"})
    assert (given.cpus, given.gpus, given.memory + given.objects) == (3, 0, 1000 * _MIB)
    assert 100 * _MIB <= given.objects <= 300 * _MIB
    per_cpu = allotment({"SLURM_CPUS_ON_NODE": "2", "SLURM_MEM_PER_CPU": "700"})
    assert per_cpu.memory + per_cpu.objects == 1400 * _MIB


@pytest.mark.parametrize(
    ("variables", "gpus"),
    [
        ({"SLURM_GPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": "0"}, 4),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, 2),
        ({"ROCR_VISIBLE_DEVICES": "0"}, 1),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 0),
        ({}, 0),
    ],
)
def test_gpus_of_other_jobs_are_left_alone(variables: dict[str, str], gpus: int) -> None:
    assert allotment(variables).gpus == gpus


def test_an_interface_is_chosen_by_name() -> None:
    assert own_address("anything", "lo", alone=False) == ("lo", "127.0.0.1")
    with pytest.raises(AddressError, match=r"no network interface 'ib7'.*lo \(127.0.0.1\)"):
        own_address("node1", "ib7", alone=False)


def test_loopback_is_no_address_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_resolve", lambda node: "127.0.1.1")
    with pytest.raises(AddressError, match=r"node1: its name stands for 127\.0\.1\.1.*--interface"):
        own_address("node1", None, alone=False)
    assert own_address("node1", None, alone=True) == ("lo", "127.0.0.1")


def test_the_interface_is_the_one_that_the_nodes_name_stands_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = {"lo": "127.0.0.1", "eth0": "10.0.0.3", "ib0": "10.1.0.3"}
    monkeypatch.setattr(network, "interfaces", lambda: here)
    monkeypatch.setattr(network, "_resolve", lambda node: "10.1.0.3")
    assert own_address("node3", None, alone=False) == ("ib0", "10.1.0.3")
    assert "lo" in interfaces()


def test_the_token_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        meeting = Rendezvous(tmp_path / "job")
        meeting.open()
    finally:
        os.umask(before)
    assert stat.S_IMODE(meeting.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(meeting.token.stat().st_mode) == 0o600
    assert meeting.claim_head()
    assert not meeting.claim_head()
    meeting.close()
    assert [file.name for file in meeting.folder.iterdir()] == ["ended"]


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(RendezvousError, match=r"to you alone.*chmod 700"):
        Rendezvous(tmp_path).open()
    assert not list(tmp_path.iterdir())


def test_a_node_that_cannot_write_says_where(tmp_path: Path) -> None:
    absent = tmp_path / "gone" / "job"
    absent.parent.mkdir()
    meeting = Rendezvous(absent)
    assert meeting.probe("node1") < 10
    absent.parent.rmdir()
    absent.parent.touch()
    with pytest.raises(RendezvousError, match=rf"node1 cannot write to {absent.parent}"):
        meeting.probe("node1")


def test_a_node_that_fails_ends_the_wait(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir(mode=0o700)
    meeting = Rendezvous(folder)
    meeting.report_failure("node2", "node2 has no network interface 'ib7'.")
    meeting.log("node2").write_text("what it said last\n")
    driver = [sys.executable, "-m", "itwinai.slurm.driver", folder, "--nodes", "2", "--", "true"]
    ended = subprocess.run(driver, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: node2 has no network interface 'ib7'.")
    assert "what it said last" in ended.stderr


_STARTS_A_DEEP_TREE = """
import signal, subprocess, sys
from itwinai.slurm.processes import adopt_orphans, end_descendants
adopt_orphans()
subprocess.run(["sh", "-c", "setsid sh -c 'sleep {marker} & sleep {marker}' & "])
subprocess.Popen(["sleep", "{marker}"], start_new_session=True)
end_descendants()
"""


def test_descendants_of_every_generation_end() -> None:
    marker = str(10**6 + os.getpid())
    program = _STARTS_A_DEEP_TREE.format(marker=marker)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    there = ["pgrep", "-f", f"sleep {marker}"]
    until(lambda: subprocess.run(there, check=False).returncode == 1, 5, lambda: "still there")


def test_ray_start_still_has_what_we_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.node import Node
    from ray._private.parameter import RayParams
    from ray._private.ray_constants import RAY_START_HOOK

    server = Node.start_api_server
    monkeypatch.setattr(Node, "start_api_server", server)  # and put it back
    parameters = RayParams(ray_client_server_port=10001, no_monitor=False)
    start_without_extras(parameters, head=True)
    assert Node.start_api_server is not server
    assert (parameters.ray_client_server_port, parameters.no_monitor) == (None, True)
    assert RAY_START_HOOK == "RAY_START_HOOK"
