"""That state is that of a single process, and a training goes on from it."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch

from itwinai.testing.claims import must_equal
from itwinai.testing.strategies.bench import STEPS, Bench, adamw, plain_step, sgd
from itwinai.torch.checkpoints.sharded import merge_shards


def model_state_is_plain(bench: Bench) -> None:
    """A model without strategy takes it, strictly; names have no prefix, order and buffers stay."""
    training = bench.distribute(sgd)
    plain_step(training, *bench.own_batch(0))
    state = training.state()
    if bench.rank != 0:
        return
    plain = bench.model()
    must_equal(list(state), list(plain.state_dict()), "the names in model_state()")
    plain.load_state_dict(_through_a_file(state), strict=True)


def states_can_be_put_back(bench: Bench) -> None:
    """Saved and loaded into a fresh model, the training goes on as if uninterrupted."""
    alone, first = bench.alone(adamw), bench.distribute(adamw)
    for step in range(STEPS):
        plain_step(alone, *bench.batch(step))
        plain_step(first, *bench.own_batch(step))
    states = _through_a_file([first.state(), first.optimizer_state()])
    whole = bench.strategy.broadcast_obj(states, 0)
    second = bench.distribute(adamw, seed=5)
    plain_step(second, *bench.own_batch(9))  # there is a state to be replaced
    second.put_back(*copy.deepcopy(whole))
    untouched = bench.distribute(adamw, seed=6)
    untouched.put_back(*whole)
    for step in range(STEPS, 2 * STEPS):
        plain_step(alone, *bench.batch(step))
        plain_step(second, *bench.own_batch(step))
        plain_step(untouched, *bench.own_batch(step))
    bench.compare(second.state(), alone.state())
    bench.compare(untouched.state(), alone.state())


def a_single_process_can_go_on(bench: Bench) -> None:
    """The optimizer's state is that of PyTorch, so a training can change its strategy."""
    alone, training = bench.alone(adamw), bench.distribute(adamw)
    for step in range(STEPS):
        plain_step(alone, *bench.batch(step))
        plain_step(training, *bench.own_batch(step))
    states = _through_a_file([training.state(), training.optimizer_state()])
    states = bench.strategy.broadcast_obj(states, 0)
    later = bench.alone(adamw, seed=5)
    later.put_back(*states)
    plain_step(alone, *bench.batch(STEPS))
    plain_step(later, *bench.batch(STEPS))
    bench.compare(later.state(), alone.state())
    elsewhere = bench.distribute(adamw, seed=6)
    elsewhere.put_back(*copy.deepcopy([alone.state(), alone.optimizer_state()]))
    plain_step(alone, *bench.batch(STEPS + 1))
    plain_step(elsewhere, *bench.own_batch(STEPS + 1))
    bench.compare(elsewhere.state(), alone.state())


def shards_can_be_put_back(bench: Bench) -> None:
    """What all ranks wrote together is read together, and is brought together by one process."""
    alone, first = bench.alone(adamw), bench.distribute(adamw)
    for step in range(STEPS):
        plain_step(alone, *bench.batch(step))
        plain_step(first, *bench.own_batch(step))
    folder = bench.folder / "shards"
    bench.strategy.save_sharded(folder, first.model, first.optimizer)
    bench.strategy.barrier()
    merged = bench.alone(adamw, seed=5)
    merged.put_back(*merge_shards(folder))
    second = bench.distribute(adamw, seed=6)
    bench.strategy.load_sharded(folder, second.model, second.optimizer)
    for step in range(STEPS, 2 * STEPS):
        plain_step(alone, *bench.batch(step))
        plain_step(merged, *bench.batch(step))
        plain_step(second, *bench.own_batch(step))
    bench.compare(merged.state(), alone.state())
    bench.compare(second.state(), alone.state())


def _through_a_file(state: Any) -> Any:
    """Save and load, as a checkpoint does."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)
