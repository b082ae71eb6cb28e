"""Slow and broken nodes: named, left out, and what ran there goes on elsewhere."""

from __future__ import annotations

import random
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hand_driven import MakeStudy, make_checkpoint
from rich.console import Console, RenderableType

from itwinai.hpo.display import StudyProgress
from itwinai.hpo.display.summary import summary
from itwinai.hpo.display.view import live_table, recorded
from itwinai.hpo.insight import diagnose
from itwinai.hpo.record import load_study
from itwinai.hpo.report import report_study
from itwinai.hpo.study import Study
from itwinai.hpo.trial import Assignment, TrialState

EPOCHS = 4


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@dataclass
class Clock:
    """Time that passes when the test says so."""

    now: float = 1_000_000.0


@dataclass
class Node:
    """A node with one slot.

    Attributes:
        name: Its name.
        seconds: What an epoch takes there.
        fails: After so many epochs of a trial it fails; None: never.
        start: Seconds that a trial takes to start there.
        luck: Which trials fail by chance after an epoch, as often there as elsewhere.
        ran: What it has run: number of the trial, epoch at which it began and at which it ended.
    """

    name: str
    seconds: float = 10.0
    fails: int | None = None
    start: float = 0.0
    luck: random.Random | None = None
    slot: Assignment | None = None
    left: float = 0.0
    epoch: int = 0
    ran: list[tuple[int, int, int]] = field(default_factory=list)

    def free(self) -> None:
        assert self.slot is not None
        self.ran.append((self.slot.number, self.slot.epochs, self.epoch))
        self.slot = None


def drive(
    study: Study, clock: Clock, *nodes: Node, own: Collection[int] = (), checkpoints: bool = True
) -> None:
    """Run a study as the engine does, with a slot on each node; trials in ``own`` fail anywhere."""
    names = {node.name for node in nodes}
    study.note_room(lambda without: bool(names - set(without)))
    waiting: list[Assignment] = []
    while True:
        fill(study, nodes, waiting)
        busy = [node for node in nodes if node.slot is not None]
        if not busy:
            break
        step = min(node.left for node in busy)
        clock.now += step
        for node in busy:
            node.left -= step
            if node.left <= 0:
                advance(study, node, own, checkpoints)


def fill(study: Study, nodes: Collection[Node], waiting: list[Assignment]) -> None:
    for node in nodes:
        if node.slot is not None:
            continue
        usable = (n for n in waiting if node.name not in study.avoided_by(n.number))
        trial = next(usable, None)
        while trial is None and node.name not in study.left_out:
            asked = study.ask() if len(waiting) < len(nodes) else None
            if asked is None:
                break
            waiting.append(asked)
            trial = asked if node.name not in study.avoided_by(asked.number) else None
        if trial is not None:
            waiting.remove(trial)
            node.slot, node.epoch = trial, trial.epochs
            node.left = node.start + node.seconds


def advance(study: Study, node: Node, own: Collection[int], checkpoints: bool) -> None:
    trial = node.slot
    assert trial is not None
    study.note_nodes(trial.number, [node.name])
    unlucky = node.luck is not None and node.epoch == 1 and node.luck.random() < 0.6
    if node.epoch == node.fails or (trial.number in own and node.epoch == 1) or unlucky:
        node.free()
        study.tell(trial.number, TrialState.FAILED, "RuntimeError: no CUDA device")
        return
    node.epoch += 1
    node.left = node.seconds
    checkpoint = make_checkpoint(trial, node.epoch) if checkpoints else None
    answer = study.report(trial.number, {"validation_loss": 0.5}, checkpoint, node.epoch)
    if answer == "stop" or node.epoch == study.epochs:
        node.free()
        study.tell(trial.number, TrialState.COMPLETED)


def states(study: Study) -> list[str]:
    return [trial.state.value for trial in load_study(study.directory).trials]


def epochs_run(*nodes: Node) -> int:
    return sum(end - begin for node in nodes for _, begin, end in node.ran)


