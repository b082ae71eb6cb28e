"""Face of :mod:`itwinai.compatibility.monitoring`, for programs written for itwinai 0.4."""

from itwinai.compatibility.monitoring import measure_gpu_utilization

__all__ = ["measure_gpu_utilization"]
