"""A rank that ends while a thread of its group's still lets go of a message; run by torchrun."""

from __future__ import annotations

import hashlib
import sys
import threading
import weakref
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from itwinai.torch.distributed import TorchDDPStrategy

#: A second of work, for which a thread leaves the interpreter to others.
MUCH = bytes(500_000_000)

strategy = TorchDDPStrategy(backend="gloo")
strategy.init()
# It outlives the group, and so do the group's threads.
model, _, _ = strategy.distributed(nn.Linear(2, 2), None)
aside = dist.new_group()

started = threading.Event()


def let_go() -> None:
    started.set()
    hashlib.sha256(MUCH)
    (Path(sys.argv[1]) / f"rank-{rank}").write_text(threading.current_thread().name)


rank = strategy.global_rank()
message = torch.ones(4)
if rank == 0:
    weakref.finalize(message, let_go).atexit = False
    work = dist.all_reduce(message, async_op=True)
    del work, message  # from here on the thread has it alone
    dist.barrier(aside)
    started.wait()
else:
    dist.barrier(aside)
    dist.all_reduce(message)
strategy.clean_up()
