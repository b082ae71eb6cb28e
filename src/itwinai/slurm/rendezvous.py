"""The folder on shared storage in which the parts of one job's Ray cluster meet.

The driver makes it and puts a random token there. Whoever can read the token can join the cluster,
and nobody else: it is readable by its owner alone, and every cluster has its own.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from itwinai.io.files import write_text
from itwinai.slurm.tools import SlurmError

#: As much of a log as an error shows.
_TAIL_LINES = 15


class RendezvousError(SlurmError):
    """The folder cannot serve: it is not safe, or not shared."""


class Rendezvous:
    """The files of one job's cluster.

    Args:
        folder: A folder of this job alone, on storage that all nodes share.

    Attributes:
        token: Who reads it may join. It appears when the driver is ready.
        address: Holds the head's address, once there is a head.
        members: Holds the names of the nodes that have joined.
        ended: Appears when the cluster is no longer needed.
        stop: Asks the command to come to an early end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.token = self.folder / "token"
        self.address = self.folder / "address"
        self.members = self.folder / "members"
        self.ended = self.folder / "ended"
        self.stop = self.folder / "stop"

    def open(self) -> None:
        """Make the folder if there is none, and the token (called by the driver).

        Raises:
            RendezvousError: If others could read or write there.
        """
        self.folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
        status = self.folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise RendezvousError(
                f"{self.folder}: this folder must belong to you, and to you alone, because it "
                f"holds the key to the cluster: chmod 700 {self.folder}"
            )
        write_text(self.token, os.urandom(32).hex())  # readable by the owner alone

    def close(self) -> None:
        """Tell all nodes that this is the end, and keep nothing but logs."""
        self.ended.touch()
        for file in (self.token, self.address, self.members, self._head):
            file.unlink(missing_ok=True)

    @property
    def credentials(self) -> dict[str, str]:
        """The environment variables by which Ray finds the token."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}

    def claim_head(self) -> bool:
        """Whether the caller is the first to ask, and so the head."""
        try:
            self._head.touch(mode=stat.S_IRUSR | stat.S_IWUSR, exist_ok=False)
        except FileExistsError:
            return False
        return True

    def probe(self, node: str) -> float:
        """Write and read beside the folder; return the seconds that it took.

        Raises:
            RendezvousError: If this node cannot.
        """
        storage = self.folder.parent
        begin = time.monotonic()
        file = storage / f".probe-{node}-{os.getpid()}"
        try:
            write_text(file, node)
            intact = file.read_text() == node
            file.unlink()
        except OSError as error:
            raise RendezvousError(
                f"{node} cannot write to {storage}: {error}. Results and checkpoints go there; "
                "choose a storage path that every node can write to."
            ) from error
        if not intact:
            raise RendezvousError(f"{node} reads something else from {storage} than it wrote.")
        return time.monotonic() - begin

    def log(self, node: str) -> Path:
        """What a node's Ray prints."""
        return self.folder / f"{node}.log"

    def end_of_log(self, node: str) -> str:
        """The last lines of a node's log; empty if it has written none."""
        log = self.log(node)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join(lines[-_TAIL_LINES:])

    def report_failure(self, node: str, reason: str) -> None:
        """Tell the driver that a node does not come."""
        write_text(self.folder / f"{node}.failed", reason)

    def failures(self) -> dict[str, str]:
        """The nodes that do not come, and why."""
        return {file.stem: file.read_text() for file in sorted(self.folder.glob("*.failed"))}

    @property
    def _head(self) -> Path:
        return self.folder / "head"
