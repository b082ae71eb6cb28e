"""Face of :mod:`itwinai.compatibility.slurm`, for programs written for itwinai 0.4."""

from itwinai.compatibility.slurm.configuration import remove_indentation_from_multiline_string

__all__ = ["remove_indentation_from_multiline_string"]
