"""Loaders whose epochs are exact over ranks, and metrics that are exact over batches and ranks."""

from __future__ import annotations

import random
from collections import UserDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from small_trainings import accuracy, error_rate
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassRecall

from itwinai.torch.data import (
    ExactSampler,
    batch_share,
    samples_in,
    set_epoch,
    to_device,
)
from itwinai.torch.metrics import EpochMetrics
from itwinai.torch.reproducibility import random_state
from itwinai.torch.strategies import NonDistributedStrategy, TorchDistributedStrategy
from itwinai.torch.streams import RankShare, rest_given


class Alone(NonDistributedStrategy):
    """A single process that has begun."""

    is_initialized = True


class OneOfTwo(Alone):
    """What rank 1 of 2 is told of its place; no process joins it."""

    def global_world_size(self) -> int:
        return 2

    def global_rank(self) -> int:
        return 1


class Stream(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.arange(10.0))


def data(samples: int) -> TensorDataset:
    return TensorDataset(torch.arange(samples))


def batches_of(
    samples: int, batch_size: int, rank: int, world_size: int, **options: Any
) -> list[tuple[list[int], float]]:
    """A rank's batches of one epoch, with their weights."""
    epoch = options.pop("epoch", 0)
    sampler = ExactSampler(range(samples), batch_size, rank, world_size, **options)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert len(order) == len(sampler)
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return [(batch, sampler.share(index)) for index, batch in enumerate(batches)]


def cases() -> list[tuple[int, int, int]]:
    """Data sets, batches and worlds: all the small ones, where the last steps are uneven."""
    every = [(n, b, w) for n in range(1, 18) for b in (1, 2, 3, 5) for w in (1, 2, 3, 4)]
    generator = random.Random(0)
    larger = [(generator.randint(18, 400), generator.randint(1, 40), w) for w in (2, 3, 7) * 10]
    return [*every, *larger]


@pytest.mark.parametrize("shuffle", [False, True])
def test_over_all_ranks_every_sample_counts_exactly_once(shuffle: bool) -> None:
    for samples, batch_size, world in cases():
        ranks = [
            batches_of(samples, batch_size, rank, world, shuffle=shuffle, seed=3)
            for rank in range(world)
        ]
        counted = [i for rank in ranks for batch, share in rank for i in batch if share > 0]
        assert sorted(counted) == list(range(samples)), (samples, batch_size, world)
        # All ranks meet in every step.
        assert len({len(rank) for rank in ranks}) == 1, (samples, batch_size, world)


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_kth_batches_together_are_the_kth_batch_of_one_process(shuffle: bool) -> None:
    for samples, batch_size, world in cases():
        alone = batches_of(samples, batch_size * world, 0, 1, shuffle=shuffle, seed=3, epoch=2)
        ranks = [
            batches_of(samples, batch_size, rank, world, shuffle=shuffle, seed=3, epoch=2)
            for rank in range(world)
        ]
        together = [
            sorted(i for batch, share in step for i in batch if share > 0)
            for step in zip(*ranks, strict=True)
        ]
        expected = [sorted(batch) for batch, _ in alone]
        assert together == expected, (samples, batch_size, world)


def test_the_mean_over_ranks_of_weighted_batch_means_is_the_mean_over_all_samples() -> None:
    values = torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for samples, batch_size, world in cases():
        ranks = [batches_of(samples, batch_size, r, world, shuffle=True) for r in range(world)]
        for step in zip(*ranks, strict=True):
            weighted = torch.stack([values[batch].mean() * share for batch, share in step])
            counted = [i for batch, share in step for i in batch if share > 0]
            assert weighted.mean().item() == pytest.approx(values[counted].mean().item())


