"""Face of :mod:`itwinai.compatibility.types`, for programs written for itwinai 0.4."""

from itwinai.compatibility.types import MLArtifact, MLDataset, MLModel

__all__ = ["MLArtifact", "MLDataset", "MLModel"]
