"""The one place that touches what Ray gives no public way to.

A scheduler object does not tell its grace period, maximum, metric and mode; a study needs them to
refuse a contradiction before it starts. Ray reads its environment when it is imported, which a
user's script has often done already. And Tune gives a whole run up when Ray's memory monitor ends
the process of one trial. What lies in a node's object store can be read, but not be mapped once
more. ``ray.init`` starts processes that serve nobody here, and others that Tune would leave idle.
``test_ray_private.py`` and ``test_memory_monitor.py`` in ``tests/hpo`` fail when Ray renames any of
it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: Parts of a result that count epochs; a scheduler may also count seconds.
_EPOCHS = ("training_iteration", "epoch")

#: Where Tune asks whether an error means that a process is gone.
_ASKING = ("ray.air.execution._internal.actor_manager", "ray.tune.execution.tune_controller")


def limits_of(scheduler: Any) -> tuple[float | None, float | None]:
    """Return a Ray Tune scheduler's grace period and maximum in epochs, None where it has none."""
    if getattr(scheduler, "_time_attr", None) not in _EPOCHS:
        return None, None
    grace = getattr(scheduler, "_grace_period", None)
    brackets = getattr(scheduler, "_brackets", None)
    if grace is None and isinstance(brackets, list) and brackets:
        rungs = getattr(brackets[0], "_rungs", [])
        grace = rungs[-1][0] if rungs and isinstance(rungs[-1], tuple) else None
    maximum = getattr(scheduler, "_max_t", None) or getattr(scheduler, "_max_t_attr", None)
    return grace, maximum


def goal_of(value: Any) -> tuple[str | None, str | None]:
    """Return the metric and mode that a Ray Tune searcher or scheduler was given, or None."""
    metric, mode = getattr(value, "_metric", None), getattr(value, "_mode", None)
    metric = metric if isinstance(metric, str) else None
    return metric, mode if mode in ("min", "max") else None


def reread_environment() -> None:
    """Let an imported Ray see its environment variables (network interface, token) anew."""
    raylet: Any = import_module("ray._raylet")
    ray_constants: Any = import_module("ray._private.ray_constants")
    variable = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    ray_constants.ENABLE_RAY_CLUSTER = ray_constants.env_bool(variable, True)
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def start_without_extras(parameters: Any, head: bool) -> None:
    """Leave out what nobody uses here (``ray start`` calls it, by ``RAY_START_HOOK``).

    The server of Ray Client is a way in, on a fixed port; the autoscaler's monitor and the server
    of the dashboard, which starts without a dashboard too, are processes.
    """
    parameters.ray_client_server_port = None
    parameters.no_monitor = True
    node: Any = import_module("ray._private.node").Node
    node.start_api_server = _without_server


@contextmanager
def starts_few_processes(shows_output: bool) -> Iterator[None]:
    """Let ``ray.init`` leave three processes out that nobody uses here: half of its seconds.

    The autoscaler's monitor, the server of the dashboard, which starts without a dashboard too, and
    the one that reads the workers' output.

    Args:
        shows_output: Whether the last one is needed.
    """
    parameter: Any = import_module("ray._private.parameter")
    node: Any = import_module("ray._private.node").Node
    before = parameter.RayParams, node.start_api_server
    parameter.RayParams = partial(
        parameter.RayParams, no_monitor=True, include_log_monitor=shows_output
    )
    node.start_api_server = _without_server
    try:
        yield
    finally:
        parameter.RayParams, node.start_api_server = before


def _without_server(node: Any, **options: Any) -> None:
    node._webui_url = ""


@contextmanager
def idle_processes_taken() -> Iterator[None]:
    """Let Tune's trials run in the processes that Ray has started already, one for each core.

    Tune asks for processes with an environment variable of their own, which Lightning has not read
    since version 1.8: Ray has to start others, and its own stay idle.
    """
    class_cache: Any = import_module("ray.tune.execution.class_cache")
    before = class_cache.DEFAULT_ENV_VARS
    class_cache.DEFAULT_ENV_VARS = {}
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS = before


@contextmanager
def memory_kills_as_losses() -> Iterator[None]:
    """Let Tune take a process that Ray's memory monitor has ended as a lost one.

    Ray says OutOfMemoryError, which is no RayActorError, and Tune knows no other loss.
    """
    exceptions = import_module("ray.exceptions")
    before = exceptions.RayActorError
    # A Ray whose modules are others may need no mending, and can do without.
    found = [import_module(name) for name in _ASKING if find_spec(name) is not None]
    modules: list[Any] = [module for module in found if hasattr(module, "RayActorError")]
    for module in modules:
        module.RayActorError = (before, exceptions.OutOfMemoryError)
    try:
        yield
    finally:
        for module in modules:
            module.RayActorError = before


def object_store_at(address: int) -> tuple[Path, int] | None:
    """Find the file of Ray's object store that is mapped at an address, and the place in it.

    Its name is deleted; the raylet, which started this process, keeps it open.

    Returns:
        A path that can be opened, and an offset; None where nothing of the store lies there, or the
        system does not tell: only Linux has ``/proc``.
    """
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            area, _, offset, _, inode, *name = line.split(maxsplit=5)
            begin, end = (int(number, 16) for number in area.split("-"))
            if begin <= address < end and name:
                path = _opened_by_raylet(name[0], int(inode))
                return None if path is None else (path, int(offset, 16) + address - begin)
    return None


def _opened_by_raylet(name: str, inode: int) -> Path | None:
    for path in Path(f"/proc/{os.getppid()}/fd").iterdir():
        with suppress(OSError):  # it may be closed by now
            if os.readlink(path) == name and path.stat().st_ino == inode:
                return path
    return None
