"""Face of :mod:`itwinai.compatibility.tuning`, for programs written for itwinai 0.4."""

from itwinai.compatibility.tuning import search_space

__all__ = ["search_space"]