def test_a_dropped_last_batch_is_dropped_on_all_ranks() -> None:
    for samples, batch_size, world in cases():
        ranks = [
            batches_of(samples, batch_size, rank, world, shuffle=False, drop_last=True)
            for rank in range(world)
        ]
        steps = samples // (batch_size * world)
        for rank in ranks:
            assert [(len(batch), share) for batch, share in rank] == [(batch_size, 1.0)] * steps
        counted = sorted(i for rank in ranks for batch, _ in rank for i in batch)
        assert counted == list(range(steps * batch_size * world))


def test_each_epoch_and_seed_has_an_order_of_its_own_that_can_be_had_again() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [
            i for b, _ in batches_of(50, 8, 0, 1, shuffle=True, seed=seed, epoch=epoch) for i in b
        ]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_until_it_is_told_the_epoch_a_sampler_counts_its_passes() -> None:
    sampler = ExactSampler(range(50), 8, rank=0, world_size=1, shuffle=True)
    passes = [list(sampler) for _ in range(3)]
    told = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        told += [list(sampler), list(sampler)]
    assert told == [order for order in passes for _ in range(2)]
    assert passes[0] != passes[1] != passes[2]


def test_a_loader_has_its_part_and_the_epoch_reaches_its_sampler() -> None:
    generator = torch.Generator().manual_seed(5)
    loader = OneOfTwo().create_dataloader(data(11), batch_size=3, shuffle=True, generator=generator)
    expected = ExactSampler(range(11), 3, rank=1, world_size=2, shuffle=True, seed=5)
    for epoch in (0, 4):
        set_epoch(loader, epoch)
        expected.set_epoch(epoch)
        assert [i for (batch,) in loader for i in batch.tolist()] == list(expected)
    assert [batch_share(loader, index) for index in range(2)] == [1.0, 2 * 2 / 5]


@pytest.mark.parametrize("ordinary", [RandomSampler, SequentialSampler])
def test_an_ordinary_sampler_keeps_its_kind_of_order_over_ranks(ordinary: Any) -> None:
    loader = OneOfTwo().create_dataloader(data(9), batch_size=2, sampler=ordinary(data(9)))
    assert isinstance(loader.sampler, ExactSampler)
    assert loader.sampler.shuffle is (ordinary is RandomSampler)
    assert len(loader.sampler) == 5  # 4 of its own, and one that keeps the third step company


OWN = {
    "sampler": WeightedRandomSampler([1.0] * 9, 4),
    "batch_sampler": BatchSampler(SubsetRandomSampler([1, 2, 3]), 2, drop_last=False),
}


@pytest.mark.parametrize("kind", OWN)
def test_an_own_sampler_serves_a_single_process_only(kind: str) -> None:
    batch_size = {"batch_size": 2} if kind == "sampler" else {}
    loader = Alone().create_dataloader(data(9), **batch_size, **{kind: OWN[kind]})
    assert getattr(loader, kind) is OWN[kind]
    assert batch_share(loader, 0) == 1.0
    with pytest.raises(RuntimeError) as caught:
        OneOfTwo().create_dataloader(data(9), **{kind: OWN[kind]})
    assert str(caught.value) == (
        f"{type(OWN[kind]).__name__}: with several processes each must get its own part of the "
        "data, which this sampler does not say. Leave it out (use shuffle), or pass an "
        "itwinai.torch.data.ExactSampler."
    )


@pytest.mark.parametrize(
    "sampler",
    [
        RandomSampler(data(9), replacement=True),
        RandomSampler(data(9), num_samples=4),
        SequentialSampler(data(5)),
    ],
)
def test_an_ordinary_sampler_that_does_not_give_each_sample_once_is_an_own_one(
    sampler: Any,
) -> None:
    with pytest.raises(RuntimeError, match=r"Sampler: with several processes each must get its"):
        OneOfTwo().create_dataloader(data(9), batch_size=2, sampler=sampler)


def test_an_exact_sampler_of_the_users_is_kept_on_all_ranks() -> None:
    sampler = ExactSampler(range(4), 2, rank=1, world_size=2, shuffle=False)
    loader = OneOfTwo().create_dataloader(data(9), batch_size=2, sampler=sampler)
    assert loader.sampler is sampler


