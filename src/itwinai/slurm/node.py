"""``python -m itwinai.slurm.node FOLDER``: one node of a job's Ray cluster, until the job ends.

An ``srun`` step runs it once on every node. The first process that finds no head in the folder
starts it, all others join, also those that come later or from another job. Ray's processes are
children of this one and never outlive it.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from itwinai.constants import TEMPORARY
from itwinai.environ import as_one_process
from itwinai.io.files import temporary_folder, write_text
from itwinai.slurm.allotment import allotment
from itwinai.slurm.network import own_address
from itwinai.slurm.processes import (
    EndSignals,
    adopt_orphans,
    end,
    end_descendants,
    start,
)
from itwinai.slurm.rendezvous import Rendezvous
from itwinai.slurm.tools import SlurmError

_HEAD = ["ray.scripts.scripts", "start", "--head", "--port=0", "--include-dashboard=false"]
_WORKER = ["itwinai.hpo.engine.start_node"]

#: Ray puts sockets below its folder, whose names are limited to 107 bytes; itself it adds up to 66.
_LONGEST_FOLDER = 24

#: Ray takes free ports from the system, but others may be faster.
_ATTEMPTS = 3

_PATIENCE_S = 300
_GRACE_S = 3


class NodeError(SlurmError):
    """Ray does not run on this node."""


class _JobOverError(Exception):
    """There is nothing more to do here."""


class Node:
    """Ray on this node.

    Args:
        meeting: Where the nodes of the cluster meet.
        interface: The network interface to use; None: the one that the node's name stands for.
        variables: This step's environment variables.
    """

    def __init__(
        self, meeting: Rendezvous, interface: str | None, variables: Mapping[str, str]
    ) -> None:
        self.name = variables.get("SLURMD_NODENAME") or socket.gethostname()
        self._meeting = meeting
        self._interface = interface
        self._variables = variables
        self._signals = EndSignals()
        self._joining = False

    def run(self) -> None:
        """Start or join the cluster, and stay until the job ends.

        Raises:
            SlurmError: If Ray cannot run here, or ended too early.
        """
        token, storage = self._meeting.token, self._meeting.folder.parent
        try:
            self._wait_until(
                token.exists,
                f"{self.name} sees no {token}. The driver writes it: has it started, and is "
                f"{storage} on storage that all nodes share?",
            )
            self._joining = True
            seconds = self._meeting.probe(self.name)
            self._say(f"{storage} took {seconds:.3f} s to write and read")
            self._serve()
        except _JobOverError:
            return

    def _serve(self) -> None:
        first = self._variables.get("SLURM_PROCID", "0") == "0"
        is_head = first and self._meeting.claim_head()
        alone = is_head and self._variables.get("SLURM_JOB_NUM_NODES", "1") == "1"
        interface, address = own_address(self.name, self._interface, alone)
        self._say(f"{'head' if is_head else 'worker'} on {address} ({interface})")
        for _ in range(_ATTEMPTS):
            with _scratch() as scratch, self._ray(is_head, interface, address, scratch) as ray:
                self._stay(ray, scratch / "ray_current_cluster", is_head)
        raise NodeError(f"Ray does not start on {self.name}: {_ATTEMPTS} attempts.")

    def _stay(self, ray: subprocess.Popen[bytes], started: Path, is_head: bool) -> None:
        """Return if Ray has not started; it writes the address to a file when it has."""
        self._wait_until(
            lambda: ray.poll() is not None or _filled(started),
            f"Ray does not start on {self.name}.",
        )
        if ray.poll() is None:
            if is_head:
                write_text(self._meeting.address, started.read_text().strip())
            self._wait_until(lambda: ray.poll() is not None)
            raise NodeError(f"Ray on {self.name} ended with code {ray.returncode}.")

    @contextmanager
    def _ray(
        self, is_head: bool, interface: str, address: str, scratch: Path
    ) -> Iterator[subprocess.Popen[bytes]]:
        role = _HEAD if is_head else [*_WORKER, str(self._meeting.address)]
        command = [
            *(sys.executable, "-m", *role, "--block"),
            f"--node-name={self.name}",
            f"--node-ip-address={address}",
            f"--temp-dir={scratch}",
            # With 0 the system chooses; otherwise two clusters on a node may choose the same.
            *("--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"),
            *allotment(self._variables).options(),
        ]
        with open(self._meeting.log(self.name), "ab") as log:
            ray = start(command, self._environment(interface), log)
        try:
            yield ray
        finally:
            end(ray, _GRACE_S)
            end_descendants()

    def _environment(self, interface: str) -> dict[str, str]:
        """What Ray's processes, and with them all trials, find in their environment."""
        here = as_one_process(self._variables)
        here.pop("RAY_ADDRESS", None)
        return {
            "GLOO_SOCKET_IFNAME": interface,
            "NCCL_SOCKET_IFNAME": interface,
            **here,
            **self._meeting.credentials,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_START_HOOK": "itwinai.hpo.ray_private.start_without_extras",
        }

    def _wait_until(self, condition: Callable[[], bool], trouble: str | None = None) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            if self._signals.received is not None or self._is_over():
                raise _JobOverError
            if trouble is not None and time.monotonic() > deadline:
                raise NodeError(f"{trouble} It has waited {_PATIENCE_S} s.")
            time.sleep(0.2)

    def _is_over(self) -> bool:
        meeting = self._meeting
        try:  # the folder itself may be gone already
            return meeting.ended.exists() or (self._joining and not meeting.token.exists())
        except OSError:  # a file system that stumbles is not the end
            return False

    def _say(self, text: str) -> None:
        with open(self._meeting.log(self.name), "a") as log:
            log.write(f"itwinai: {text}\n")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A short-lived folder on this node's own disk, for Ray's sockets, logs and spilled data."""
    preferred = tempfile.gettempdir()
    short = preferred if len(preferred) <= _LONGEST_FOLDER else "/tmp"
    with temporary_folder(Path(short), TEMPORARY) as folder:
        yield folder


def _filled(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def main(arguments: Sequence[str]) -> int:
    """Run this node; return the exit code."""
    parser = argparse.ArgumentParser(description="One node of a job's Ray cluster.")
    parser.add_argument("folder", type=Path, help="folder of the job, on shared storage")
    parser.add_argument("--interface", help="network interface to use")
    options = parser.parse_args(arguments)
    meeting = Rendezvous(options.folder)
    adopt_orphans()
    node = Node(meeting, options.interface, os.environ)
    try:
        node.run()
    except SlurmError as error:
        sys.stderr.write(f"error: {error}\n")
        with suppress(OSError):  # if it cannot write there, that is what the error says
            if meeting.folder.exists() and not meeting.ended.exists():
                meeting.report_failure(node.name, str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
