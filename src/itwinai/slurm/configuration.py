"""Face of :mod:`itwinai.slurm.config`, and for itwinai 0.4 :mod:`itwinai.compatibility.slurm`."""

from itwinai.compatibility.slurm.configuration import MLSlurmBuilderConfig, SlurmScriptConfiguration
from itwinai.slurm.config import SlurmConfiguration, load

__all__ = ["MLSlurmBuilderConfig", "SlurmConfiguration", "SlurmScriptConfiguration", "load"]