@pytest.mark.parametrize(
    ("strategy", "batches"),
    [
        (Alone(), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
        (OneOfTwo(), [[1, 3, 5, 7], [9]]),
    ],
)
def test_an_iterable_data_set_is_dealt_out_from_front_to_back(
    strategy: TorchDistributedStrategy, batches: list[list[int]]
) -> None:
    loader = strategy.create_dataloader(Stream(), batch_size=4, shuffle=True)
    set_epoch(loader, 3)
    assert [batch.tolist() for batch in loader] == batches
    assert batch_share(loader, 1) == 1.0


def test_an_iterable_data_set_that_deals_itself_out_is_left_alone() -> None:
    stream = Stream()
    stream.deals_itself_out = True
    loader = OneOfTwo().create_dataloader(stream, batch_size=4)
    assert loader.dataset is stream


def test_all_ranks_get_the_same_number_of_an_iterable_data_set() -> None:
    shares = [list(RankShare(Stream(), rank, 4)) for rank in range(4)]
    assert [len(share) for share in shares] == [2, 2, 2, 2]
    assert sorted(int(sample) for share in shares for sample in share) == list(range(8))


class Drawing(IterableDataset[int]):
    """Shuffles itself as it goes, by the random numbers of Python, NumPy and torch."""

    def __iter__(self) -> Iterator[int]:
        left = torch.randperm(20).tolist()
        while left:
            yield left.pop((random.randrange(20) + int(np.random.randint(20))) % len(left))


def test_all_ranks_read_an_iterable_data_set_with_the_same_random_numbers() -> None:
    shares = [RankShare(Drawing(), rank, 2, seed=4) for rank in range(2)]

    def epoch(rank: int) -> tuple[int, ...]:
        torch.manual_seed(rank)
        before, samples = random_state(), tuple(shares[rank])
        assert random.getstate() == before["python"]
        assert torch.equal(torch.get_rng_state(), before["torch"])
        return samples

    epochs = [[epoch(rank) for rank in range(2)] for _ in range(2)]
    assert [sorted(one + other) for one, other in epochs] == [list(range(20))] * 2
    assert epochs[0] != epochs[1]
    for number in (1, 0):
        for share in shares:
            share.set_epoch(number)
        assert [epoch(rank) for rank in range(2)] == epochs[number]


@pytest.mark.parametrize(("drop_last", "left_out"), [(False, 0), (True, 2)])
def test_the_rest_of_an_iterable_data_set_is_given_if_asked(drop_last: bool, left_out: int) -> None:
    shares = [RankShare(Stream(), rank, 4, drop_last=drop_last) for rank in range(4)]
    samples = []
    for share in shares:
        with rest_given(DataLoader(share, batch_size=2, drop_last=drop_last)):
            samples += [int(sample) for sample in share]
    assert sorted(samples) == list(range(10 - left_out))
    assert [len(list(share)) for share in shares] == [2, 2, 2, 2]


@pytest.mark.parametrize("window", [1, 2, 3, 4])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_weights_of_a_step_of_several_batches_are_those_of_one_large_batch(
    window: int, drop_last: bool
) -> None:
    for samples, batch_size, world in ((103, 4, 2), (64, 8, 1), (50, 3, 3), (41, 10, 4)):
        samplers = [
            ExactSampler(range(samples), batch_size, rank, world, False, drop_last=drop_last)
            for rank in range(world)
        ]
        steps = -(-len(samplers[0]) // batch_size)
        for first in range(0, steps, window):
            shares, sizes = [], []
            for batch in range(first, min(first + window, steps)):
                for sampler in samplers:
                    own = list(sampler)[batch * batch_size : (batch + 1) * batch_size]
                    share = sampler.share(batch, window)
                    shares.append(share)
                    sizes.append(len(own) if share > 0 else 0)
            # The mean over ranks of weighted means is the mean over all samples of the step.
            assert [share / world for share in shares] == pytest.approx(
                [size / sum(sizes) for size in sizes]
            )


def test_loaders_of_another_kind_have_no_weights_and_no_epochs() -> None:
    batches = [torch.zeros(2)]
    set_epoch(batches, 1)  # type: ignore[arg-type]
    set_epoch(None, 1)
    assert batch_share(batches, 0) == 1.0  # type: ignore[arg-type]


def packed() -> PackedSequence:
    return pack_sequence([torch.zeros(3, 1), torch.zeros(2, 1)])


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        (torch.zeros(5, 2), 5),
        ((torch.zeros(5, 2), torch.zeros(5)), 5),
        ([torch.zeros(5, 2), None], 5),
        ({"inputs": torch.zeros(4), "labels": torch.zeros(4)}, 4),
        (({"ids": torch.zeros(3), "mask": torch.zeros(3)}, torch.zeros(3)), 3),
        (("name", torch.zeros(2)), 2),
        ([[torch.zeros(6)], "x"], 6),
        (packed(), 2),
        ((packed(), torch.zeros(2)), 2),
        ((packed(), packed()), 2),
    ],
)
def test_samples_in_a_batch(batch: Any, samples: int) -> None:
    assert samples_in(batch) == samples


