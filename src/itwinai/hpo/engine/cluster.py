"""Ray, started embedded where there is no cluster, and used where there is one."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import itwinai
from itwinai.constants import TEMPORARY
from itwinai.environ import environment
from itwinai.errors import one_line
from itwinai.hpo.engine.resources import this_machine
from itwinai.hpo.engine.watcher import watched
from itwinai.hpo.errors import StudyError
from itwinai.hpo.ray_private import reread_environment, starts_few_processes
from itwinai.io.files import Probe, probe, temporary_folder

if TYPE_CHECKING:
    from itwinai.hpo.engine.nodes import Node

#: Ray's settings for an embedded start; the last one binds Ray to the loopback interface, on Linux
#: as on the other systems.
_QUIET_AND_LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@contextmanager
def ray_cluster(show_output: bool = False) -> Iterator[list[dict[str, float]]]:
    """Connect to Ray for the length of a block, and give the resources of each node.

    A Ray that this process uses already is used and left alone. Otherwise ``RAY_ADDRESS`` names the
    cluster; without it Ray starts inside this program, bound to loopback, without dashboard and
    usage statistics, with a token of its own, and ends with the block, or with this program.

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
        with _signals_kept():
            ray.init(address=address, **_output(show_output))
    try:
        yield _resources_alive()
    finally:
        if not connected:
            ray.shutdown()


def _resources_alive() -> list[dict[str, float]]:
    from itwinai.hpo.engine.nodes import nodes_alive

    return [node.resources for node in nodes_alive()]


def check_nodes(folder: str, storage: Path, left_out: Collection[str] = ()) -> None:
    """Refuse a cluster with a node that lacks what all nodes share.

    Args:
        folder: Where this program works.
        storage: Where it keeps records and checkpoints.
        left_out: Nodes, by name or address, that get no trials.

    Raises:
        StudyError: With the addresses of those nodes.
    """
    from itwinai.hpo.engine.nodes import nodes_alive

    nodes = nodes_alive()
    if len(nodes) < 2:  # it is this program's own
        return
    found = _looks([node for node in nodes if not node.is_among(left_out)], folder, storage)
    without = [address for address, (is_there, _) in found.items() if not is_there]
    if without:
        raise StudyError(
            f"{folder}, where this program works, is not there on {', '.join(without)}. All "
            "processes work in the same folder: start this in one that all nodes share."
        )
    _check_storage(storage, {address: result for address, (_, result) in found.items()})


def _looks(nodes: Sequence[Node], folder: str, storage: Path) -> dict[str, tuple[bool, Probe]]:
    """What each node sees, by its address."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as OnNode

    look = ray.remote(num_cpus=0)(_look)
    places = [OnNode(node.id, soft=False) for node in nodes]
    asked = [look.options(scheduling_strategy=place).remote(folder, storage) for place in places]
    return dict(zip((node.address for node in nodes), ray.get(asked), strict=True))


def _look(folder: str, storage: Path) -> tuple[bool, Probe]:
    return os.path.isdir(folder), probe(storage)


def _check_storage(storage: Path, probes: Mapping[str, Probe]) -> None:
    """Refuse a folder that a node cannot write to; warn of one that is slow."""
    problems = [
        f"{address}: {result.problem}" for address, result in probes.items() if result.problem
    ]
    if problems:
        raise StudyError(
            f"{storage} cannot hold records and checkpoints on {'; '.join(problems)}. Give a "
            "folder that all nodes share and can write to."
        )
    slow = [f"{result.seconds:.1f} s on {at}" for at, result in probes.items() if result.is_slow]
    if slow:
        itwinai.logger.warning(
            "warning: %s is slow: a file of five bytes took %s. Trials there wait as long for each "
            "checkpoint; give a faster folder if there is one",
            storage,
            ", ".join(slow),
        )


def starts_embedded() -> bool:
    """Whether there is no Ray to use yet: none in this process, no address of a cluster."""
    connected = "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())
    return not connected and "RAY_ADDRESS" not in os.environ


@contextmanager
def _embedded(show_output: bool) -> Iterator[list[dict[str, float]]]:
    # A short path: Ray puts sockets below it, whose names are limited to 107 bytes.
    with (
        temporary_folder(Path(tempfile.gettempdir()), TEMPORARY) as folder,
        watched(folder),
        _private_settings(folder),
    ):
        import ray

        with starts_few_processes(show_output):
            _start(
                address="local",
                num_cpus=int(this_machine()["CPU"]),
                include_dashboard=False,
                **_output(show_output),
            )
        try:
            yield _resources_alive()
        finally:
            ray.shutdown()


@contextmanager
def _private_settings(folder: Path) -> Iterator[None]:
    """Let Ray read settings of this study's own; afterwards the user's Ray finds its own again."""
    token = folder / "token"
    token.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
    token.write_text(os.urandom(32).hex())
    private = {"RAY_TMPDIR": str(folder), "RAY_AUTH_TOKEN_PATH": str(token)}
    try:
        with environment({**_QUIET_AND_LOCAL, **private}):
            reread_environment()
            yield
    finally:
        reread_environment()


def _start(**options: Any) -> None:
    """Start Ray; once more where a busy machine was too slow for it.

    Raises:
        StudyError: If it was too slow twice.
    """
    import ray

    for attempt in (1, 2):
        try:
            with _signals_kept():
                ray.init(**options)
        except Exception as error:  # Ray raises nothing more special
            if "timed out" not in str(error).lower():
                raise
            if attempt == 2:
                raise StudyError(
                    "Ray has not started within its thirty seconds, twice: this machine is too "
                    "busy, or has too little memory, or may start too few processes. Ray says: "
                    f"{one_line(str(error))}"
                ) from error
            itwinai.logger.warning(
                "warning: Ray has not started within its thirty seconds; trying once more"
            )
        else:
            break


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Leave SIGTERM to whom it is, also in this block, in which Ray takes it.

    Ray ends the program with an exit code of 15, after stacks of its libraries. What a handler
    raises may get lost besides: in the callbacks of a fork Python ignores it. So the signals that
    have come are raised again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    come, told = socket.socketpair()
    with come, told:
        come.setblocking(False)
        told.setblocking(False)
        others = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(others)
            signal.signal(signal.SIGTERM, before)
            with suppress(BlockingIOError):  # none has come
                _raise_again(come.recv(64))


def _raise_again(numbers: bytes) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        if number in numbers:
            signal.raise_signal(number)


def _output(show: bool) -> dict[str, Any]:
    """Options of Ray: whether its processes' output is shown; of Ray's own, only errors are."""
    import ray

    options: dict[str, Any] = {"log_to_driver": show, "logging_level": logging.ERROR}
    return options | ({"logging_config": ray.LoggingConfig(log_level="ERROR")} if show else {})
