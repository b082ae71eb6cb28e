"""What anything that trains in a trial must do, proved by small studies of it.

One line proves a function, whatever it trains with, in a script or a test::

    check_integration(train, config={"lr": 0.1}, epochs=3)

Each rule is a function below. It gets a :class:`Bench`, which runs studies of the function. What
they tune and optimise is a number of the bench's own, so that the function can be any.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from itwinai.hpo import StudyResult, TrialState, tune
from itwinai.hpo.engine import ray_cluster
from itwinai.hpo.errors import StudyInterrupted, TrialsFailedError
from itwinai.hpo.functions.configuration import TrialConfig
from itwinai.hpo.functions.program import Function
from itwinai.hpo.functions.trial import Trial
from itwinai.testing.claims import BrokenClaimError, must, must_equal, must_raise

#: Name of what the studies tune and optimise; the function does not see it.
_CHECKED = "itwinai_check"

#: What is done to a trial after one of its reports, which is counted from 1.
Disturbance = Callable[[Trial, int], None]


class BrokenIntegrationError(AssertionError):
    """A function breaks a rule.

    Attributes:
        rule: The rule's name.
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"the integration breaks the rule '{rule}': {reason}")
        self.rule = rule


@dataclass(frozen=True)
class Subject:
    """A function, and what is to be known of it.

    Attributes:
        function: Called as of :func:`itwinai.hpo.tune`.
        config: Its configuration.
        epochs: Reports of a full training, at least 3.
        data: The trials' ``trial.data``.
        resumes: Whether it goes on from its checkpoint, instead of beginning again.
        world_size: Processes of a trial of several; 1: it cannot.
        resources_per_worker: Ray resources of each process.
    """

    function: Function
    config: Mapping[str, Any]
    epochs: int = 3
    data: Any = None
    resumes: bool = True
    world_size: int = 2
    resources_per_worker: Mapping[str, float] = field(default_factory=lambda: {"CPU": 0.5})


def check_integration(function: Function, config: Mapping[str, Any], **facts: Any) -> list[str]:
    """Prove that a function keeps all rules.

    Processes are started, so a script calls this below ``if __name__ == "__main__":``.

    Args:
        function: Called as of :func:`itwinai.hpo.tune`; with one seed it always trains the same.
        config: Its configuration.
        facts: What else is to be known of it: fields of :class:`Subject`.

    Returns:
        The names of the rules that were checked.

    Raises:
        BrokenIntegrationError: For the first rule that is broken.
    """
    subject = Subject(function, config, **facts)
    with ray_cluster():
        for rule in RULES:
            name = rule.__name__.replace("_", " ")
            with tempfile.TemporaryDirectory(prefix="itwinai-") as folder:
                try:
                    rule(Bench(subject, Path(folder)))
                except Exception as error:
                    reason = str(error) if isinstance(error, BrokenClaimError) else repr(error)
                    raise BrokenIntegrationError(name, reason) from error
    return [rule.__name__.replace("_", " ") for rule in RULES]


class Bench:
    """Runs the studies of one rule.

    Args:
        subject: The function.
        root: Where the studies' folders are made.
    """

    def __init__(self, subject: Subject, root: Path) -> None:
        self.subject = subject
        self.root = root

    def study(
        self, name: str, disturbance: Disturbance | None = None, **settings: Any
    ) -> StudyResult:
        """Run a study of two trials with the same configuration and seed, one after the other.

        Raises:
            BrokenClaimError: If none of them has a result.
        """
        subject = self.subject
        fields = {"metric": _CHECKED, "mode": "min", "num_samples": 2, "seed": 1}
        fields |= {"algorithm": "random", "scheduler": "none", "max_concurrent_trials": 1}
        fields |= {"resources_per_worker": dict(subject.resources_per_worker)}
        try:
            return tune(
                Probe(subject.function, disturbance),
                {_CHECKED: {"type": "randint", "lower": 0, "upper": 1000}},
                config={**subject.config, _CHECKED: 0},
                epochs=subject.epochs,
                data=subject.data,
                study={**fields, "name": name, "storage_path": self.root, **settings},
            )
        except TrialsFailedError as error:
            raise BrokenClaimError(str(error)) from error

    def reports(self, study: str, trial: int, rank: int = 0) -> int:
        """How often a process of a trial has called ``trial.report``."""
        file = _noted(self.root / study / "trials" / f"{trial:05d}", rank)
        return len(file.read_text()) if file.exists() else 0

    def log(self, study: str, trial: int) -> str:
        """What a trial has printed."""
        file = self.root / study / "trials" / f"{trial:05d}" / "log.txt"
        return file.read_text(errors="replace") if file.exists() else ""


class Probe:
    """The function as the studies run it.

    Args:
        function: The function.
        disturbance: What is done to a trial after each report.
    """

    def __init__(self, function: Function, disturbance: Disturbance | None) -> None:
        self._function = function
        self._disturbance = disturbance

    def __call__(self, config: TrialConfig, trial: Trial) -> None:
        """Run it with its own configuration."""
        assert config[_CHECKED] is not None  # read, so that it counts as used
        own = TrialConfig({name: config[name] for name in config if name != _CHECKED})
        self._function(own, WatchedTrial(trial, own, self._disturbance))  # type: ignore[arg-type]


