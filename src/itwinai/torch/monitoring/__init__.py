"""Face of :mod:`itwinai.compatibility.monitoring`, for programs written for itwinai 0.4."""
