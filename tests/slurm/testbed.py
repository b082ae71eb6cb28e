"""A real Slurm of two nodes on one machine, for tests and to try things out.

Each node has its own network, host name, processes, ``/tmp`` and ``/dev/shm``, as in reality. The
controller, munge and a bridge live in a machine of their own, whose first process holds everything:
when it ends, however that comes about, no process, network or mount is left.

``python -m tests.slurm.testbed`` brings it up until Ctrl-C.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

NODES = {"node1": "10.0.0.11", "node2": "10.0.0.12"}

#: What is needed: commands, and Debian's packages that bring them.
_COMMANDS = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "munged": "munge",
    "ip": "iproute2",
    "unshare": "util-linux",
}

#: What each node needs of the kernel.
_PROBE = "ip link add near type veth peer far && ip link add bridge type bridge"

_HERE = Path(__file__).resolve().parent
_REPOSITORY = _HERE.parents[1]
_NODES_OWN = ("node.sh", "slurmd", "slurmstepd")
_UNFINISHED = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED")


@dataclass(frozen=True)
class FinishedJob:
    """How a job ended: Slurm's word for it, the script's exit code, and what it printed."""

    state: str
    exit_code: int
    output: str


def why_not() -> str | None:
    """Why the test bed cannot run here; None if it can."""
    if sys.platform != "linux":
        return "a Slurm of two nodes needs Linux's namespaces"
    if os.geteuid() != 0:
        return "a Slurm of two nodes needs root, to make networks and mounts"
    missing = {package for command, package in _COMMANDS.items() if shutil.which(command) is None}
    if missing:
        return f"missing: apt-get install {' '.join(sorted(missing))}"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "sh", "-c", _PROBE],
        capture_output=True,
        text=True,
    )
    return None if tried.returncode == 0 else f"not allowed here: {tried.stderr.strip()}"


class Testbed:
    """Two nodes, up for the length of a ``with`` block.

    Attributes:
        folder: Everything that it writes, logs included; deleted at the end.
        storage: A folder that both nodes share.
    """

    __test__ = False

    def __enter__(self) -> Testbed:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.storage = self.folder / "storage"
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self._prepare()
            self._control = self._start_control()
            # Munge starts after the bridge, and the nodes need both.
            until((self.folder / "munge.socket").exists, 30, self._trouble)
            for node in NODES:
                self._spawn_node(node)
            until(self._all_idle, 30, self._trouble)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_control"):
            os.kill(_first_inside(self._control), signal.SIGKILL)
            for process in (self._control, *self._nodes.values()):
                process.wait()
        shutil.rmtree(self.folder)

    @property
    def enter(self) -> list[str]:
        """The command that brings another command to where Slurm can be reached."""
        return ["nsenter", f"--target={_first_inside(self._control)}", "--net"]

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of Slurm's commands."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command that may use Slurm; the options are those of ``subprocess.run``."""
        variables = {**os.environ, **self.environment, **options.pop("env", {})}
        defaults = {"check": True, "timeout": 120, "stdout": subprocess.PIPE, "cwd": self.storage}
        return subprocess.run(
            [*self.enter, *command], env=variables, text=True, **{**defaults, **options}
        )

    def submit(self, script: str, *options: str) -> str:
        """Submit the text of a job script, and return the job's number."""
        output = f"--output={self.storage}/%j.out"
        submission = self.run(["sbatch", "--parsable", output, *options], input=script)
        return submission.stdout.strip()

    def wait(self, job: str, seconds: float = 120) -> FinishedJob:
        """Wait for a job's end.

        Raises:
            TimeoutError: If it has not ended after so many seconds; the job is cancelled.
        """

        def trouble() -> str:
            self.run(["scancel", job])
            return f"job {job} runs for more than {seconds} s:\n{self.output(job)}"

        until(lambda: self.state(job) not in _UNFINISHED, seconds, trouble)
        shown = self._shown(job)
        return FinishedJob(
            shown["JobState"], int(shown["ExitCode"].partition(":")[0]), self.output(job)
        )

    def state(self, job: str) -> str:
        """Slurm's word for where a job stands, such as RUNNING."""
        return self._shown(job)["JobState"]

    def start_of(self, job: str) -> float:
        """When a job began, as a time stamp."""
        return datetime.fromisoformat(self._shown(job)["StartTime"]).timestamp()

    def output(self, job: str) -> str:
        """What a job has printed so far."""
        file = Path(self._shown(job)["StdOut"])
        return file.read_text() if file.exists() else ""

    def processes(self, node: str) -> list[str]:
        """Command lines of what runs on a node besides Slurm's own."""
        return list(self.commands(node).values())

    def commands(self, node: str) -> dict[int, str]:
        """The same by the process's number, as seen from here."""
        there = _namespace(_first_inside(self._nodes[node]))
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # processes end while we look
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                own = (folder / "comm").read_text().strip() in _NODES_OWN
                if command and not own and _namespace(int(folder.name)) == there:
                    found[int(folder.name)] = command
        return found

    def local(self, node: str, path: str = "/tmp") -> Path:
        """A path of a node's own, such as its ``/tmp``, as seen from here."""
        return Path(f"/proc/{_first_inside(self._nodes[node])}/root{path}")

    def run_on(
        self, node: str, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> str:
        """Run a command on a node, outside of any job, and return what it prints."""
        target = f"--target={_first_inside(self._nodes[node])}"
        done = subprocess.run(
            ["nsenter", target, "--all", *command],
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        return done.stdout

    def kill_node(self, node: str) -> None:
        """End a node at once, as a failure of its power supply does."""
        os.kill(_first_inside(self._nodes[node]), signal.SIGKILL)
        self._nodes.pop(node).wait()

    def start_node(self, node: str) -> None:
        """Bring a node up that was killed, and wait until Slurm uses it."""
        self._spawn_node(node)
        until(self._all_idle, 60, self._trouble)

    def _prepare(self) -> None:
        for name in ("state", "storage"):
            (self.folder / name).mkdir()
        for node in NODES:
            (self.folder / node / "spool").mkdir(parents=True)
            (self.folder / node / "tmp").mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o600)
        settings = (_HERE / "slurm.conf").read_text().replace("@FOLDER@", str(self.folder))
        (self.folder / "slurm.conf").write_text(settings)
        hosts = {"localhost": "127.0.0.1", "control": "10.0.0.1", **NODES}
        lines = [f"{address} {name}\n" for name, address in hosts.items()]
        (self.folder / "hosts").write_text("".join(lines))

    def _start_control(self) -> subprocess.Popen[bytes]:
        own = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        # It ends with this process, even if that is killed.
        command = ["setpriv", "--pdeathsig=KILL", "unshare", *own, _HERE / "control.sh"]
        return self._spawn("control", [*command, self.folder])

    def _spawn_node(self, node: str) -> None:
        inside = [*self.enter, "--mount", "--pid", "unshare", "--net", _HERE / "node.sh"]
        shared = [self.folder, _REPOSITORY, sys.prefix]
        command = [*inside, self.folder, node, NODES[node], *shared]
        self._nodes[node] = self._spawn(node, command)

    def _spawn(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{name}.out", "ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us
            )

    def _all_idle(self) -> bool:
        command = ["sinfo", "--noheader", "--Node", "--partition=all", "--format=%T"]
        states = self.run(command, check=False, stderr=subprocess.DEVNULL).stdout.split()
        return states == ["idle"] * len(NODES)

    def _trouble(self) -> str:
        logs = sorted(self.folder.glob("*.out"))
        return "Slurm does not come up:\n" + "".join(f"{log}:\n{log.read_text()}" for log in logs)

    def _shown(self, job: str) -> dict[str, str]:
        shown = self.run(["scontrol", "--oneliner", "show", "job", job]).stdout
        return dict(re.findall(r"(\S+?)=(\S*)", shown))


def _first_inside(started: subprocess.Popen[bytes]) -> int:
    """The process, descending from one that we started, that is the first of its namespace."""
    found: list[int] = []

    def look() -> bool:
        if started.poll() is not None:
            raise RuntimeError(f"{started.args} ended with {started.returncode}")
        pid: int | None = started.pid
        while pid is not None:
            ids = re.search(r"NSpid:.*\s(\d+)\n", Path(f"/proc/{pid}/status").read_text())
            if ids is not None and ids[1] == "1":
                found.append(pid)
                return True
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pid = int(children[0]) if children else None
        return False

    until(look, 10, lambda: f"{started.args} has not begun")
    return found[0]


def _namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/pid")


def until(condition: Callable[[], bool], seconds: float, trouble: Callable[[], str]) -> None:
    """Wait for a condition, or raise TimeoutError with what `trouble` says."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(trouble())
        time.sleep(0.1)


def _main() -> None:
    reason = why_not()
    if reason is not None:
        sys.exit(reason)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), Testbed() as bed:
        variables = " ".join(f"{name}={value}" for name, value in bed.environment.items())
        sys.stdout.write(
            f"Two nodes are up: {', '.join(NODES)}. In another terminal:\n\n"
            f"    {' '.join(bed.enter)} bash\n    export {variables}\n    sinfo\n"
            f"    sbatch --nodes=2 --output={bed.storage}/%j.out JOB_SCRIPT\n\n"
            f"Both share this folder: {bed.storage}. Logs: {bed.folder}. Ctrl-C ends them.\n"
        )
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    _main()
