"""Ray, started embedded where there is no cluster, and used where there is one."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from itwinai.environ import environment
from itwinai.hpo.engine.private import reread_environment
from itwinai.hpo.engine.resources import this_machine

#: Ray's settings for an embedded start; the last one binds Ray to the loopback interface, on Linux
#: as on the other systems.
_QUIET_AND_LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@contextmanager
def ray_cluster(show_output: bool = False) -> Iterator[list[dict[str, float]]]:
    """Connect to Ray for the length of a block, and give the resources of each node.

    A Ray that this process uses already is used and left alone. Otherwise ``RAY_ADDRESS`` names the
    cluster; without it Ray starts inside this program, bound to loopback, without dashboard and
    usage statistics, with a token of its own, and ends with the block.

    Args:
        show_output: Whether what Ray's processes print appears here.
    """
    if starts_embedded():
        with _embedded(show_output) as nodes:
            yield nodes
        return
    import ray

    address = os.environ.get("RAY_ADDRESS")
    connected = ray.is_initialized()
    if not connected:
        ray.init(address=address, **_output(show_output))
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        if not connected:
            ray.shutdown()


def starts_embedded() -> bool:
    """Whether there is no Ray to use yet: none in this process, no address of a cluster."""
    connected = "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())
    return not connected and "RAY_ADDRESS" not in os.environ


@contextmanager
def _embedded(show_output: bool) -> Iterator[list[dict[str, float]]]:
    # A short path: Ray puts sockets below it, whose names are limited to 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="itwinai-"))
    token = folder / "token"
    token.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
    token.write_text(os.urandom(32).hex())
    private = {"RAY_TMPDIR": str(folder), "RAY_AUTH_TOKEN_PATH": str(token)}
    try:
        with environment({**_QUIET_AND_LOCAL, **private}):
            import ray

            reread_environment()
            ray.init(
                address="local",
                num_cpus=int(this_machine()["CPU"]),
                include_dashboard=False,
                **_output(show_output),
            )
            try:
                yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
            finally:
                ray.shutdown()
    finally:
        reread_environment()  # the user's own Ray finds what it would have found
        shutil.rmtree(folder, ignore_errors=True)


def _output(show: bool) -> dict[str, Any]:
    """Options of Ray: whether its processes' output is shown; of Ray's own, only errors are."""
    import ray

    options: dict[str, Any] = {"log_to_driver": show, "logging_level": logging.ERROR}
    return options | ({"logging_config": ray.LoggingConfig(log_level="ERROR")} if show else {})