class WatchedTrial:
    """A trial whose reports are counted.

    Args:
        trial: The trial.
        config: What the function shall see.
        disturbance: What is done after each report.
    """

    def __init__(self, trial: Trial, config: TrialConfig, disturbance: Disturbance | None) -> None:
        self._trial = trial
        self._disturbance = disturbance
        self._reports = 0
        self.config = config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._trial, name)

    def report(self, metrics: Mapping[str, float], checkpoint: Any = None, **place: Any) -> None:
        """Report, with the number that the study optimises."""
        self._reports += 1
        with _noted(self._trial.folder, self._trial.rank).open("a") as file:
            file.write(".")
        checked = {**metrics, _CHECKED: self._trial.number}
        self._trial.report(checked, checkpoint=checkpoint, **place)
        if self._disturbance is not None:
            self._disturbance(self._trial, self._reports)


# -- the rules -------------------------------------------------------------------------------------


def every_epoch_is_reported(bench: Bench) -> None:
    """A trial reports as often as it should, and more than nothing."""
    result = bench.study("reported")
    for trial in result.trials:
        _must_end(trial, TrialState.COMPLETED)
        must_equal(trial.epochs, bench.subject.epochs, f"reports of trial {trial.number}")
        must(all(len(epoch) > 1 for epoch in trial.history), "a report was without a metric")


def nothing_is_left_in_the_process(bench: Bench) -> None:
    """A trial is the same whether or not its process has trained another one before."""
    first, second = bench.study("left").trials
    must_equal(_measured(second), _measured(first), "metrics of a second, equal trial")


def a_stopped_trial_ends(bench: Bench) -> None:
    """A trial that its scheduler stops trains and reports no more, and ends without an error."""
    asha = {"name": "asha", "grace_period": 1, "reduction_factor": 2}
    _, stopped = bench.study("stopped", scheduler=asha).trials
    _must_end(stopped, TrialState.STOPPED)
    must_equal(bench.reports("stopped", 1), stopped.epochs, "reports of a stopped trial")
    must("Traceback" not in bench.log("stopped", 1), "a stopped trial has printed a traceback")


def a_killed_trial_ends_as_if_nothing_had_happened(bench: Bench) -> None:
    """A trial whose process is lost goes on, or begins again, and reports the same."""
    expected = bench.study("undisturbed").trials[1]
    found = bench.study("killed", partial(_kill_once, bench.root / "mark")).trials[1]
    must((bench.root / "mark").exists(), "the trial did not report twice, so it was not killed")
    _must_end(found, TrialState.COMPLETED)
    must_equal(_measured(found), _measured(expected), "metrics of a trial that was killed")
    total = bench.subject.epochs + (0 if bench.subject.resumes else 2)
    must_equal(bench.reports("killed", 1), total, "reports of a trial that was killed")


def an_interrupted_trial_goes_on_where_it_was(bench: Bench) -> None:
    """A trial that Ctrl-C ends goes on when its study is resumed, and reports the same."""
    expected = bench.study("whole").trials[1]
    interruption = partial(_interrupt_once, os.getpid(), bench.root / "mark")
    must_raise(
        StudyInterrupted,
        lambda: bench.study("interrupted", interruption),
        "a study whose second trial was interrupted after its first report",
    )
    found = bench.study("interrupted", interruption, resume=True).trials[1]
    _must_end(found, TrialState.COMPLETED)
    must_equal(_measured(found), _measured(expected), "metrics of a trial that was interrupted")
    # The study may not have heard the report that was answered with the request to stop.
    most, reports = bench.subject.epochs + 1, bench.reports("interrupted", 1)
    must(
        reports <= most or not bench.subject.resumes,
        f"a trial that was interrupted began again: {reports} reports, expected at most {most}",
    )


def too_little_memory_is_known_as_such(bench: Bench) -> None:
    """A ``MemoryError`` ends its trial alone, and is not hidden."""
    first, second = bench.study("memory", _lack_memory).trials
    _must_end(first, TrialState.OUT_OF_MEMORY)
    _must_end(second, TrialState.COMPLETED)


def several_processes_train_together(bench: Bench) -> None:
    """All processes of a trial, or rank 0 alone, report each epoch."""
    size = bench.subject.world_size
    if size == 1:
        return
    result = bench.study("together", workers_per_trial=size)
    for trial in result.trials:
        _must_end(trial, TrialState.COMPLETED)
        counts = [bench.reports("together", trial.number, rank) for rank in range(size)]
        must_equal(counts[0], bench.subject.epochs, "reports of rank 0")
        must(set(counts[1:]) <= {0, counts[0]}, f"reports of the ranks: {counts}")


#: In this order, because all others need the first.
RULES: tuple[Callable[[Bench], None], ...] = (
    every_epoch_is_reported,
    nothing_is_left_in_the_process,
    a_stopped_trial_ends,
    a_killed_trial_ends_as_if_nothing_had_happened,
    an_interrupted_trial_goes_on_where_it_was,
    too_little_memory_is_known_as_such,
    several_processes_train_together,
)


def _must_end(trial: Any, state: TrialState) -> None:
    found = f"{trial.state.value} ({trial.reason})" if trial.reason else trial.state.value
    must(trial.state is state, f"trial {trial.number} is {found}, not {state.value}")


def _measured(trial: Any) -> list[dict[str, float]]:
    """What the function itself has reported."""
    return [{n: v for n, v in epoch.items() if n != _CHECKED} for epoch in trial.history]


def _noted(folder: Path, rank: int) -> Path:
    return folder / f"reports-{rank}.txt"


def _kill_once(mark: Path, trial: Trial, reports: int) -> None:
    if trial.number == 1 and reports == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _interrupt_once(driver: int, mark: Path, trial: Trial, reports: int) -> None:
    if trial.number == 1 and reports == 1 and not mark.exists():
        mark.touch()
        os.kill(driver, signal.SIGINT)


def _lack_memory(trial: Trial, reports: int) -> None:
    if trial.number == 0 and reports == 1:
        raise MemoryError("as if there were none")
