"""A training under PyTorch's profiler."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from torch.profiler import profile, schedule

import itwinai
from itwinai.constants import PROFILER_TRACES_DIR_NAME, PROFILING_AVG_NAME
from itwinai.io.files import write_text

Method = TypeVar("Method", bound=Callable[..., Any])

#: Rows of the summary.
ROWS = 20


def profile_torch_trainer(method: Method) -> Method:
    """Decorate a trainer's ``train()``: profile it if the trainer has ``enable_torch_profiling``.

    The first ``profiling_wait_epochs`` and ``profiling_warmup_epochs`` are left out; the profiler
    is the trainer's ``profiler``, whose ``step()`` is to be called after each epoch. Each rank
    writes a summary, and with ``store_torch_profiling_traces`` a trace for ``chrome://tracing``,
    to the folder ``profiler_traces`` beside the checkpoints.
    """

    @functools.wraps(method)
    def profiled(self: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = getattr(self, "enable_torch_profiling", False)
        if not wanted or getattr(self, "profiler", None) is not None:  # around this one already
            return method(self, *args, **kwargs)
        try:
            with profile(schedule=_schedule(self)) as self.profiler:
                result = method(self, *args, **kwargs)
            _write(self)
        finally:
            self.profiler = None
        return result

    return cast("Method", profiled)


def _schedule(trainer: Any) -> Callable[[int], Any]:
    active = max(1, trainer.epochs - _left_out(trainer))
    wait, warmup = _wait(trainer), _warmup(trainer)
    chosen: Callable[[int], Any] = schedule(wait=wait, warmup=warmup, active=active, repeat=1)
    return chosen


def _wait(trainer: Any) -> int:
    return int(getattr(trainer, "profiling_wait_epochs", 0))


def _warmup(trainer: Any) -> int:
    return int(getattr(trainer, "profiling_warmup_epochs", 0))


def _left_out(trainer: Any) -> int:
    return _wait(trainer) + _warmup(trainer)


def _write(trainer: Any) -> None:
    profiler = trainer.profiler
    if profiler.step_num < _left_out(trainer):
        itwinai.logger.warning(
            "warning: nothing was profiled: profiling_wait_epochs and profiling_warmup_epochs "
            "left no epoch, or train() did not call self.profiler.step() after each."
        )
        return
    folder = Path(trainer.checkpoints_location).parent / PROFILER_TRACES_DIR_NAME
    rank = trainer.strategy.global_rank()
    table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=ROWS)
    summary = folder / f"{PROFILING_AVG_NAME}-{rank}.txt"
    write_text(summary, table)
    if getattr(trainer, "store_torch_profiling_traces", False):
        profiler.export_chrome_trace(str(folder / f"trace-{rank}.json"))
    itwinai.logger.info("profile of rank %d: %s", rank, summary)
