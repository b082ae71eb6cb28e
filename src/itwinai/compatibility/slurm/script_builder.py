"""Builders, which write, save and submit the scripts of jobs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from itwinai.compatibility.slurm.configuration import (
    DEFAULT_SLURM_LOG_DIR,
    MLSlurmBuilderConfig,
    SlurmScriptConfiguration,
)
from itwinai.errors import ConfigurationError
from itwinai.io.files import write_text
from itwinai.slurm.tools import run_tool

_STRATEGIES = ("ddp", "deepspeed")


class SlurmScriptBuilder:
    """Makes a script of a configuration, and does with it what the configuration says."""

    def __init__(self, config: SlurmScriptConfiguration) -> None:
        self.config = config

    def submit_script(self, script: str) -> None:
        """Submit a script; it is kept in ``save_dir``, because its continuations need it."""
        Path(DEFAULT_SLURM_LOG_DIR).mkdir(exist_ok=True)
        file = self._file()
        write_text(file, script)
        sys.stdout.write(run_tool("sbatch", str(file)))

    def save_script(self, script: str, file_path: Path) -> None:
        """Save a script.

        Raises:
            ConfigurationError: If the file exists.
        """
        if file_path.exists():
            raise ConfigurationError(f"{file_path}: exists already. Delete it, or change save_dir.")
        write_text(file_path, script)

    def print_script(self, script: str) -> None:
        """Write a script to standard output."""
        sys.stdout.write(script)

    def process_script(self) -> None:
        """Make the script; then save it, submit it, or show it if neither was asked for."""
        script = self.config.generate_script()
        if self.config.save_script:
            self.save_script(script, self._file())
        if self.config.submit_job:
            self.submit_script(script)
        if not (self.config.save_script or self.config.submit_job):
            self.print_script(script)

    def _file(self) -> Path:
        return self.config.save_dir / f"{self.config.translated()['job_name']}.slurm"


class MLSlurmBuilder(SlurmScriptBuilder):
    """Makes the scripts of a training: one, one per strategy, or one per number of nodes."""

    config: MLSlurmBuilderConfig

    def __init__(self, config: MLSlurmBuilderConfig) -> None:
        super().__init__(config)

    def process_all_strategies(self, strategies: Sequence[str] = _STRATEGIES) -> None:
        """Process a script for each strategy."""
        for strategy in strategies:
            self._process(distributed_strategy=strategy)

    def process_scaling_test(
        self,
        strategies: Sequence[str] = _STRATEGIES,
        num_nodes_list: Sequence[int] = (1, 2, 4, 8),
    ) -> None:
        """Process a script for each strategy and number of nodes."""
        for nodes in num_nodes_list:
            for strategy in strategies:
                self._process(distributed_strategy=strategy, num_nodes=nodes)

    def _process(self, **changes: object) -> None:
        content = {**self.config.model_dump(), **changes, "job_name": None}
        MLSlurmBuilder(MLSlurmBuilderConfig(**content)).process_script()


def generate_default_slurm_script(config: MLSlurmBuilderConfig) -> None:
    """Process the scripts of a configuration, as its ``mode`` says."""
    process_builder(MLSlurmBuilder(config))


def process_builder(slurm_script_builder: MLSlurmBuilder) -> None:
    """Process the scripts of a builder, as the ``mode`` of its configuration says."""
    nodes = slurm_script_builder.config.scalability_nodes
    modes: dict[str, Callable[[], None]] = {
        "single": slurm_script_builder.process_script,
        "runall": slurm_script_builder.process_all_strategies,
        "scaling-test": lambda: slurm_script_builder.process_scaling_test(num_nodes_list=nodes),
    }
    modes[slurm_script_builder.config.mode]()
