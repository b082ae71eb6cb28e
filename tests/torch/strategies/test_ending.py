"""A program that trained over several ranks ends as it should, however late PyTorch's threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("ending_program.py")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a thread does")
def test_a_process_ends_after_its_threads_have_let_go_of_their_messages(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launcher, str(PROGRAM), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rank-0").read_text().startswith("Dummy")  # not the main thread
