"""What a study loses when its driver, or one of its workers, is killed with -9 again and again.

A study of short trials is run by itwinai and by Ray Tune. Each side is first run undisturbed, which
tells how long it trains; its kills are drawn from that time. A driver that was killed is started
again, as the documentation of each side says; a killed worker is the driver's own affair.

What was trained is not taken from either side's word: every epoch appends a line to a file.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

EPOCHS = 10
EPOCH_SECONDS = 0.02
AT_ONCE = 2
#: How often a trial may lose its worker, the same for both sides.
MAX_FAILURES = 20
#: Seconds after which a run that goes nowhere is given up.
PATIENCE = 300
PACKAGES = ("itwinai", "ray", "optuna")
SIDES = {"ours": "itwinai", "peer": "Ray Tune"}
VICTIMS = ("driver", "worker")
#: Carried by all processes of one run, so that none of them is left behind.
_MARK = "RESUME_BENCHMARK"


@dataclass
class Outcome:
    """What became of a study.

    Attributes:
        trials: Trials in the end, as the side itself tells it.
        completed: Of these, trained to the last epoch.
        unfinished: Of these, in no final state.
        repeated_numbers: Of these, with a name that another one has as well.
        started: Trials that trained at all.
        begun_again: Trials that trained their first epoch more than once.
        trained_again: Trials that trained on although they had trained their last epoch.
        epochs: Epochs trained in all.
        needed: Epochs that the trials have.
        kills: Kills that hit.
        failed_restores: How often the side could not go on, and why.
        seconds: Wall time.
    """

    trials: int
    completed: int
    unfinished: int
    repeated_numbers: int
    started: int = 0
    begun_again: int = 0
    trained_again: int = 0
    epochs: int = 0
    needed: int = 0
    kills: int = 0
    failed_restores: list[str] = field(default_factory=list)
    seconds: float = 0.0


def main() -> None:
    options = _options()
    if options.drive is not None:
        DRIVERS[options.drive](options.folder, options.trials)
        return
    moments = random.Random(options.seed)
    results = {}
    for side in SIDES:
        results[side, "nobody"], training = disturbed(side, "nobody", [], options.trials)
        for victim in VICTIMS:
            drawn = sorted(moments.uniform(0, training) for _ in range(options.kills))
            gaps = [after - before for before, after in zip([0.0, *drawn], drawn, strict=False)]
            results[side, victim], _ = disturbed(side, victim, gaps, options.trials, moments)
    print(table(results))
    if options.json is not None:
        options.json.write_text(json.dumps(report(options, results), indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40, help="trials of a study")
    parser.add_argument("--kills", type=int, default=20, help="kills of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--drive", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


# -- a training, the same for both sides -----------------------------------------------------------


def train_epoch(folder: Path, trial: str, epoch: int) -> float:
    """Train an epoch, and leave a line that says so."""
    time.sleep(EPOCH_SECONDS)
    with open(folder / "epochs.log", "a") as log:
        log.write(f"{os.getpid()} {trial} {epoch}\n")
    return 1 / epoch


def read_epochs(folder: Path) -> list[tuple[int, str, int]]:
    """Process, trial and number of all epochs trained so far."""
    log = folder / "epochs.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(pid), trial, int(epoch)) for pid, trial, epoch in map(str.split, lines)]


# -- the two sides, each in a process of its own ---------------------------------------------------


class Program:
    """A trial of itwinai."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, assignment: Any, place: Any, reporter: Any) -> None:
        """Train, with a checkpoint after each epoch."""
        done = 0
        if assignment.checkpoint is not None:
            done = int(Path(assignment.checkpoint, "epoch").read_text())
        assert done == assignment.epochs
        for epoch in range(done + 1, EPOCHS + 1):
            loss = train_epoch(self._folder, str(assignment.number), epoch)
            checkpoint = Path(assignment.directory, f"epoch_{epoch}")
            checkpoint.mkdir(parents=True, exist_ok=True)
            (checkpoint / "epoch").write_text(str(epoch))
            if reporter.report({"loss": loss + assignment.params["x"]}, checkpoint):
                return


def drive_ours(folder: Path, trials: int) -> None:
    """Run or resume a study of itwinai."""
    from itwinai.hpo.config import StudyConfiguration
    from itwinai.hpo.launch import plan_study, run_study
    from itwinai.hpo.space import SearchSpace

    configuration = StudyConfiguration(
        storage_path=folder,
        mode="min",
        num_samples=trials,
        algorithm="random",
        scheduler="none",
        max_concurrent_trials=AT_ONCE,
        max_failures=MAX_FAILURES,
        resume=True,
    )
    space = SearchSpace.parse({"x": {"type": "uniform", "lower": 0, "upper": 1}})
    run_study(plan_study(configuration, space, EPOCHS, None), Program(folder))


