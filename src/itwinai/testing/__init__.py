"""Tests that itwinai ships for what users write: ``strategies``, ``loggers``, ``integrations``."""
