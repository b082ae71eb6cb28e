"""The configuration of a job: what is asked of Slurm, and what runs there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from itwinai.config.model import StrictModel
from itwinai.config.reading import read_as_written, validate_file
from itwinai.slurm.values import (
    Command,
    Constraint,
    Count,
    Directory,
    Interface,
    LogPath,
    Memory,
    Module,
    Name,
    Option,
    Text,
    Time,
    Value,
    Variable,
    Word,
    time_in_seconds,
)

#: Options of sbatch that other keys, or the chain of jobs, stand for.
OWN_OPTIONS = frozenset(
    [
        *("job-name", "account", "partition", "qos", "constraint", "reservation", "time", "nodes"),
        *("ntasks", "ntasks-per-node", "cpus-per-task", "gpus", "gpus-per-node", "gres", "mem"),
        *("exclusive", "output", "error", "chdir", "signal", "requeue", "no-requeue", "no-kill"),
        *("open-mode", "export", "export-file", "wrap", "array", "dependency", "get-user-env"),
        *("uid", "gid", "parsable", "test-only", "wait"),
    ]
)


class SlurmConfiguration(StrictModel):
    """A training or a study as a job of Slurm, and the jobs that go on with it.

    Paths are absolute, or relative to the file that holds them.
    """

    #: ``study``: on each node Ray, and the command on the first one. ``training``: torchrun on each
    #: node. ``plain``: only the command, on the first node; it may call srun itself.
    kind: Literal["study", "training", "plain"]
    #: What runs: a list of words, or one line. No shell reads it.
    command: Command
    #: Where studies and checkpoints lie, on a file system that all nodes share.
    storage_path: Annotated[Directory, Field(validate_default=True)] = Path("studies")
    #: Where the command runs; the folder of the configuration's file unless set.
    working_dir: Annotated[Directory, Field(validate_default=True)] = Path()

    job_name: Name = "itwinai"
    account: Word | None = None
    partition: Word | None = None
    qos: Word | None = None
    reservation: Word | None = None
    constraint: Constraint | None = None
    #: The wall-clock limit of one job.
    time: Time
    nodes: Count = 1
    #: Of ``kind: plain`` alone: so many copies of it srun starts on each node.
    tasks_per_node: Count = 1
    cpus_per_task: Count = 1
    gpus_per_node: Annotated[int, Field(ge=0, le=1000)] = 0
    #: As in ``a100``; any unless set.
    gpu_type: Name | None = None
    #: How the cluster wants to be asked for GPUs.
    gpu_option: Literal["gres", "gpus-per-node"] = "gres"
    #: Memory of each node; the cluster's default unless set.
    memory: Memory | None = None
    exclusive: bool = False
    #: Where the job writes; both to one file in ``working_dir`` unless set.
    std_out: LogPath | None = None
    err_out: LogPath | None = None
    #: More options of sbatch by their long names, as in ``{licenses: "matlab:1"}``.
    sbatch_options: dict[Option, Word] = Field(default_factory=dict)

    modules: tuple[Module, ...] = ()
    python_venv: Directory | None = None
    #: An image of Apptainer in which the command runs.
    container: Directory | None = None
    #: Folders that the container sees, besides ``storage_path`` and ``working_dir``.
    binds: tuple[Directory, ...] = ()
    container_runtime: Literal["apptainer", "singularity"] = "apptainer"
    environment: dict[Variable, Value] = Field(default_factory=dict)
    #: Lines of shell, run as they are on the first node before anything else. The only shell here.
    pre_exec: tuple[Text, ...] = ()

    #: Processes of a training on each node; one per GPU unless set.
    processes_per_node: Count | None = None
    #: Network interface for the traffic between nodes; that of the nodes' names unless set.
    interface: Interface | None = None
    #: Seconds that all nodes of a study may take to join.
    node_timeout_s: Annotated[int, Field(ge=1, le=86400)] = 300
    #: Seconds before the limit at which the job is told to come to an end; longer than an epoch.
    signal_before_s: Annotated[int, Field(ge=1, le=65535)] = 120
    #: So many jobs more may follow this one, each where the one before was cut off by its limit.
    max_continuations: Annotated[int, Field(ge=0, le=1000)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.signal_before_s >= self.time_s:
            raise ValueError(
                f"signal_before_s={self.signal_before_s} is not less than time={self.time!r} "
                f"({self.time_s} s), so the job would end before it has begun. Make time longer, "
                "or signal_before_s shorter."
            )
        if self.python_venv is not None and self.container is not None:
            raise ValueError(
                "python_venv and container are both set, but the command runs in one of them. "
                "Remove one."
            )
        if self.binds and self.container is None:
            raise ValueError("binds is set, but there is no container. Set container, too.")
        if self.processes_per_node is not None and self.kind != "training":
            raise ValueError(
                f"processes_per_node is for kind=training; here kind={self.kind}. Remove it; a "
                "study says in study.workers_per_trial how many processes train a trial."
            )
        if self.tasks_per_node > 1 and self.kind != "plain":
            raise ValueError(
                f"tasks_per_node is for kind=plain; with kind={self.kind} there is one task on "
                "each node, which starts the processes. Remove it."
            )
        for option in self.sbatch_options:
            if option in OWN_OPTIONS:
                raise ValueError(
                    f"sbatch_options.{option}: the script sets this option itself. Use the key "
                    "of its own, if there is one."
                )
        return self

    @property
    def time_s(self) -> int:
        """The wall-clock limit in seconds."""
        return time_in_seconds(self.time)

    @property
    def jobs_folder(self) -> Path:
        """Where jobs keep what they need to find each other."""
        return self.storage_path / ".jobs"

    @property
    def log(self) -> Path:
        """Where the job writes, with Slurm's patterns in it."""
        return self.std_out or self.working_dir / "%x-%j.out"


_PATHS = ("storage_path", "working_dir", "python_venv", "container", "std_out", "err_out")


def load(path: str | Path, overrides: Iterable[str] = ()) -> SlurmConfiguration:
    """Read a job's configuration from a YAML file.

    Args:
        path: A file on this machine.
        overrides: Values to use instead, as in ``["nodes=4"]``.

    Raises:
        ConfigurationError: If it cannot be read, or a key or value is wrong; names all of them.
    """
    content = _with_absolute_paths(read_as_written(path, overrides), Path(path).absolute().parent)
    return validate_file(SlurmConfiguration, content, path)


def _with_absolute_paths(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    def absolute(value: Any) -> Any:
        if not isinstance(value, str) or not value or "://" in value:
            return value
        return os.path.join(folder, os.path.expanduser(value))

    defaults = {"storage_path": "studies", "working_dir": "."}
    content = defaults | content
    content |= {key: absolute(content[key]) for key in _PATHS if key in content}
    if isinstance(content.get("binds"), list):
        content["binds"] = [absolute(bind) for bind in content["binds"]]
    return content