@pytest.mark.parametrize("batch", [3, "text", [], {}, ("a", "b")], ids=repr)
def test_a_batch_whose_samples_cannot_be_counted(batch: Any) -> None:
    with pytest.raises(TypeError) as caught:
        samples_in(batch)
    assert str(caught.value) == (
        f"cannot count the samples of a batch of type {type(batch).__name__}. Override "
        "samples_in_batch() of the trainer, which returns their number."
    )


def test_a_batch_moves_to_a_device_and_keeps_its_shape() -> None:
    batch = {"a": [torch.zeros(1), 3], "b": "text"}
    moved = to_device(batch, "meta")
    assert moved["a"][0].device.type == "meta"
    assert (moved["a"][1], moved["b"]) == (3, "text")


class Pair(NamedTuple):
    inputs: Any
    target: Any


def test_what_holds_the_tensors_of_a_batch_keeps_its_kind() -> None:
    batch = Pair(packed(), (torch.zeros(1), UserDict(ids=torch.zeros(1))))
    inputs, (tensor, mapping) = moved = to_device(batch, "meta")
    kinds = (Pair, tuple, PackedSequence)
    assert (type(moved), type(moved.target), type(inputs)) == kinds
    assert {part.device.type for part in (inputs.data, tensor, mapping["ids"])} == {"meta"}


# -- metrics -----------------------------------------------------------------------------------


def run(metrics: EpochMetrics, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, Any]:
    """An epoch as a training makes it: a batch's loss is its share of large predictions."""
    metrics.reset()
    for prediction, target in batches:
        loss = prediction.max(1).values.mean()
        metrics.add(loss, metrics.observe(target, prediction), len(target))
    return metrics.compute(NonDistributedStrategy())


def uneven_batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.rand(size, 2, generator=generator), torch.randint(2, (size,), generator=generator))
        for size in (7, 7, 1)
    ]


def test_an_epoch_is_the_mean_over_samples_and_not_over_batches() -> None:
    batches = uneven_batches()
    predictions, targets = (torch.cat(part) for part in zip(*batches, strict=True))
    right = (predictions.argmax(1) == targets).double()
    expected = {
        "loss": predictions.max(1).values.double().mean().item(),
        "accuracy": right.mean().item(),
        "error": 1 - right.mean().item(),
    }
    metrics = EpochMetrics({"accuracy": accuracy(), "error": error_rate})
    assert run(metrics, batches) == pytest.approx(expected, abs=1e-7)
    # The mean of the batches' means is another number: the last batch has one sample.
    means = torch.stack([error_rate(*batch) for batch in batches])
    assert abs(means.mean().item() - expected["error"]) > 0.01
    # The next epoch begins anew.
    assert run(metrics, batches[:1])["error"] == pytest.approx(means[0].item())


