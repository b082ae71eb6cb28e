"""What the ranks of a training must agree on, because they decide by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import itwinai
from itwinai import job
from itwinai.torch.training import hooks
from itwinai.torch.training.evaluating import evaluating, running
from itwinai.torch.training.protocol import Stage, Training


def run_hook(training: Training, stage: Stage) -> None:
    """Run the hook of an epoch's stage, such that all ranks have its metrics alike.

    A loss that a user's own hook returned is taken, whatever was recorded before.
    """
    hook, name = f"{stage}_epoch", f"{stage}_loss"
    training.whereabouts.hook = f"{hook}()"
    is_own = training.overrides(hook)
    evaluated = evaluating(training) if is_own and stage != "train" else nullcontext()
    with running(training, stage), evaluated:
        loss = getattr(training, hook)()
    if loss is not None and (is_own or name not in training.epoch_metrics):
        training.epoch_metrics[name] = hooks.epoch_loss(hook, loss)
    if is_own:
        agree_on_metrics(training)


def job_ends(training: Training) -> bool:
    """Whether the job asks to stop; rank 0 decides for all.

    A training alone ends then. A trial ends when its study says so, which heard the same.
    """
    if not job.may_stop():
        return False
    return bool(training.strategy.broadcast_obj(job.stop_requested(), src_rank=0))


def agree_on_metrics(training: Training) -> None:
    """Let all ranks have the same metrics of an epoch in which a user's own code found some.

    Early stopping, schedules, the choice of the best checkpoint and a study go by them. Where the
    ranks found different values, the mean of those that found one counts.
    """
    strategy = training.strategy
    if strategy.global_world_size() == 1:
        return
    ranks = strategy.allgather_obj(training.epoch_metrics)
    for name in sorted({name for rank in ranks for name in rank}):
        values = [rank[name] for rank in ranks if name in rank]
        training.epoch_metrics[name] = values[0] if _equal(values) else _mean(values)
        if not _equal(values) and strategy.is_main_worker:
            itwinai.logger.warning(
                "warning: %s gave other values of %s on each rank (%s); all go on with their mean. "
                "Bring them together by self.strategy.sum_over_ranks().",
                training.whereabouts.hook,
                name,
                ", ".join(f"{value:g}" for value in values[:8]),
            )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _equal(values: Sequence[float]) -> bool:
    return len(set(values)) == 1 or all(map(math.isnan, values))
