"""Metrics as users give them: collections, wrappers, functions, and what is no number at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_trainings import MLP, make_data, options
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryROC,
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassROC,
)
from torchmetrics.regression import MeanSquaredError, R2Score
from torchmetrics.wrappers import (
    BootStrapper,
    ClasswiseWrapper,
    MinMaxMetric,
    MultioutputWrapper,
)

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.torch.metrics import EpochMetrics
from itwinai.torch.strategies import NonDistributedStrategy
from itwinai.torch.trainer import TorchTrainer
from itwinai.torch.type import HookError


def accuracy(**options: Any) -> MulticlassAccuracy:
    return MulticlassAccuracy(3, **options)


def f1() -> MulticlassF1Score:
    return MulticlassF1Score(3, average="macro")


def uneven_batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.rand(size, 3, generator=generator), torch.randint(3, (size,), generator=generator))
        for size in (8, 8, 3)
    ]


def an_epoch(metrics: Any, batches: Any = None) -> dict[str, float]:
    """The metrics of an epoch, the second one of two alike."""
    epoch = EpochMetrics(metrics)
    for _ in range(2):
        epoch.reset()
        for prediction, target in batches or uneven_batches():
            epoch.add(None, epoch.observe(target, prediction), len(target))
        result = epoch.compute(NonDistributedStrategy())
    return result


def exact(metric: Metric) -> Any:
    """What torchmetrics itself says of all samples at once."""
    predictions, targets = (torch.cat(part) for part in zip(*uneven_batches(), strict=True))
    metric.update(predictions, targets)
    return metric.compute()


class Detection(Metric):
    """As a detection's metrics: a dictionary, whose parts may be unknown."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("seen", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, prediction: Any, target: Any) -> None:
        self.seen += len(target)

    def compute(self) -> dict[str, Any]:
        nan, unknown = torch.tensor(float("nan")), torch.tensor(-1)
        return {"all": self.seen / 38, "50": nan, "small": unknown, "classes": torch.tensor([3, 7])}


# -- several numbers, each with its name ---------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        (MetricCollection({"acc": accuracy(), "f1": f1()}), ("acc", "f1")),
        (MetricCollection({"acc": accuracy(), "f1": f1()}, prefix="my_"), ("my_acc", "my_f1")),
        ({"all": MetricCollection({"acc": accuracy(), "f1": f1()})}, ("all_acc", "all_f1")),
        ({"all": {"acc": accuracy(), "f1": f1()}}, ("all_acc", "all_f1")),
    ],
)
def test_each_metric_of_a_collection_is_exact(metrics, names):
    assert an_epoch(metrics) == pytest.approx(
        dict(zip(names, map(float, (exact(accuracy()), exact(f1()))), strict=True))
    )


def test_metrics_that_wrap_others_are_exact():
    classes = exact(accuracy(average=None)).tolist()
    wrapped = ClasswiseWrapper(accuracy(average=None), labels=["a", "b", "c"], prefix="of_")
    found = an_epoch({"acc": wrapped})
    assert found == pytest.approx(
        dict(zip(("acc_of_a", "acc_of_b", "acc_of_c"), classes, strict=True))
    )
    value = float(exact(accuracy()))
    found = an_epoch({"acc": MinMaxMetric(accuracy()), "more": accuracy() + 1})
    numbers = dict.fromkeys(("acc_raw", "acc_min", "acc_max"), value)
    assert found == pytest.approx({**numbers, "more": value + 1})
    assert set(an_epoch({"b": BootStrapper(accuracy())})) == {"b_mean", "b_std"}


def test_the_outputs_of_a_model_have_a_number_each():
    batches = [(prediction, prediction + 2.0) for prediction, _ in uneven_batches()]
    found = an_epoch({"mse": MultioutputWrapper(MeanSquaredError(), 3)}, batches)
    assert found == pytest.approx({"mse_0": 4.0, "mse_1": 4.0, "mse_2": 4.0})


@pytest.mark.parametrize("update", [True, False])
def test_a_batch_may_be_too_small_for_a_metric_and_an_epoch_not(monkeypatch, update):
    monkeypatch.setattr(R2Score, "full_state_update", update)
    inputs = torch.linspace(0, 1, 9)
    batches = [(part, part**2) for part in inputs.split(4)]  # the last one has one sample
    found = an_epoch({"r2": R2Score()}, batches)
    assert found == pytest.approx({"r2": float(R2Score()(inputs, inputs**2))})
    with pytest.raises(ValueError, match="at least two samples"):
        an_epoch({"r2": R2Score()}, batches[-1:])


def test_parts_that_are_unknown_stay_so():
    found = an_epoch({"map": Detection()})
    assert np.isnan(found.pop("map_50"))
    assert found == {"map_all": 0.5, "map_small": -1, "map_classes_0": 3, "map_classes_1": 7}


