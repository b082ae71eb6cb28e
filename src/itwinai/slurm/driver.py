"""``python -m itwinai.slurm.driver FOLDER --nodes N -- COMMAND ...``: a command on a Ray cluster.

The batch script runs it on the first node. It waits for the nodes, runs the command, which finds
the cluster through ``RAY_ADDRESS``, and tells the nodes when it is over.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from itwinai.environ import as_one_process
from itwinai.slurm.hostlist import expand
from itwinai.slurm.processes import (
    EndSignals,
    adopt_orphans,
    end,
    end_descendants,
    start,
)
from itwinai.slurm.rendezvous import Rendezvous
from itwinai.slurm.tools import SlurmError

_ASK = "itwinai.hpo.engine.membership"

_INTERVAL_S = 0.2
_GRACE_S = 3


class ClusterError(SlurmError):
    """The nodes do not come together."""


class Driver:
    """Runs one command on a job's cluster.

    Args:
        meeting: Where the nodes of the cluster meet.
        nodes: How many there are.
        timeout: Seconds that they have to join.
        variables: The batch script's environment variables.
    """

    def __init__(
        self, meeting: Rendezvous, nodes: int, timeout: float, variables: Mapping[str, str]
    ) -> None:
        self._meeting = meeting
        self._nodes = nodes
        self._timeout = timeout
        self._hosts = expand(variables.get("SLURM_JOB_NODELIST", ""))
        self._variables = as_one_process(variables) | meeting.credentials
        self._signals = EndSignals()

    def run(self, command: Sequence[str]) -> int:
        """Wait for the nodes, run a command, and return its exit code as a shell would.

        Raises:
            SlurmError: If the folder cannot serve, or a node does not come.
        """
        self._meeting.open()
        try:
            self._wait_for_nodes()
            if self._signals.received is not None:
                return 128 + self._signals.received
            return self._run(command)
        finally:
            end_descendants()
            self._meeting.close()

    def _wait_for_nodes(self) -> None:
        meeting, deadline = self._meeting, time.monotonic() + self._timeout
        question = [str(meeting.address), str(meeting.members), str(self._nodes)]
        asking = start([sys.executable, "-m", _ASK, *question], self._variables)
        try:
            while asking.poll() is None and self._signals.received is None:
                for node, reason in meeting.failures().items():
                    raise ClusterError(f"{reason}{self._log(node)}")
                if time.monotonic() > deadline:
                    raise ClusterError(self._missing())
                time.sleep(_INTERVAL_S)
        finally:
            end(asking, _GRACE_S)
        if asking.returncode != 0 and self._signals.received is None:
            raise ClusterError(
                f"the cluster at {meeting.address.read_text()} does not say who has joined it; "
                "the reason is above."
            )

    def _missing(self) -> str:
        file = self._meeting.members
        here = json.loads(file.read_text()) if file.exists() else []
        missing = [host for host in self._hosts if host not in here]
        return (
            f"after {self._timeout:g} s, {len(here)} of {self._nodes} nodes have joined the "
            f"cluster. Missing: {', '.join(missing) or 'unknown'}."
            f"{''.join(self._log(node) for node in missing)}"
        )

    def _log(self, node: str) -> str:
        tail = self._meeting.end_of_log(node)
        if not tail:
            return (
                f"\n{node} has written nothing: Ray was not started there, or it does not share "
                f"{self._meeting.folder.parent}."
            )
        return f"\nThe log of {node} ends with:\n{tail}"

    def _run(self, command: Sequence[str]) -> int:
        address = self._meeting.address.read_text()
        given = {"RAY_ADDRESS": address, "ITWINAI_STOP_FILE": str(self._meeting.stop)}
        process = start(command, self._variables | given, if_parent_dies=signal.SIGTERM)
        while True:
            try:
                code = process.wait(_INTERVAL_S)
                return 128 - code if code < 0 else code
            except subprocess.TimeoutExpired:
                received, self._signals.received = self._signals.received, None
                if received is not None:
                    process.send_signal(received)


def main(arguments: Sequence[str]) -> int:
    """Run a command on the cluster; return the exit code."""
    options = _parse(arguments)
    adopt_orphans()
    driver = Driver(Rendezvous(options.folder), options.nodes, options.timeout, os.environ)
    try:
        return driver.run(options.command)
    except (SlurmError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a command on the Ray cluster of a job.")
    parser.add_argument("folder", type=Path, help="folder of the job, on shared storage")
    parser.add_argument("--nodes", type=int, required=True, help="nodes to wait for")
    parser.add_argument("--timeout", type=float, default=300, help="seconds that they have")
    parser.add_argument("command", nargs="+", help="what to run, after --")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
