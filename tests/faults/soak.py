"""Faults at random on one study of short trials, which must lose nothing.

``soak.py --minutes 30 --seed 1``: the seed, which is printed, draws the faults and the moments.
Ends with 1 if anything was lost, repeated or left behind.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from drivers import Driver, epochs_of, trained_again
from short_study import EPOCHS

from itwinai.hpo.record import load_study

#: More than can be trained in the time; the last run asks for as many as have been begun.
PLENTY = 1_000_000


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Usage:
    """What a process uses: memory in MiB, descriptors, threads."""

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Look at a process."""
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        return cls(
            memory=int(status["VmRSS"].split()[0]) // 1024,
            descriptors=len(os.listdir(f"/proc/{pid}/fd")),
            threads=int(status["Threads"]),
        )

    def __str__(self) -> str:
        return f"{self.memory} MiB, {self.descriptors} descriptors, {self.threads} threads"


class Soak:
    """A study, its drivers one after the other, and what happens to them.

    Args:
        folder: Where the study is.
        temporary: For the temporary folders of its drivers, and no others.
        chance: Draws everything.
    """

    def __init__(self, folder: Path, temporary: Path, chance: random.Random) -> None:
        self._folder, self._temporary, self._chance = folder, temporary, chance
        self._record = folder / "study/record.log"
        self.drivers: list[Driver] = []
        self.happened: Counter[str] = Counter()
        self.gone_astray = 0
        #: Seconds that a driver lived, and what it used at their beginning and end.
        self.usage: list[tuple[float, Usage, Usage]] = []
        self.start()

    @property
    def driver(self) -> Driver:
        """The driver of now."""
        return self.drivers[-1]

    def start(self, trials: int = PLENTY) -> None:
        """Start a driver, and wait until it trains."""
        self.drivers.append(Driver(self._folder, trials, self._temporary))
        self._since = time.monotonic()
        self._first: Usage | None = None

    def train(self, seconds: float) -> None:
        """Let it train, mostly, or start, undisturbed; start it again if it ends."""
        with suppress(AssertionError):  # it has ended
            if self._chance.random() < 0.85:
                self.driver.wait_for_epochs(1)
                self._first = self._first or Usage.of(self.driver.process.pid)
            time.sleep(seconds)
        if not self.driver.is_running:
            self._astray("has ended by itself")
            self.start()

    # -- faults ------------------------------------------------------------------------------------

    def kill_a_worker(self) -> None:
        """Kill -9."""
        self._signal_a_worker(signal.SIGKILL)

    def stop_a_worker(self) -> None:
        """Let it sleep for a while."""
        pid = self._signal_a_worker(signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.5, 5))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def kill_the_driver(self) -> None:
        """Kill -9; the next one starts while workers of this one may be alive."""
        self._end(signal.SIGKILL)
        self.start()

    def end_the_driver(self) -> None:
        """As ``kill`` and a closed terminal do."""
        self._end(self._chance.choice([signal.SIGTERM, signal.SIGHUP]))
        self.start()

    def tear_the_record(self) -> None:
        """Kill the driver, and cut a few bytes off, as a machine that loses its power may."""
        self._end(signal.SIGKILL)
        os.truncate(self._record, self._record.stat().st_size - self._chance.randint(1, 60))
        self.start()

    def fill_the_disk(self) -> None:
        """Leave no byte free for a while."""
        ballast = os.open(self._folder / "ballast", os.O_CREAT | os.O_WRONLY)
        with suppress(OSError):
            while True:
                os.write(ballast, bytes(4096))
        os.close(ballast)
        time.sleep(self._chance.uniform(1, 6))
        (self._folder / "ballast").unlink()

    def _signal_a_worker(self, number: signal.Signals) -> int:
        workers = self.driver.workers()
        pid = self._chance.choice(workers or [0])
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid or os.getpid()

    def _end(self, number: signal.Signals) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            if self._first is not None:
                last = Usage.of(self.driver.process.pid)
                self.usage.append((time.monotonic() - self._since, self._first, last))
        self.driver.process.send_signal(number)
        self._check_end((-number, 130))

    def _check_end(self, codes: tuple[int, ...]) -> None:
        """Wait for the driver's end."""
        try:
            code = self.driver.process.wait(120)
        except subprocess.TimeoutExpired:
            self._astray("does not end")
            self.driver.process.kill()
            return
        if code not in codes:
            self._astray(f"has ended with {code}")

    def _astray(self, how: str) -> None:
        self.gone_astray += 1
        say(f"the driver {how}: {self.driver.log.read_text()[-4000:]}")

    # -- the whole ---------------------------------------------------------------------------------

    def run(self, minutes: float) -> None:
        """Let faults happen for so long, then let the study come to its end."""
        faults: dict[Callable[[], None], int] = {
            self.kill_a_worker: 4,
            self.stop_a_worker: 2,
            self.kill_the_driver: 1,
            self.end_the_driver: 1,
            self.tear_the_record: 1,
            self.fill_the_disk: int(self._folder.is_mount()),
        }
        until = time.monotonic() + minutes * 60
        while time.monotonic() < until:
            self.train(self._chance.uniform(0, 10))
            (fault,) = self._chance.choices([*faults], [*faults.values()])
            name = fault.__name__.replace("_", " ")
            say(f"{name} ({len(epochs_of(self._folder))} epochs so far)")
            fault()
            self.happened[name] += 1
        self.train(1)
        self._end(signal.SIGTERM)
        self.start(len(load_study(self._record).trials))
        self._check_end((0,))

    def findings(self) -> dict[str, int]:
        """What must be nothing."""
        result = load_study(self._record)
        numbers = [trial.number for trial in result.trials]
        epochs = epochs_of(self._folder)
        trained = {trial for _, trial, _ in epochs}
        states = Counter(trial.state.value for trial in result.trials)
        return {
            "trials lost": len(trained - set(numbers)) + max(numbers) + 1 - len(set(numbers)),
            "trials duplicated": len(numbers) - len(set(numbers)),
            "trials left running": states["running"],
            "trials that ended otherwise": len(numbers) - states["completed"] - states["running"],
            "trials with missing or repeated epochs": sum(
                trial.epochs != EPOCHS or len(trial.history) != EPOCHS for trial in result.trials
            ),
            "drivers that did not do as they were told": self.gone_astray,
            "processes left": sum(len(driver.processes()) for driver in self.drivers),
            "temporary folders left": len(list(self._temporary.iterdir())),
        }

    def facts(self) -> dict[str, object]:
        """What is worth knowing."""
        lived, first, last = max(self.usage, key=lambda usage: usage[0])
        return {
            "faults": ", ".join(f"{name} {count}" for name, count in sorted(self.happened.items())),
            "drivers": len(self.drivers),
            "trials": len(load_study(self._record).trials),
            "epochs trained": len(epochs_of(self._folder)),
            "epochs trained again": trained_again(self._folder),
            "record": f"{self._record.stat().st_size} bytes",
            f"the longest-lived driver, {lived:.0f} s": f"{first}; at its end: {last}",
        }


@contextmanager
def small_disk(folder: Path, tally: Path) -> Iterator[None]:
    """Make a folder a file system of 64 MiB, as root may; what was trained is told elsewhere."""
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64m", "soak", str(folder)], check=False
        ).returncode
    )
    (folder / "epochs.log").symlink_to(tally)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def main() -> None:
    """Run, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left behind
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    say(f"seed {seed}, {options.minutes:g} minutes")
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory(prefix="soak-") as temporary,
        tempfile.NamedTemporaryFile(prefix="soak-epochs-") as tally,
        small_disk(Path(folder), Path(tally.name)),
    ):
        soak = Soak(Path(folder), Path(temporary), random.Random(seed))
        try:
            soak.run(options.minutes)
        finally:
            for driver in soak.drivers[-1:]:
                driver.process.kill()
                driver.end()
        for name, value in soak.facts().items():
            say(f"{name}: {value}")
        findings = soak.findings()
        for name, number in findings.items():
            say(f"{name}: {number}")
    sys.exit(any(findings.values()))


if __name__ == "__main__":
    main()