def test_every_number_is_a_float():
    found = an_epoch({"confusion": MulticlassConfusionMatrix(3)})
    assert len(found) == 9
    assert {type(value) for value in found.values()} == {float}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (True, {"f": 1.0}),
        (np.float32(1.5), {"f": 1.5}),
        (np.array([1, 2]), {"f_0": 1.0, "f_1": 2.0}),
        ([1, 2.5], {"f_0": 1.0, "f_1": 2.5}),
        ([torch.tensor(1.0), torch.tensor([2.0])], {"f_0": 1.0, "f_1": 2.0}),
        ([[1], [2, 3]], {"f_0": 1.0, "f_1": 2.0, "f_2": 3.0}),
        ({"a": 1, "b": {"c": torch.tensor([2.0])}}, {"f_a": 1.0, "f_b_c": 2.0}),
        (0.1, {"f": 0.1}),
        ([1796051626.0, 16777217.0], {"f_0": 1796051626.0, "f_1": 16777217.0}),
        ({}, {}),
    ],
)
def test_what_a_function_may_return(value, found):
    assert an_epoch({"f": lambda prediction, target: value}) == found


def test_an_own_loop_reports_a_number_as_it_is(tmp_path):
    values = {"validation_loss": 0.1, "seen": 123456789.0}

    class Own(TorchTrainer):
        def train(self) -> None:
            for _ in self.remaining_epochs():
                self.end_epoch(values)

    trainer = Own(**options(tmp_path, epochs=1))
    trainer.execute(make_data(20))
    assert trainer.epoch_metrics == values


def test_a_function_that_names_what_is_no_mean_is_told(tmp_path, capsys):
    exact = {"f1": f1(), "accuracy": accuracy(), "profit": lambda prediction, target: 1.0}
    TorchTrainer(**options(tmp_path, metrics=exact))
    assert "warning" not in capsys.readouterr().out
    TorchTrainer(**options(tmp_path, metrics={"macro F1": lambda prediction, target: 1.0}))
    assert "warning: metrics.macro F1 is a function, of which" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "told"), [("f1", True), ("error", False)])
def test_a_step_that_finds_what_is_no_mean_is_told_once(tmp_path, capsys, name, told):
    class Finding(TorchTrainer):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            loss, metrics = super().validation_step(batch, batch_idx)
            return loss, {**metrics, name: 0.5}

    made = options(tmp_path, metrics={"exact F1": MulticlassF1Score(2)}, epochs=2)
    Finding(**made).execute(make_data(20), make_data(20))
    words = "warning: validation_step() returns f1, of which the mean over batches is taken"
    assert capsys.readouterr().out.count(words) == int(told)


def test_a_metric_that_saw_nothing_has_no_number(recwarn):
    epoch = EpochMetrics({"acc": accuracy(), "minmax": MinMaxMetric(accuracy())})
    epoch.reset()
    epoch.add(1.0, {}, 4)
    assert epoch.compute(NonDistributedStrategy()) == {"loss": 1.0}
    assert not recwarn.list


# -- what has no number for a name ---------------------------------------------------------------


def curve(prediction: torch.Tensor, target: torch.Tensor) -> Any:
    return BinaryROC()(prediction[:, 0], (target == 0).long())


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        (curve, "'m' (curve) gave a tuple of 3 tensors; expected a number, or a tensor, list or"),
        (MulticlassROC(3), "'m' (MulticlassROC) gave a tuple of 3; expected"),
        (MulticlassROC(3, thresholds=5), "(MulticlassROC) gave a tuple of 3 tensors; expected"),
        (lambda prediction, target: "good", "'m' (<lambda>) gave a str; expected"),
        (
            lambda prediction, target: {"a": "good"},
            "gave a dict whose 'a' is a str; expected",
        ),
        (lambda prediction, target: None, "'m' (<lambda>) gave None; expected"),
        (lambda prediction, target: {1, 2}, "'m' (<lambda>) gave a set; expected"),
        (lambda prediction, target: torch.tensor(1j), "gave a complex tensor of shape (); expec"),
        (lambda prediction, target: np.array("x"), "'m' (<lambda>) gave a ndarray; expected"),
    ],
)
def test_what_is_not_one_number_for_a_name_is_refused_at_once(metric, told):
    epoch = EpochMetrics({"m": metric})
    prediction, target = uneven_batches()[0]
    with pytest.raises(HookError) as caught:
        epoch.observe(target, prediction)
    assert told in str(caught.value)
    assert str(caught.value).startswith("metrics: 'm' (")


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        (accuracy(), "metrics: a MulticlassAccuracy; expected a dictionary of metrics by name, or"),
        ([accuracy()], "metrics: a list of 1; expected a dictionary"),
        ({"acc": "accuracy"}, "metrics: 'acc' is a str; expected a torchmetrics object or a func"),
        ({"acc": MulticlassAccuracy}, "metrics: 'acc' is the class MulticlassAccuracy; expected"),
        ({"loss": accuracy()}, "metrics: 'loss' is the name of the loss; take another one"),
        ({"loss_epoch": accuracy()}, "metrics: 'loss_epoch' is the name under which 'loss' is log"),
        ({"f_step": accuracy(), "f": accuracy()}, "metrics: 'f_step' is the name under which 'f'"),
    ],
)
def test_what_is_no_metric_is_refused_before_the_start(tmp_path, metrics, told):
    with pytest.raises(ConfigurationError) as caught:
        TorchTrainer(**options(tmp_path, metrics=metrics))
    assert str(caught.value).startswith(told)


