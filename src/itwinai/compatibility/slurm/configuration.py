"""The configurations of itwinai 0.4, and what they are in this version.

There, two keys hold shell: ``pre_exec_command`` and ``exec_command``. Here all shell is in
``pre_exec``, so the second one becomes a function there, which is the job's command.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

from pydantic import Field, field_validator

from itwinai.config.allowing import allowed_names
from itwinai.config.model import StrictModel, validate
from itwinai.errors import ConfigurationError
from itwinai.slurm.config import SlurmConfiguration
from itwinai.slurm.script import render

#: Folders of what the jobs write, of the scripts, and of profiles, which no job makes any more.
DEFAULT_SLURM_LOG_DIR = "slurm-job-logs"
DEFAULT_SLURM_SAVE_DIR = "slurm-scripts"
DEFAULT_PY_SPY_DIR = "py-spy-output"

_TRAINING = (
    "itwinai exec-pipeline --config-path={config_path} --config-name={config_name} "
    "--strategy={distributed_strategy} --run-name={run_name} +pipe_key={pipe_key}"
)


class SlurmScriptConfiguration(StrictModel):
    """What the script of a job is made of."""

    job_name: str | None = None
    account: str
    partition: str
    time: str = "00:30:00"
    std_out: Path | None = None
    err_out: Path | None = None
    num_nodes: int = 1
    num_tasks: int | None = None
    num_tasks_per_node: int = 1
    gpus_per_node: int = 4
    cpus_per_task: int = 16
    memory: str = "16G"
    exclusive: bool = False
    pre_exec_command: str | None = None
    exec_command: str | None = None
    save_script: bool = False
    submit_job: bool = False
    save_dir: Path = Path(DEFAULT_SLURM_SAVE_DIR)
    pre_exec_file: Path | None = None
    exec_file: Path | None = None

    def exclusive_line(self) -> str:
        """Return the line that asks for whole nodes, or nothing."""
        return "#SBATCH --exclusive" if self.exclusive else ""

    def generate_script(self) -> str:
        """Write the script.

        Raises:
            ConfigurationError: If a key is missing or wrong.
        """
        job = validate(SlurmConfiguration, self.translated(), where="slurm")
        return render(job, allowed_names())

    def translated(self) -> dict[str, Any]:
        """Return the keys and values of a :class:`SlurmConfiguration`."""
        return self._resources() | self._command()

    def _name(self) -> str:
        if self.job_name is None:
            raise ConfigurationError("job_name: this key is required to write the script")
        return self.job_name

    def _resources(self) -> dict[str, Any]:
        logs, name = Path(DEFAULT_SLURM_LOG_DIR), self._name()
        return {
            "job_name": name,
            "account": self.account,
            "partition": self.partition,
            "time": self.time,
            "std_out": self.std_out or logs / f"{name}.out",
            "err_out": self.err_out or logs / f"{name}.err",
            "nodes": self.num_nodes,
            "gpus_per_node": self.gpus_per_node,
            "cpus_per_task": self.cpus_per_task,
            "memory": self.memory,
            "exclusive": self.exclusive,
            "pre_exec": _lines(self.pre_exec_command, self.pre_exec_file),
        }

    def _command(self) -> dict[str, Any]:
        shell = _lines(self.exec_command, self.exec_file)
        if not shell:
            raise ConfigurationError("exec_command: this key is required to write the script")
        before = _lines(self.pre_exec_command, self.pre_exec_file)
        body = ["set +eu +o pipefail # as it was written for", *shell]
        return {
            "kind": "plain",
            "command": ["exec_command"],
            "tasks_per_node": self._tasks_per_node(),
            "pre_exec": [*before, "exec_command() {", *body, "}"],
        }

    def _tasks_per_node(self) -> int:
        if self.num_tasks is None:
            return self.num_tasks_per_node
        tasks, rest = divmod(self.num_tasks, self.num_nodes)
        if rest:
            raise ConfigurationError(
                f"num_tasks={self.num_tasks} does not divide over num_nodes={self.num_nodes}. "
                "Use a multiple."
            )
        return tasks


class MLSlurmBuilderConfig(SlurmScriptConfiguration):
    """A training or a study as a job."""

    use_ray: bool = False
    container_path: Path | None = None
    distributed_strategy: Literal["ddp", "horovod", "deepspeed"]
    mode: Literal["single", "runall", "scaling-test"] = "single"
    training_cmd: str = _TRAINING
    python_venv: str | None = None
    config_name: str = "config"
    config_path: str = "."
    pipe_key: str = "training_pipeline"
    scalability_nodes: list[int] = Field(default_factory=lambda: [1, 2, 4, 8])
    py_spy: bool = False
    profiling_sampling_rate: int = 10
    run_name: str = "main-run"

    @field_validator("scalability_nodes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    def build_training_command(self) -> str:
        """Fill the template ``training_cmd`` with this configuration's values."""
        try:
            return self.training_cmd.format(**self.model_dump())
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigurationError(
                f"training_cmd={self.training_cmd!r}: {error!r} is no key of the configuration"
            ) from error

    def translated(self) -> dict[str, Any]:
        """Return the keys and values of a :class:`SlurmConfiguration`."""
        if self.exec_command is not None or self.exec_file is not None:
            return super().translated()
        if self.distributed_strategy == "horovod":
            raise ConfigurationError(
                "distributed_strategy=horovod: Horovod does not build with current PyTorch; use ddp"
            )
        if self.py_spy:
            raise ConfigurationError(
                "py_spy=true: profile one process by hand, with "
                "'py-spy record -o flamegraph.svg -- COMMAND'."
            )
        return self._resources() | {
            "kind": "study" if self.use_ray else "training",
            "command": shlex.split(self.build_training_command()),
            "python_venv": self.python_venv,
            "container": self.container_path,
        }

    def _name(self) -> str:
        return self.job_name or (
            f"{self.distributed_strategy}-{self.num_nodes}x{self.gpus_per_node}"
        )


def remove_indentation_from_multiline_string(multiline_string: str) -> str:
    """Remove the indentation that all lines share, and blank lines around them."""
    return dedent(multiline_string).strip("\n")


def _lines(text: str | None, file: Path | None) -> list[str]:
    """Return lines of shell, from a key or from the file that another key names."""
    if text is None and file is None:
        return []
    if text is None:
        assert file is not None
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"{file}: cannot be read: {error.strerror}. Only files on this machine are."
            ) from error
    plain = remove_indentation_from_multiline_string(text).expandtabs()
    return [line for line in plain.splitlines() if line.strip()]
