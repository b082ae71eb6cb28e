"""One training's run: whatever the logger does, the training goes on, and the run has its end."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest

import itwinai
from itwinai.errors import MissingPackageError
from itwinai.io.failures import Failures, read_failures
from itwinai.loggers import Logger, LoggersCollection, RunContext, running
from itwinai.reporting import TrialStopped


class Team:
    """One of the processes that train together; what rank 0 has said, the others hear."""

    def __init__(self, rank: int = 0, size: int = 1, said: list[Any] | None = None) -> None:
        self.rank, self.size = rank, size
        self.said: list[Any] = [] if said is None else said

    def global_rank(self) -> int:
        return self.rank

    def global_world_size(self) -> int:
        return self.size

    def broadcast_obj(self, obj: Any, src_rank: int) -> Any:
        if self.rank == src_rank:
            self.said.append(obj)
        return self.said[-1]


class Service:
    """What all loggers of a test have told."""

    opened: ClassVar[list[Mapping[str, Any]]] = []
    closed: ClassVar[list[tuple[str, str]]] = []


@pytest.fixture(autouse=True)
def _new_service() -> None:
    Service.opened.clear()
    Service.closed.clear()


class Nesting(Logger):
    """A logger of a service that knows runs below runs."""

    nests_runs = True

    def _open(self, run_id: str | None = None, **options: Any) -> None:
        Service.opened.append(options | {"run_id": run_id})
        self.run_id = run_id or f"id-{len(Service.opened)}"

    def _close(self, status: str) -> None:
        Service.closed.append((str(self.run_id), status))


class Narrow(Logger):
    """As a user writes one whose methods take what they need."""

    def create_logger_context(self, rank: int = 0) -> None:  # type: ignore[override]
        self.is_initialized = True
        Service.opened.append({"rank": rank})

    def destroy_logger_context(self) -> None:  # type: ignore[override]
        self.is_initialized = False
        Service.closed.append(("narrow", "closed"))


class Away(Logger):
    """A logger whose service is away in some of its calls."""

    def __init__(self, *calls: str, error: type[Exception] = ConnectionError) -> None:
        super().__init__()
        self.calls, self.error = calls, error

    def _fail(self, call: str) -> None:
        if call in self.calls:
            raise self.error(f"no route in {call}")

    def _open(self, **options: Any) -> None:
        self._fail("open")

    def _close(self, status: str) -> None:
        self._fail("close")

    def _write_hyperparameters(self, params: Mapping[str, Any]) -> None:
        self._fail("hyper")

    def _metric(self, item: Any, identifier: str, step: int | None, **kwargs: Any) -> None:
        self._fail("log")

    _writers: ClassVar = {"metric": _metric}


@pytest.fixture
def warnings_seen(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(itwinai.logger, "propagate", True)
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (ValueError, "FAILED"),
        (SystemExit, "FAILED"),
        (TrialStopped, "KILLED"),
        (KeyboardInterrupt, "KILLED"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: LoggersCollection([one])])
def test_the_run_ends_as_the_training_does(error: Any, status: str, wrap: Any) -> None:
    expected = nullcontext() if error is None else pytest.raises(error)
    with expected, running(wrap(Nesting()), Team(), {}):
        if error is not None:
            raise error
    assert Service.closed == [("id-1", status)]


def test_a_logger_that_takes_less_is_told_less() -> None:
    with running(Narrow(), Team(), {}, "name", RunContext(group="study")) as log:
        assert log.failures == {"Narrow": 0}
    assert (Service.opened, Service.closed) == ([{"rank": 0}], [("narrow", "closed")])


@pytest.mark.parametrize("call", ["open", "close", "hyper", "log"])
def test_a_single_logger_may_fail_anywhere(
    call: str, tmp_path: Path, warnings_seen: pytest.LogCaptureFixture
) -> None:
    context = RunContext(folder=tmp_path)
    with running(Away(call), Team(), {"lr": 1}, context=context) as log:
        for step in range(3):
            log.log(1.0, "loss", step=step)
    first, *_, last = (record.getMessage() for record in warnings_seen.records)
    count = {"open": 5, "log": 3}.get(call, 1)  # a logger that never began can save nothing
    assert log.failures == {"Away": count}
    assert f"(ConnectionError: no route in {call})" in first
    assert "The work goes on" in first
    assert last.startswith(f"{count} failure{'s' * (count > 1)} of Away, the first: could not ")
    assert len(warnings_seen.records) == 2
    (kept,) = read_failures([tmp_path / "logger-failures.json"]).values()
    assert kept.count == count


def test_a_mistake_to_correct_is_raised_before_the_training() -> None:
    with (
        pytest.raises(MissingPackageError),
        running(Away("open", error=MissingPackageError), Team(), {}),
    ):
        pytest.fail("the training must not begin")


def test_without_a_logger_nothing_is_kept(tmp_path: Path) -> None:
    with running(None, Team(), {"lr": 1}, "name", RunContext(folder=tmp_path)) as log:
        log.log(1.0, "loss")
    assert list(tmp_path.iterdir()) == []


def test_failures_of_a_continued_training_add_up(tmp_path: Path) -> None:
    for _ in range(2):
        with running(Away("log"), Team(), {}, context=RunContext(folder=tmp_path)) as log:
            log.log(1.0, "loss")
    text = "could not log 'loss' (ConnectionError: no route in log)"
    path = tmp_path / "logger-failures.json"
    assert read_failures([path]) == {"Away": Failures(2, text)}
    assert read_failures([path, path, tmp_path / "none"]) == {"Away": Failures(4, text)}
    assert Failures(2, text).of("Away") == f"2 failures of Away, the first: {text}"


def test_a_trials_run_is_below_the_studys_and_is_continued(tmp_path: Path) -> None:
    context = RunContext("study", {"trial": "3"}, {"Nesting": "root"}, tmp_path)
    for _ in range(2):
        with running(Nesting(), Team(), {}, "trial-3", context):
            pass
    expected = {
        "run_name": "trial-3",
        "group": "study",
        "tags": {"trial": "3", "itwinai.root": "root"},
        "parent_run_id": "root",
    }
    assert Service.opened == [expected | {"run_id": None}, expected | {"run_id": "id-1"}]
    assert json.loads((tmp_path / "runs.json").read_text())["own"] == {"Nesting": "id-1"}


def test_several_workers_have_runs_below_the_trainings(tmp_path: Path) -> None:
    context = RunContext(parents={"Nesting": "root"}, folder=tmp_path)
    said: list[Any] = []
    for rank in range(2):
        logger = Nesting(log_on_workers=-1)
        with running(logger, Team(rank, 2, said), {}, "trial", context):
            pass
    seen = [(one["run_name"], one["parent_run_id"]) for one in Service.opened]
    assert seen == [("trial", "root"), ("trial-worker-0", "id-1"), ("trial-worker-1", "id-1")]
    assert [one["tags"].get("itwinai.worker") for one in Service.opened] == [None, "0", "1"]
    assert {one["tags"]["itwinai.root"] for one in Service.opened} == {"root"}
    assert Service.closed == [(f"id-{n}", "FINISHED") for n in (2, 1, 3)]
    kept = [json.loads((tmp_path / name).read_text()) for name in ("runs.json", "runs-1.json")]
    assert kept == [
        {"own": {"Nesting": "id-2"}, "above": {"Nesting": "id-1"}},
        {"own": {"Nesting": "id-3"}, "above": {}},
    ]