def test_two_numbers_of_one_name_are_refused_at_once():
    epoch = EpochMetrics({"a": lambda p, t: {"b": 1.0}, "a_b": lambda p, t: 3.0})
    with pytest.raises(ConfigurationError, match="two of them give a number of the name 'a_b'"):
        epoch.observe(torch.ones(1), torch.ones(1))


# -- in a training -------------------------------------------------------------------------------


def parts_of_an_epoch(metrics: Any, between: Any) -> dict[str, float]:
    """The metrics of an epoch whose first two batches and whose last one ``between`` brings on."""
    batches, parts = uneven_batches(), [EpochMetrics(metrics) for _ in range(2)]
    for part, share in zip(parts, (batches[:2], batches[2:]), strict=True):
        part.reset()
        for prediction, target in share:
            part.add(None, part.observe(target, prediction), len(target))
    return between(EpochMetrics(metrics), *(part.state_dict() for part in parts))


@pytest.mark.parametrize(
    "metrics",
    [
        {"f1": f1(), "error": lambda p, t: (p.argmax(1) != t).float().mean()},
        MetricCollection({"acc": accuracy(average="none"), "matrix": MulticlassConfusionMatrix(3)}),
        {"classes": ClasswiseWrapper(accuracy(average="none"))},
    ],
)
def test_an_epoch_goes_on_from_what_it_has_seen_on_one_rank_or_several(metrics):
    def on_one(epoch: EpochMetrics, first: Any, last: Any) -> dict[str, float]:
        epoch.load_state_dicts([first])
        prediction, target = uneven_batches()[2]
        epoch.add(None, epoch.observe(target, prediction), len(target))
        return epoch.compute(NonDistributedStrategy())

    def on_several(epoch: EpochMetrics, first: Any, last: Any) -> dict[str, float]:
        epoch.load_state_dicts([first, last])
        return epoch.compute(NonDistributedStrategy())

    whole = an_epoch(metrics)
    assert parts_of_an_epoch(metrics, on_one) == whole
    assert parts_of_an_epoch(metrics, on_several) == pytest.approx(whole)


def test_a_metric_that_does_not_merge_is_named(caplog, monkeypatch):
    class Last(Metric):
        full_state_update = True

        def __init__(self) -> None:
            super().__init__()
            self.add_state("last", torch.tensor(0.0), dist_reduce_fx="max")

        def update(self, prediction: torch.Tensor, target: torch.Tensor) -> None:
            self.last = target[-1].float()

        def compute(self) -> torch.Tensor:
            return self.last

    def merged(epoch: EpochMetrics, first: Any, last: Any) -> dict[str, float]:
        epoch.load_state_dicts([first, last])
        return epoch.compute(NonDistributedStrategy())

    monkeypatch.setattr(itwinai.logger, "propagate", True)
    found = parts_of_an_epoch({"last": Last()}, merged)
    assert found == {"last": float(uneven_batches()[1][1][-1])}
    assert "metrics.last does not merge what several ranks have seen" in caplog.text


def test_a_training_with_a_collection(tmp_path):
    metrics = MetricCollection({"acc": MulticlassAccuracy(2), "f1": MulticlassF1Score(2)})
    trainer = TorchTrainer(**options(tmp_path, metrics=metrics, epochs=1, model=MLP))
    trainer.execute(make_data(20), make_data(20))
    names = {f"{stage}_{name}" for stage in ("train", "validation") for name in ("acc", "f1")}
    assert names <= set(trainer.epoch_metrics)
    assert not metrics["acc"].update_called


def test_a_curve_ends_a_training_at_its_first_batch(tmp_path):
    trainer = TorchTrainer(**options(tmp_path, metrics={"roc": MulticlassROC(2)}))
    with pytest.raises(HookError, match=r"metrics: 'roc' \(MulticlassROC\) gave a tuple of 3"):
        trainer.execute(make_data(20))
    assert trainer.train_glob_step == 0
