"""Who goes with a program that was killed, and who does not: no Ray is needed for that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from itwinai.hpo.engine.watcher import watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody watches")

PATIENCE_S = 60

PROGRAM = """
import os, signal, sys
from pathlib import Path
from itwinai.hpo.engine.watcher import watched
with watched(Path(sys.argv[1])):
    child = os.fork() if len(sys.argv) > 2 else -1
    if child:
        print(child, flush=True)
    signal.pause()
"""


class Machine:
    """A Ray's folder, and processes."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "itwinai_one"
        self.folder.mkdir()
        (self.folder / "token").touch()
        self._processes: list[subprocess.Popen[bytes]] = []

    def sleeper(
        self, *words: str, variable: Path | None = None, log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """A process that goes by these words, is told of a Ray's folder, and writes into one."""
        environment = {} if variable is None else {"RAY_TMPDIR": str(variable)}
        # The shell does nothing with its further words.
        command = [*words[:1], "-c", "read forever", *words[1:]]
        with open(os.devnull if log is None else log / "log.txt", "w") as output:
            process = subprocess.Popen(
                command,
                executable="/bin/sh",
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
            )
        self._processes.append(process)
        return process

    def program(self, *options: str) -> tuple[subprocess.Popen[bytes], int]:
        """A program within the block, and what it has forked."""
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.folder), *options],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._processes.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    def end(self) -> None:
        """Leave nothing behind."""
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    one = Machine(tmp_path)
    yield one
    one.end()


def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children() -> set[str]:
    """Of this process, zombies too."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


def test_a_killed_programs_ray_goes_with_it_and_nothing_else_does(machine: Machine) -> None:
    folder = machine.folder
    rays = [
        machine.sleeper("ray::IDLE", log=folder),
        machine.sleeper("raylet", f"--temp-dir={folder}", variable=folder),
    ]
    others = [
        machine.sleeper("ray::IDLE", log=folder.parent),
        machine.sleeper("raylet", f"--temp-dir={folder.parent}", variable=folder.parent),
        machine.sleeper("tail", f"{folder}/log.txt", log=folder),
        machine.sleeper("simulator", variable=folder, log=folder),
    ]
    program, _ = machine.program()
    os.killpg(program.pid, signal.SIGKILL)
    until(lambda: not folder.exists())
    assert [process.wait(PATIENCE_S) for process in rays] == [-signal.SIGKILL] * 2
    assert [process.poll() for process in others] == [None] * 4


def test_a_fork_of_the_program_does_not_hide_its_end(machine: Machine) -> None:
    program, fork = machine.program("forks")
    try:
        program.kill()
        until(lambda: not machine.folder.exists())
        os.kill(fork, 0)
    finally:
        os.kill(fork, signal.SIGKILL)


def test_a_block_that_ends_leaves_neither_its_ray_nor_its_watcher(machine: Machine) -> None:
    before, open_before = children(), os.listdir("/proc/self/fd")
    for _ in range(3):
        with watched(machine.folder):
            assert len(children() - before) == 1
            assert machine.folder.exists()
        assert not machine.folder.exists()
        machine.folder.mkdir()
    assert children() == before
    assert os.listdir("/proc/self/fd") == open_before
    left = machine.sleeper("ray::IDLE", log=machine.folder)
    with pytest.raises(RuntimeError), watched(machine.folder):
        raise RuntimeError
    assert left.wait(PATIENCE_S) == -signal.SIGKILL


def test_the_watcher_holds_no_descriptor_of_the_program(machine: Machine) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    os.set_blocking(reading, False)
    with watched(machine.folder):
        os.close(writing)
        assert os.read(reading, 1) == b""
    os.close(reading)