def test_a_slow_node_is_named_and_left_out_and_no_epoch_is_trained_twice(
    make_study: MakeStudy, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    progress = StudyProgress(Console(file=StringIO()))
    study = make_study(num_samples=20, listener=progress.update)
    good, slow = Node("node1"), Node("node2", seconds=35.0)
    with progress.follow(study):
        drive(study, clock, good, slow)
        assert "node2 is slow" in drawn(live_table(progress.snapshot(), 30))
    result = study.close()
    assert states(study) == ["completed"] * 20
    assert epochs_run(good, slow) == 20 * EPOCHS
    (verdict,) = result.nodes
    assert (verdict.node, verdict.kind, verdict.left_out) == ("node2", "slow", True)
    assert "epochs take 3.5 times as long as on the other node (3 trials there" in verdict.evidence
    # The third trial there went on elsewhere, from the checkpoint that was in hand.
    number, _, end = slow.ran[-1]
    assert len(slow.ran) == 3
    assert (number, end, EPOCHS) in good.ran
    assert end < EPOCHS
    assert "warning: node2 is slow and gets no more trials: epochs take 3.5 times" in caplog.text
    assert "node2 is slow and gets no more trials" in str(summary(result))
    (finding,) = [finding for finding in diagnose(result) if finding.kind == "node"]
    assert finding.patch == {"study": {"exclude_nodes": ["node2"]}}
    assert "node2 is slow" in drawn(live_table(recorded(result, runs=True), 30))
    page = report_study(result, file=study.directory / "report.html").read_text()
    assert "node2 is slow: epochs take 3.5 times" in page
    assert finding.cost.startswith("3 trials spent ")


def drawn(table: RenderableType) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_without_checkpoints_its_trial_trains_to_its_end_there(
    make_study: MakeStudy, clock: Clock
) -> None:
    study = make_study(num_samples=20)
    good, slow = Node("node1"), Node("node2", seconds=35.0)
    drive(study, clock, good, slow, checkpoints=False)
    assert states(study) == ["completed"] * 20
    assert [(begin, end) for _, begin, end in slow.ran] == [(0, EPOCHS)] * 3
    assert study.left_out == {"node2"}


@pytest.mark.parametrize(("rule", "seconds"), [("never", 35.0), ("auto", 15.0), (["node9"], 35.0)])
def test_a_node_is_kept_that_is_hardly_slower_or_if_the_user_says_so(
    make_study: MakeStudy, clock: Clock, rule: Any, seconds: float
) -> None:
    study = make_study(num_samples=20, exclude_nodes=rule)
    good, slow = Node("node1"), Node("node2", seconds=seconds)
    drive(study, clock, good, slow)
    result = study.close()
    assert [(v.kind, v.left_out) for v in result.nodes] == (
        [] if rule == "auto" else [("slow", False)]
    )
    assert len(slow.ran) > 4
    assert epochs_run(good, slow) == 20 * EPOCHS


def test_the_last_node_is_not_left_out(make_study: MakeStudy, clock: Clock) -> None:
    study = make_study(num_samples=30)
    drive(study, clock, Node("node1"), Node("node2", seconds=35.0))
    assert study.left_out == {"node2"}
    study.note_room(lambda without: "node2" not in without)  # the other one has gone
    assert study.left_out == frozenset()


def test_a_resumed_study_keeps_what_it_knows_of_nodes_unless_told_otherwise(
    make_study: MakeStudy, clock: Clock
) -> None:
    study = make_study(num_samples=20)
    drive(study, clock, Node("node1"), Node("node2", seconds=35.0))
    study.close()
    for rule, left_out in (("auto", {"node2"}), ("never", set()), ("auto", set())):
        study = make_study(num_samples=20, resume=True, exclude_nodes=rule)
        study.note_room(lambda without: True)
        assert study.left_out == left_out
        assert [verdict.node for verdict in study.close().nodes] == ["node2"]
    study = make_study(num_samples=20, resume=True, exclude_nodes=["node2"])
    assert study.left_out == {"node2"}
    assert [verdict.left_out for verdict in study.close().nodes] == [True]


def test_a_broken_node_costs_no_trial(
    make_study: MakeStudy, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    study = make_study(num_samples=30)
    good, broken = Node("node1"), Node("node2", seconds=1.0, fails=0)
    drive(study, clock, good, broken)
    result = study.close()
    assert states(study) == ["completed"] * 30
    (verdict,) = result.nodes
    assert (verdict.node, verdict.kind, verdict.left_out) == ("node2", "broken", True)
    assert "trials failed, and" in verdict.evidence
    assert "the last one: RuntimeError: no CUDA device" in verdict.evidence
    assert len(broken.ran) < 10
    assert {number for number, _, _ in broken.ran} <= {number for number, _, _ in good.ran}
    assert "node2 is broken and gets no more trials" in caplog.text
    # The search has learnt nothing from it.
    values = [trial.value for trial in study._optuna.trials if trial.value is not None]
    assert values == [0.5] * 30


def test_a_node_that_breaks_later_gives_back_what_had_counted_as_failed(
    make_study: MakeStudy, clock: Clock
) -> None:
    study = make_study(num_samples=40)
    good, breaks = Node("node1"), Node("node2")
    drive_until(study, clock, good, breaks)
    breaks.fails = 1
    drive(study, clock, good, breaks)
    assert states(study) == ["completed"] * 40
    assert [verdict.kind for verdict in study.close().nodes] == ["broken"]


def drive_until(study: Study, clock: Clock, *nodes: Node) -> None:
    """Let each node train five trials."""
    names = {node.name for node in nodes}
    study.note_room(lambda without: bool(names - set(without)))
    for _ in range(5):
        fill(study, nodes, [])
        for _ in range(EPOCHS):
            clock.now += 10.0
            for node in nodes:
                advance(study, node, (), checkpoints=True)


def test_a_trial_that_fails_on_two_nodes_has_failed(make_study: MakeStudy, clock: Clock) -> None:
    study = make_study(num_samples=12)
    nodes = Node("node1"), Node("node2")
    drive(study, clock, *nodes, own=range(0, 12, 3))
    result = study.close()
    assert states(study) == ["failed", "completed", "completed"] * 4
    assert result.nodes == ()
    tries = [number for node in nodes for number, _, _ in node.ran]
    assert 1 <= max(map(tries.count, range(12))) <= 2


@pytest.mark.parametrize("seed", range(4))
def test_failures_by_chance_are_no_nodes_fault(
    make_study: MakeStudy, clock: Clock, seed: int
) -> None:
    study = make_study(num_samples=60)
    luck = random.Random(seed)
    drive(study, clock, Node("node1", luck=luck), Node("node2", luck=luck), checkpoints=False)
    assert study.close().nodes == ()
    assert "failed" in states(study)


def test_a_trial_that_fails_anywhere_is_no_evidence_of_a_broken_node(
    make_study: MakeStudy, clock: Clock
) -> None:
    study = make_study(num_samples=30)
    broken = Node("node2", seconds=1.0, fails=0)
    drive(study, clock, Node("node1"), broken, own=[1, 3])
    (verdict,) = study.close().nodes
    innocent = {number for number, _, _ in broken.ran} - {1, 3}
    assert {1, 3} & {number for number, _, _ in broken.ran}
    assert f"its last {len(innocent)} trials failed" in verdict.evidence
    assert states(study).count("failed") == 2


def test_a_long_start_makes_no_slow_node(make_study: MakeStudy, clock: Clock) -> None:
    study = make_study(num_samples=20, epochs=2)
    drive(study, clock, Node("node1"), Node("node2", start=100.0))
    assert study.close().nodes == ()


def test_failures_that_are_everywhere_end_the_study_as_ever(
    make_study: MakeStudy, clock: Clock
) -> None:
    study = make_study(num_samples=12)
    drive(study, clock, Node("node1", fails=0), Node("node2", fails=0))
    assert "the first 3 trials all failed" in str(study.fatal)
    assert study.close().nodes == ()


def test_one_machine_is_never_left_out_nor_are_its_failures_tried_again(
    make_study: MakeStudy, clock: Clock
) -> None:
    study = make_study(num_samples=6)
    only = Node("node1")
    drive(study, clock, only, own=[1, 2])
    assert states(study) == ["completed", "failed", "failed", "completed", "completed", "completed"]
    assert len(only.ran) == 6


def test_where_a_trial_ran_is_on_record(make_study: MakeStudy, clock: Clock) -> None:
    study = make_study(num_samples=2)
    drive(study, clock, Node("node1"), Node("node2"))
    attempts = load_study(Path(study.directory)).attempts
    assert [attempt.nodes for attempt in attempts] == [("node1",), ("node2",)]
