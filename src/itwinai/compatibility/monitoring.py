"""A decorator of programs written for itwinai 0.4, which measured GPUs while a training ran."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import itwinai

Method = TypeVar("Method", bound=Callable[..., Any])


def measure_gpu_utilization(method: Method) -> Method:
    """Decorate a trainer's ``train()``: it runs as it is, and nothing is measured.

    With ``measure_gpu_data`` the trainer is told so, once.
    """

    @functools.wraps(method)
    def unmeasured(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "measure_gpu_data", False):
            _tell_once()
        return method(self, *args, **kwargs)

    return cast("Method", unmeasured)


@functools.cache
def _tell_once() -> None:
    itwinai.logger.warning(
        "warning: measure_gpu_data has no effect: GPUs are not measured. Run 'nvidia-smi dmon' "
        "beside the training, or the monitoring of your cluster."
    )
