"""Ranks agree, or all of them end within seconds and say which one is to blame."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from itwinai.torch.checkpoints import files as checkpoint

PROGRAM = Path(__file__).with_name("parting_program.py")


def run(folder: Path, *cases: dict[str, Any]) -> tuple[list[int], list[str]]:
    """Run a training's two ranks; return the exit code and the output of each that ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    outputs = [folder / f"output-{rank}" for rank in range(2)]
    ranks = []
    for rank, output in enumerate(outputs):
        with output.open("w") as file:
            here = {"MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, str(PROGRAM), str(folder), json.dumps(cases)]
            environment = {**os.environ, **place, **here}
            ranks.append(subprocess.Popen(command, env=environment, stdout=file, stderr=file))
    code = ranks[0].wait(timeout=170)
    if any(case.get("signal") == signal.SIGSTOP for case in cases):
        ranks[1].kill()
    return [code, ranks[1].wait(timeout=170)], [output.read_text() for output in outputs]


def outcomes(folder: Path, rank: int) -> Any:
    return json.loads((folder / f"outcomes-{rank}.json").read_text())


def test_ranks_that_go_on_agree(tmp_path):
    own = {"kind": "Own", "epochs": 4, "early_stopping_patience": 2}
    codes, (output, _) = run(tmp_path, own, {"kind": "Slow", "silence_timeout": 6})
    assert codes == [0, 0], output
    found = [outcomes(tmp_path, rank) for rank in range(2)]
    for rank in found:
        assert rank[0]["epochs"] == 3  # the best was the first
        assert rank[0]["validation_loss"] == pytest.approx(1.2)
        assert rank[0]["validation_accuracy"] == 0.25
        assert rank[1]["epochs"] == 1
    assert "validation_epoch() gave other values of validation_loss on each rank (0.5, 1.5)" in (
        output
    )


@pytest.mark.parametrize(
    ("hook", "failing", "place"),
    [
        ("train_step", 1, "train_step(), epoch 1, batch 2"),
        ("validation_step", 0, "validation_step(), epoch 1, batch 1"),
    ],
)
def test_a_rank_that_fails_is_named_with_its_hook(tmp_path, hook, failing, place):
    codes, outputs = run(tmp_path, {"kind": "Failing", "fails_in": hook, "fails_on": failing})
    assert codes == [1, 1]
    sentence = f"rank {failing} failed in {place}: LookupError: as told"
    assert all(sentence in output for output in outputs)
    assert f"RankError: {sentence}" in outputs[1 - failing]


def test_ranks_that_fail_alike_wait_for_none(tmp_path):
    case = {"kind": "Failing", "fails_in": "train_step", "fails_on": "both"}
    codes, outputs = run(tmp_path, case)
    assert codes == [1, 1]
    assert all("LookupError: as told" in output for output in outputs)
    assert not any("timed out" in output for output in outputs)  # a message that never came


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, "rank 1 is gone"), (signal.SIGSTOP, "rank 1 has been silent for 6 s")],
)
def test_a_rank_that_is_lost_is_named_with_its_last_place(tmp_path, number, words):
    codes, (output, _) = run(tmp_path, {"kind": "Killed", "signal": number, "silence_timeout": 6})
    assert codes == [1, -9]
    assert f"{words}. It was last seen in " in output


def test_a_rank_that_is_lost_while_all_save_leaves_the_checkpoint_before(tmp_path):
    case = {"kind": "KilledWhileSaving", "sharded": True, "checkpoint_every": 1, "epochs": 3}
    codes, (output, _) = run(tmp_path, case)
    assert codes == [1, -9]
    assert "rank 1 is gone" in output
    found = [path.name for path in (tmp_path / "0/checkpoints").glob("epoch_*")]
    assert found == ["epoch_0"]
    _, _, state = checkpoint.load(tmp_path / "0/checkpoints/epoch_0")
    assert state["epoch"] == 0


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            {"kind": "Uneven"},
            ["the gradients in train()", "allgather_obj() in the end of the training"],
        ),
        (
            {"kind": "Alone", "sharded": True},
            ["broadcast_obj() in train_epoch()", "sum_over_ranks() in train_step()"],
        ),
    ],
)
def test_ranks_that_have_parted_end(tmp_path, case, words):
    codes, outputs = run(tmp_path, case)
    assert codes == [1, 1]
    for output in outputs:
        assert "the ranks have parted" in output
        assert all(word in output for word in words)
