"""What Slurm says of jobs: those in its queue, and from its accounting those that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from itwinai.slurm.tools import RefusedError, SlurmError, run_tool

_QUEUE = ("%i", "%T", "%M", "%L", "%N", "%r")
_ACCOUNTING = ("JobIDRaw", "State", "Elapsed", "NodeList", "ExitCode")
_OVER = frozenset(
    [
        *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL"),
        *("DEADLINE", "OUT_OF_MEMORY", "REVOKED", "UNKNOWN"),
    ]
)


@dataclass(frozen=True)
class JobState:
    """A job as Slurm sees it.

    Attributes:
        job: Its number.
        state: Slurm's word, as in ``RUNNING``; ``UNKNOWN`` if Slurm has forgotten it.
        elapsed: How long it has run, as Slurm writes it.
        left: Time to its limit; empty once it is over.
        nodes: Its nodes.
        reason: Why it waits, or its exit code once it is over.
    """

    job: str
    state: str
    elapsed: str = ""
    left: str = ""
    nodes: str = ""
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended and will not run again."""
        return self.state in _OVER


def states_of(jobs: Sequence[str]) -> list[JobState]:
    """Look jobs up, in their order.

    Raises:
        SlurmError: If Slurm is not here or does not answer.
    """
    found = _in_queue(jobs)
    gone = [job for job in jobs if job not in found]
    if gone:
        found |= _in_accounting(gone)
    return [found.get(job, JobState(job, "UNKNOWN")) for job in jobs]


def energy_of(jobs: Sequence[str]) -> dict[str, float]:
    """Joules that jobs used, by their number, where Slurm's accounting has measured them.

    They are those of whole nodes, whatever else ran there. Of a job's steps the largest counts,
    because those that run at the same time measure the same nodes.
    """
    joules: dict[str, float] = {}
    for step, measured in _accounts(jobs, "JobIDRaw", "ConsumedEnergyRaw"):
        job, dot, _ = step.partition(".")
        if dot and measured.isdigit() and int(measured) > 0:
            joules[job] = max(joules.get(job, 0.0), float(measured))
    return joules


def _in_queue(jobs: Sequence[str]) -> dict[str, JobState]:
    try:
        text = run_tool(
            *("squeue", "--noheader", "--states=all", f"--jobs={','.join(jobs)}"),
            f"--format={'|'.join(_QUEUE)}",
        )
    except RefusedError as error:
        if "Invalid job id" in error.reason:  # a single one that is gone
            return {}
        raise
    rows = [line.strip().split("|") for line in text.splitlines()]
    return {row[0]: _queued(*row) for row in rows if len(row) == len(_QUEUE)}


def _queued(job: str, state: str, elapsed: str, left: str, nodes: str, reason: str) -> JobState:
    left = "" if state in _OVER else left
    return JobState(job, state, elapsed, left, nodes, "" if reason == "None" else reason)


def _in_accounting(jobs: Sequence[str]) -> dict[str, JobState]:
    rows = _accounts(jobs, *_ACCOUNTING, options=("--allocations",))
    return {row[0]: _accounted(*row) for row in rows}


def _accounts(jobs: Sequence[str], *columns: str, options: Sequence[str] = ()) -> list[list[str]]:
    """Rows of Slurm's accounting; many clusters keep none."""
    try:
        text = run_tool(
            *("sacct", "--noheader", "--parsable2", *options, f"--jobs={','.join(jobs)}"),
            f"--format={','.join(columns)}",
        )
    except SlurmError:
        return []
    rows = [line.split("|") for line in text.splitlines()]
    return [row for row in rows if len(row) == len(columns)]


def _accounted(job: str, state: str, elapsed: str, nodes: str, code: str) -> JobState:
    word, *_ = state.split() or ["UNKNOWN"]  # 'CANCELLED by 1000'
    return JobState(job, word, elapsed, nodes=nodes, reason=f"exit code {code.partition(':')[0]}")
