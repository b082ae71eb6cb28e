"""Tests that itwinai ships, for what users write themselves: ``strategies`` and ``loggers``."""
