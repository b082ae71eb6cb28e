"""Face of :mod:`itwinai.compatibility.slurm`, for programs written for itwinai 0.4."""

from itwinai.compatibility.slurm.script_builder import (
    MLSlurmBuilder,
    SlurmScriptBuilder,
    generate_default_slurm_script,
    process_builder,
)

__all__ = [
    "MLSlurmBuilder",
    "SlurmScriptBuilder",
    "generate_default_slurm_script",
    "process_builder",
]