def test_a_torchmetrics_object_that_is_no_mean_over_samples_is_exact_too() -> None:
    batches = uneven_batches()
    predictions, targets = (torch.cat(part) for part in zip(*batches, strict=True))
    labels = predictions.argmax(1)
    recalls = [
        ((labels == c) & (targets == c)).sum().item() / (targets == c).sum().item() for c in (0, 1)
    ]
    metrics = {
        "recall": MulticlassRecall(num_classes=2, average="macro"),
        "recalls": MulticlassRecall(num_classes=2, average=None),
    }
    expected = {"recall": sum(recalls) / 2, "recalls_0": recalls[0], "recalls_1": recalls[1]}
    result = run(EpochMetrics(metrics), batches)
    assert {name: result[name] for name in expected} == pytest.approx(expected)


def test_a_matrix_has_a_number_for_each_place() -> None:
    metrics = EpochMetrics({"confusion": MulticlassConfusionMatrix(num_classes=2)})
    result = run(metrics, [(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]))])
    assert [result[f"confusion_{place}"] for place in range(4)] == [1, 1, 0, 0]


def test_what_a_step_returns_of_itself_is_averaged_and_no_loss_is_no_number() -> None:
    metrics = EpochMetrics({})
    metrics.reset()
    metrics.add(None, {"psnr": 4.0}, 3)
    metrics.add(None, {"psnr": torch.tensor(8.0, requires_grad=True)}, 1)
    assert metrics.compute(NonDistributedStrategy()) == {"psnr": 5.0}


def test_a_function_may_return_several_numbers() -> None:
    metrics = EpochMetrics({"parts": lambda prediction, target: prediction.mean(0)})
    first, second = torch.tensor([[1.0, 2.0]] * 3), torch.tensor([[5.0, 6.0]])
    result = run(metrics, [(first, torch.zeros(3)), (second, torch.zeros(1))])
    assert (result["parts_0"], result["parts_1"]) == (2.0, 3.0)


def test_a_step_that_used_its_own_copy_of_a_metric_still_counts() -> None:
    metrics = EpochMetrics({"accuracy": accuracy()})
    metrics.reset()
    metrics.add(1.0, {"accuracy": 0.5}, 3)
    metrics.add(2.0, {"accuracy": 1.0}, 1)
    assert metrics.compute(NonDistributedStrategy()) == {"loss": 1.25, "accuracy": 0.625}


def test_a_repeated_batch_counts_nothing() -> None:
    metrics = EpochMetrics({"accuracy": accuracy(), "error": error_rate})
    (first, second, last) = uneven_batches()
    expected = run(metrics, [first, second])
    metrics.reset()
    for batch, repeated in ((first, False), (last, True), (second, False)):
        prediction, target = batch
        metrics.skip_batch(repeated)
        batch_metrics = metrics.observe(target, prediction)
        assert bool(batch_metrics) is not repeated
        metrics.add(prediction.max(1).values.mean(), batch_metrics, len(target))
    assert metrics.compute(NonDistributedStrategy()) == expected


def test_an_epoch_without_a_batch_has_no_metrics() -> None:
    metrics = EpochMetrics({"accuracy": accuracy(), "error": error_rate})
    assert run(metrics, []) == {}


def test_the_users_own_metric_object_is_left_alone() -> None:
    metric = accuracy()
    run(EpochMetrics({"accuracy": metric}), uneven_batches())
    assert not metric.update_called


def test_a_loader_of_the_strategy_is_torchs_own() -> None:
    loader = Alone().create_dataloader(data(4), batch_size=2, drop_last=True)
    assert type(loader) is DataLoader
    assert [batch.tolist() for (batch,) in loader] == [[0, 1], [2, 3]]
