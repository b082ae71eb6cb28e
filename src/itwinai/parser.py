"""Face of :mod:`itwinai.compatibility.parser`, for programs written for itwinai 0.4."""

from itwinai.compatibility.parser import ArgumentParser

__all__ = ["ArgumentParser"]
