"""Marker base classes: what flows through a pipeline."""

from __future__ import annotations


class MLArtifact:
    """Anything that machine learning consumes or produces."""


class MLDataset(MLArtifact):
    """A data set."""


class MLModel(MLArtifact):
    """A model."""
