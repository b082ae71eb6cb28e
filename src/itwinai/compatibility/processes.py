"""Functions of ``itwinai.distributed``: what processes print, and the Ray cluster around them."""

from __future__ import annotations

import builtins
import functools
import importlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TypeVar

# Functions are called by their public address, where programs' tests replace them.
import itwinai.distributed as cluster

Function = TypeVar("Function", bound=Callable[..., Any])


# -- what is printed -------------------------------------------------------------------------------


def distributed_patch_print(is_main: bool) -> Callable[..., None]:
    """Return a ``print`` that is silent, except on the main process or with ``force=True``."""
    original = builtins.print

    def print_here(*args: Any, force: bool = False, **kwargs: Any) -> None:
        if is_main or force:
            original(*args, **kwargs)

    return print_here


def suppress_workers_print(func: Function) -> Function:
    """Let only rank 0 print while a function runs; ``print(..., force=True)`` does everywhere."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        original = builtins.print
        is_main = cluster.detect_distributed_environment().global_rank == 0
        builtins.print = cluster.distributed_patch_print(is_main)
        try:
            return func(*args, **kwargs)
        finally:
            builtins.print = original

    return wrapper  # type: ignore[return-value]


def suppress_workers_output(func: Function) -> Function:
    """Drop what ranks other than 0 write to standard output and error while a function runs."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if cluster.detect_distributed_environment().global_rank == 0:
            return func(*args, **kwargs)
        with _silence():
            return func(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


@contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


# -- Ray -------------------------------------------------------------------------------------------


def ray_cluster_is_running() -> bool:
    """Whether ``ray status`` finds a cluster."""
    try:
        return subprocess.run(["ray", "status"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def ray_is_there() -> bool:
    """Whether this process is connected to a Ray cluster, or one is running that it could join."""
    return bool(_ray().is_initialized()) or cluster.ray_cluster_is_running()


def initialize_ray() -> None:
    """Connect to the running Ray cluster, unless this process is connected already.

    Raises:
        RuntimeError: If there is none.
    """
    ray = _ray()
    if ray.is_initialized():
        return
    if not cluster.ray_cluster_is_running():
        raise RuntimeError(
            "no Ray cluster is running. Start one with `ray start --head`, or set RAY_ADDRESS."
        )
    ray.init(address="auto")


def get_adaptive_ray_scaling_config() -> Any:
    """Return a ``ray.train.ScalingConfig``: a worker per GPU of the cluster this is connected to.

    With one GPU or none, or without a connection: two workers on CPUs.
    """
    ray = _ray()
    gpus = int(ray.cluster_resources().get("GPU", 0)) if ray.is_initialized() else 0
    scaling: Any = importlib.import_module("ray.train").ScalingConfig
    return scaling(num_workers=gpus, use_gpu=True) if gpus > 1 else scaling(num_workers=2)


def _ray() -> Any:
    # By name: programs without a cluster never load Ray.
    return importlib.import_module("ray")
