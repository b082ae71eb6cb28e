"""PyTorch's settings, which a trial changes and which are put back for the next one."""

from __future__ import annotations

import torch

from itwinai.hpo.isolation.undoing import Setting, attribute


def settings() -> tuple[Setting, ...]:
    """How each is read and put back; not CUDA's random numbers, which a training's seed sets."""
    backends = torch.backends
    return (
        (torch.get_rng_state, torch.set_rng_state),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_default_device, _set_default_device),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        attribute(backends, "fp32_precision"),
        *(attribute(backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
        attribute(backends.cudnn, "allow_tf32"),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    )


def _set_default_device(device: torch.device) -> None:
    """The default is the CPU: to set that again would only slow PyTorch down."""
    torch.set_default_device(None if device.type == "cpu" else device)