def outcome_of_ours(folder: Path) -> Outcome:
    """Read the study's record."""
    from itwinai.hpo.record import load_study

    trials = load_study(folder / "study").trials
    return Outcome(
        trials=len(trials),
        completed=sum(t.state.value == "completed" and t.epochs == EPOCHS for t in trials),
        unfinished=sum(t.state.value in ("running", "interrupted") for t in trials),
        repeated_numbers=len(trials) - len({t.number for t in trials}),
    )


def drive_peer(folder: Path, trials: int) -> None:
    """Run or restore an experiment of Ray Tune, as its guide to fault tolerance shows it."""
    from ray import tune

    path = str(folder / "study")
    if tune.Tuner.can_restore(path):
        try:
            tuner = tune.Tuner.restore(path, train_in_tune, resume_errored=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            _note_failure(folder, error)
            tuner = _new_tuner(folder, trials)
    else:
        if read_epochs(folder):
            _note_failure(folder, RuntimeError("there is nothing to restore"))
        tuner = _new_tuner(folder, trials)
    results = tuner.fit()
    _write_peer_outcome(folder, results)


def _new_tuner(folder: Path, trials: int) -> Any:
    from ray import tune

    return tune.Tuner(
        train_in_tune,
        param_space={"x": tune.uniform(0.0, 1.0), "folder": str(folder)},
        tune_config=tune.TuneConfig(
            num_samples=trials, max_concurrent_trials=AT_ONCE, metric="loss", mode="min"
        ),
        run_config=tune.RunConfig(
            name="study",
            storage_path=str(folder),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


def train_in_tune(config: dict[str, Any]) -> None:
    """A trial of Ray Tune, with a checkpoint after each epoch."""
    from ray import tune

    checkpoint, done = tune.get_checkpoint(), 0
    if checkpoint is not None:
        with checkpoint.as_directory() as saved:
            done = int(Path(saved, "epoch").read_text())
    trial = tune.get_context().get_trial_id()
    for epoch in range(done + 1, EPOCHS + 1):
        loss = train_epoch(Path(config["folder"]), trial, epoch)
        with tempfile.TemporaryDirectory() as fresh:
            Path(fresh, "epoch").write_text(str(epoch))
            tune.report(
                {"loss": loss + config["x"], "epoch": epoch},
                checkpoint=tune.Checkpoint.from_directory(fresh),
            )


def _note_failure(folder: Path, error: Exception) -> None:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    with open(folder / "failed_restores.log", "a") as log:
        log.write(f"{reason}\n")


def _write_peer_outcome(folder: Path, results: Any) -> None:
    ids = [result.metrics.get("trial_id") for result in results]
    epochs = [result.metrics.get("epoch", 0) for result in results]
    outcome = Outcome(
        trials=len(results),
        completed=sum(epoch == EPOCHS for epoch in epochs),
        unfinished=len(results) - results.num_terminated - results.num_errors,
        repeated_numbers=len(ids) - len(set(ids)),
    )
    (folder / "outcome.json").write_text(json.dumps(asdict(outcome)))


def outcome_of_peer(folder: Path) -> Outcome:
    """Read what the last driver has written."""
    return Outcome(**json.loads((folder / "outcome.json").read_text()))


DRIVERS = {"ours": drive_ours, "peer": drive_peer}
OUTCOMES = {"ours": outcome_of_ours, "peer": outcome_of_peer}


# -- kills -----------------------------------------------------------------------------------------


class Driver:
    """A side's driver, in a process group of its own."""

    def __init__(self, side: str, folder: Path, trials: int) -> None:
        self._folder = folder
        self._before = len(read_epochs(folder))
        self._ray = tempfile.mkdtemp(prefix="rb-")  # short: sockets lie below it
        self._mark = f"{_MARK}={self._ray}"
        arguments = [f"--drive={side}", f"--folder={folder}", f"--trials={trials}"]
        with open(folder / "driver.log", "a") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, *arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    **os.environ,
                    "RAY_USAGE_STATS_ENABLED": "0",
                    "RAY_TMPDIR": self._ray,
                    _MARK: self._ray,
                },
            )

    def wait_for_epoch(self, known: int) -> bool:
        """Wait until more epochs than those known have been trained; False if it ends before."""
        limit = time.monotonic() + PATIENCE
        while len(read_epochs(self._folder)) <= known:
            if not self.wait(0.01):
                return False
            if time.monotonic() > limit:
                raise TimeoutError(f"no epoch in {PATIENCE} s; see {self._folder / 'driver.log'}")
        return True

    def wait(self, seconds: float) -> bool:
        """Wait for so long; False if it ends before."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def kill(self) -> None:
        """Kill the driver and its process group with -9."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def kill_worker(self, choice: random.Random) -> bool:
        """Kill one of the processes that train now with -9; False if the study ends before."""
        while True:
            epochs = read_epochs(self._folder)
            mine = set(self._pids())
            alive = sorted({pid for pid, _, _ in epochs[self._before :]} & mine)
            if alive:
                os.kill(choice.choice(alive), signal.SIGKILL)
                return True
            if not self.wait_for_epoch(len(epochs)):  # the next trial's process is still starting
                return False

    def end(self) -> None:
        """Wait for the end of the study, then end whatever is left of its processes."""
        try:
            self._process.wait(PATIENCE)
        finally:
            for pid in self._pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(["rm", "-rf", self._ray], check=False)

    def _pids(self) -> Iterator[int]:
        for folder in Path("/proc").iterdir():
            with suppress(OSError):
                if folder.name.isdigit() and self._mark.encode() in Path(
                    folder, "environ"
                ).read_bytes().split(b"\0"):
                    yield int(folder.name)


def disturbed(
    side: str,
    victim: str,
    gaps: list[float],
    trials: int,
    choice: random.Random | None = None,
) -> tuple[Outcome, float]:
    """Run a study to its end under kills.

    Args:
        side: Whose study.
        victim: Who is killed.
        gaps: Seconds between the first epoch after a kill and the next kill.
        trials: Trials of the study.
        choice: Chooses among workers.

    Returns:
        What became of the study, and the seconds between the first and the last epoch of its last
        driver.
    """
    print(f"{side}: {len(gaps)} kills of the {victim} ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as path:
        folder, kills = Path(path), 0
        driver = Driver(side, folder, trials)
        for gap in gaps:
            running = driver.wait_for_epoch(len(read_epochs(folder))) and driver.wait(gap)
            if not running:
                break
            if victim == "driver":
                driver.kill()
                driver.end()
                driver = Driver(side, folder, trials)
                kills += 1
            elif driver.kill_worker(choice or random.Random()):
                kills += 1
        driver.wait_for_epoch(len(read_epochs(folder)))
        first = time.time()
        driver.end()
        training = (folder / "epochs.log").stat().st_mtime - first
        outcome = _completed(OUTCOMES[side](folder), folder, kills)
    outcome.seconds = time.monotonic() - start
    print(f"  {outcome}", file=sys.stderr, flush=True)
    return outcome, training


def _completed(outcome: Outcome, folder: Path, kills: int) -> Outcome:
    """Add what the trainings themselves have left."""
    epochs = read_epochs(folder)
    firsts = Counter(trial for _, trial, epoch in epochs if epoch == 1)
    ended: set[str] = set()
    again: set[str] = set()
    for _, trial, epoch in epochs:
        if trial in ended and epoch < EPOCHS:
            again.add(trial)
        if epoch == EPOCHS:
            ended.add(trial)
    failed = folder / "failed_restores.log"
    outcome.started = len({trial for _, trial, _ in epochs})
    outcome.begun_again = sum(count > 1 for count in firsts.values())
    outcome.trained_again = len(again)
    outcome.epochs, outcome.needed = len(epochs), EPOCHS * outcome.trials
    outcome.kills = kills
    outcome.failed_restores = failed.read_text().splitlines() if failed.exists() else []
    return outcome


# -- the figures -----------------------------------------------------------------------------------


def report(options: argparse.Namespace, results: dict[tuple[str, str], Outcome]) -> dict[str, Any]:
    """All figures, with what they were measured on."""
    return {
        "benchmark": "resume",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "architecture": platform.machine(),
            "system": platform.system(),
        },
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "trials": options.trials,
        "seed": options.seed,
        "results": [
            {"side": SIDES[side], "victim": victim, **asdict(outcome)}
            for (side, victim), outcome in results.items()
        ],
    }


def table(results: dict[tuple[str, str], Outcome]) -> str:
    """The figures as Markdown."""
    lines = [
        "| | killed | kills | trials in the end | complete | unfinished | started | begun again "
        "| trained on after the end | epochs run | needed | failed restores | seconds |",
        f"| --- | --- |{' ---: |' * 11}",
    ]
    for (side, victim), o in results.items():
        cells = [SIDES[side], victim, o.kills, o.trials, o.completed, o.unfinished, o.started]
        cells += [o.begun_again, o.trained_again, o.epochs, o.needed, len(o.failed_restores)]
        lines.append(f"| {' | '.join(map(str, cells))} | {o.seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    logging.getLogger("ray").setLevel(logging.ERROR)
    main()
