"""Tries all rules in real processes, one after the other."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from contextlib import closing
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from itwinai.io.files import write_text
from itwinai.testing.claims import BrokenClaimError
from itwinai.testing.strategies import meeting, state, steps
from itwinai.testing.strategies.bench import GLOBAL_BATCH, Bench, Factory, Rule

#: In this order, because the second one makes the processes meet.
RULES: tuple[Rule, ...] = (
    meeting.nothing_works_before_init,
    meeting.init_twice_is_refused,
    meeting.ranks_and_sizes,
    meeting.collectives,
    steps.all_ranks_begin_with_the_weights_of_rank_0,
    steps.trains_as_a_single_process,
    steps.a_plain_loop_trains_too,
    steps.zero_grad_drops_gradients,
    steps.accumulated_batches_equal_a_large_one,
    steps.clips_as_a_single_process,
    steps.large_gradients_stay_large,
    steps.two_models_train_by_turns,
    steps.an_earlier_schedule_goes_on,
    steps.autocast_reaches_the_model,
    state.model_state_is_plain,
    state.states_can_be_put_back,
    state.a_single_process_can_go_on,
    state.shards_can_be_put_back,
    meeting.another_training_can_follow,
)


class BrokenRuleError(AssertionError):
    """A strategy breaks a rule.

    Attributes:
        rule: The rule's name.
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"the strategy breaks the rule '{rule}': {reason}")
        self.rule = rule


def check_strategy(
    factory: Factory,
    world_size: int = 2,
    config: Mapping[str, Any] | None = None,
    tolerance: float = 1e-5,
    timeout: float = 300,
) -> list[str]:
    """Prove that a strategy keeps all rules.

    It must train as a single process does with the same samples in a step, whatever it does inside.

    Args:
        factory: Returns a new strategy; a class, a function of a module, or a ``partial`` of them,
            because it is sent to new processes.
        world_size: Number of processes; a divisor of 60.
        config: Training configuration for ``default_options()``, such as DeepSpeed's.
        tolerance: Largest difference of a weight from that of a single process.
        timeout: Seconds after which processes that do not end are given up.

    Returns:
        The names of the rules that were checked.

    Raises:
        BrokenRuleError: For the first rule that is broken.
    """
    if GLOBAL_BATCH % world_size:
        raise ValueError(f"world_size={world_size}: must divide {GLOBAL_BATCH}")
    with tempfile.TemporaryDirectory(prefix="itwinai-") as folder:
        ports = [_free_port() for _ in range(2)]
        context = multiprocessing.get_context("spawn")
        arguments = (factory, dict(config or {}), tolerance, world_size, ports, folder)
        processes = [context.Process(target=_run, args=(r, *arguments)) for r in range(world_size)]
        for process in processes:
            process.start()
        failed = _wait_for(processes, timeout)
        reports = [_read_report(Path(folder), rank) for rank in range(world_size)]
    if failed is not None:
        own = reports[failed]
        reason = own.get("reason", f"rank {failed} did not end within {timeout:.0f} s, or died")
        raise BrokenRuleError(own.get("rule", "the processes start"), reason)
    return [str(rule) for rule in reports[0]["done"]]


def _run(rank: int, *arguments: Any) -> None:
    """Check all rules, as one of the processes; leave a report, and exit with 1 if it fails."""
    report: dict[str, Any] = {"rule": "the strategy is made", "done": []}
    file = _report_file(Path(arguments[-1]), rank)
    torch.set_num_threads(1)
    try:
        bench = Bench(rank, *arguments)
        for rule in RULES:
            report["rule"] = rule.__name__.replace("_", " ")
            write_text(file, json.dumps(report))
            rule(bench)
            report["done"].append(report["rule"])
    except BrokenClaimError as broken:
        report["reason"] = f"on rank {rank}, {broken}"
    except BaseException:  # noqa: BLE001 - the strategy may raise anything
        report["reason"] = f"on rank {rank}:\n{traceback.format_exc()}"
    write_text(file, json.dumps(report))
    sys.stdout.flush()
    # Not by the interpreter's end: a broken strategy's threads may wait for other processes.
    os._exit(1 if "reason" in report else 0)


def _wait_for(processes: list[SpawnProcess], timeout: float) -> int | None:
    """Wait until all processes end or one fails; return that one's rank, and end the others."""
    deadline = time.monotonic() + timeout
    running: dict[Any, int] = {p.sentinel: rank for rank, p in enumerate(processes)}
    try:
        while running:
            ended = wait(list(running), max(0, deadline - time.monotonic()))
            if not ended:
                return next(iter(running.values()))
            for rank in [running.pop(sentinel) for sentinel in ended]:
                processes[rank].join()
                if processes[rank].exitcode != 0:
                    return rank
        return None
    finally:
        for process in processes:
            process.kill()
            process.join()


def _report_file(folder: Path, rank: int) -> Path:
    return folder / f"report-{rank}.json"


def _read_report(folder: Path, rank: int) -> dict[str, Any]:
    file = _report_file(folder, rank)
    report: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return report


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
