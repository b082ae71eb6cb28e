"""That a step gives the weights that it gives in a single process."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise

import torch
from torch import nn

from itwinai.testing.claims import must, must_equal
from itwinai.testing.strategies.bench import STEPS, Bench, Training, adamw, plain_step, sgd


def all_ranks_begin_with_the_weights_of_rank_0(bench: Bench) -> None:
    """Models that differ between ranks become rank 0's."""
    training = bench.distribute(sgd, seed=bench.rank)
    expected = bench.model(seed=0)
    bench.compare(training.state(), expected.state_dict(), tolerance=0)
    for name, buffer in bench.strategy.unwrap(training.model).named_buffers():
        must(torch.equal(buffer.cpu(), expected.get_buffer(name)), f"{name} is another")


def trains_as_a_single_process(bench: Bench) -> None:
    """With each rank's mean loss the weights are those of one process with all the samples."""
    alone, training = bench.alone(sgd), bench.distribute(sgd)
    for step in range(STEPS):
        plain_step(alone, *bench.batch(step))
        inputs, targets = bench.own_batch(step)
        training.strategy.backward(training.loss(inputs, targets), training.model)
        training.step()
    bench.compare(training.state(), alone.state())
    bench.compare_outputs(training, alone)


def a_plain_loop_trains_too(bench: Bench) -> None:
    """``zero_grad(); loss.backward(); step()`` is all that a user's own loop needs."""
    alone, training = bench.alone(sgd), bench.distribute(sgd)
    for step in range(STEPS):
        plain_step(alone, *bench.batch(step))
        plain_step(training, *bench.own_batch(step))
    bench.compare(training.state(), alone.state())


def zero_grad_drops_gradients(bench: Bench) -> None:
    """Gradients before ``zero_grad()`` have no part in the step."""
    alone, training = bench.alone(sgd), bench.distribute(sgd)
    training.loss(*bench.own_batch(7)).backward()  # type: ignore[no-untyped-call]
    plain_step(training, *bench.own_batch(0))
    plain_step(alone, *bench.batch(0))
    bench.compare(training.state(), alone.state())


def accumulated_batches_equal_a_large_one(bench: Bench) -> None:
    """All but the last within ``accumulating()``; then the gradient is their sum."""
    alone, training = bench.alone(sgd), bench.distribute(sgd)
    for step in range(STEPS):
        plain_step(alone, *bench.batch(step))
        _accumulate(training, *bench.own_batch(step))
    bench.compare(training.state(), alone.state())


def clips_as_a_single_process(bench: Bench) -> None:
    """The norm is of all parameters and ranks, and of the coming step alone."""
    alone, training = bench.alone(sgd), bench.distribute(sgd)
    for step, max_norm in enumerate((0.05, None, 0.05)):
        plain_step(alone, *bench.batch(step), max_norm)
        _accumulate(training, *bench.own_batch(step), max_norm)
    bench.compare(training.state(), alone.state())


def large_gradients_stay_large(bench: Bench) -> None:
    """Nothing is clipped that was not to be, from the first step on."""
    alone, training = bench.alone(sgd), bench.distribute(sgd)
    for one, (inputs, targets) in ((alone, bench.batch(0)), (training, bench.own_batch(0))):
        plain_step(one, inputs, targets + 5)
    bench.compare(training.state(), alone.state())


def two_models_train_by_turns(bench: Bench) -> None:
    """Each makes its own steps; the second learns what the first says."""
    alone = [bench.alone(make) for make in (sgd, adamw)]
    pair = [bench.distribute(make) for make in (sgd, adamw)]
    for step in range(STEPS):
        for models, (inputs, targets) in (
            (alone, bench.batch(step)),
            (pair, bench.own_batch(step)),
        ):
            plain_step(models[0], inputs, targets)
            with torch.no_grad():
                said = models[0].model(inputs)
            plain_step(models[1], inputs, said)
    for one, expected in zip(pair, alone, strict=True):
        bench.compare(one.state(), expected.state())


def an_earlier_schedule_goes_on(bench: Bench) -> None:
    """A schedule made before ``distributed()`` sets the rate that the steps use."""
    alone, training = bench.alone(sgd), bench.distribute(sgd)
    for step in range(STEPS):
        plain_step(alone, *bench.batch(step))
        plain_step(training, *bench.own_batch(step))
        alone.schedule.step()
        training.schedule.step()
    rates = [t.optimizer.param_groups[0]["lr"] for t in (training, alone)]
    must_equal(rates[0], rates[1], "the learning rate")
    bench.compare(training.state(), alone.state())


def autocast_reaches_the_model(bench: Bench) -> None:
    """Within ``torch.autocast`` to bfloat16 the forward pass is in bfloat16."""
    training = bench.distribute(sgd, precision="bf16")
    device = training.strategy.device().split(":")[0]
    with torch.autocast(device, dtype=torch.bfloat16):
        inputs, targets = bench.own_batch(0)
        output = training.model(inputs)
        loss = nn.functional.mse_loss(output.float(), targets)
    must_equal(output.dtype, torch.bfloat16, "the format of the output")
    training.strategy.backward(loss, training.model)
    training.step()
    alone = bench.alone(sgd)
    plain_step(alone, *bench.batch(0))
    bench.compare(training.state(), alone.state(), tolerance=0.02)


def _accumulate(
    training: Training, inputs: torch.Tensor, targets: torch.Tensor, max_norm: float | None = None
) -> None:
    """A trainer's loop, in three batches of different sizes."""
    strategy, total = training.strategy, len(inputs)
    cuts = [0, total // 2, total // 2 + total // 3, total]
    for number, (begin, end) in enumerate(pairwise(cuts)):
        is_last = number == len(cuts) - 2
        with nullcontext() if is_last else strategy.accumulating(training.model):
            loss = training.loss(inputs[begin:end], targets[begin:end])
            strategy.backward(loss * (end - begin) / total, training.model)
    if max_norm is not None:
        strategy.clip_gradients(training.model, max_norm)
    training.step()
