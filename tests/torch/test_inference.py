"""Predictions: where a model comes from, and that each sample is predicted once, in order."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from ranks import run_ranks
from small_trainings import MLP, make_data, options
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence
from torch.utils.data import IterableDataset, TensorDataset

from itwinai.components import Adapter, Predictor
from itwinai.config.compose import build_pipeline
from itwinai.errors import CheckpointError, ConfigurationError
from itwinai.hpo.errors import StudyError
from itwinai.loggers import MLFlowLogger
from itwinai.pipeline import Pipeline
from itwinai.torch.inference import (
    MulticlassTorchPredictor,
    MultilabelTorchPredictor,
    PredictionSaver,
    RegressionTorchPredictor,
    TorchModelLoader,
    TorchPredictor,
    _share,
)
from itwinai.torch.trainer import RayTorchTrainer, TorchTrainer
from itwinai.torch.type import HookError

PROGRAM = Path(__file__).with_name("prediction_program.py")
CONFIG = {"batch_size": 4, "num_workers_dataloader": 0}


class Lines(IterableDataset[Any]):
    """Numbers that can only be read from front to back."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        return (torch.tensor([float(number)]) for number in range(self.count))


class Deep(nn.Module):
    """A network that another class's weights do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Linear(4, 3)


def same(model: nn.Module, other: nn.Module) -> bool:
    inputs = make_data(9).tensors[0]
    with torch.no_grad():
        return torch.equal(model(inputs), other(inputs))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A checkpoint of a network of width 5, and the trained model."""
    folder = tmp_path_factory.mktemp("trained")
    trainer = TorchTrainer(**options(folder, config={"width": 5}, epochs=1, checkpoint_every=1))
    *_, model = trainer.execute(make_data())
    return folder / "checkpoints" / "epoch_0", model.eval()


# -- where models come from ------------------------------------------------------------------------


@pytest.mark.parametrize("model_class", [MLP, partial(MLP), MLP(width=5), "small_trainings.MLP"])
@pytest.mark.parametrize("name", ["", "model.pt"])
def test_a_checkpoint_is_built_with_its_own_configuration(trained, name, model_class):
    checkpoint, model = trained
    loaded = TorchModelLoader(checkpoint / name, model_class)()
    assert same(loaded, model)
    assert not loaded.training


class Clipped(nn.Linear):
    def __init__(self, limit: float) -> None:
        super().__init__(4, 2)
        self.limit = limit


def test_an_infinite_number_of_the_configuration_is_one_again(tmp_path):
    config = {"limit": float("inf")}
    TorchTrainer(
        **options(tmp_path, config=config, epochs=1, checkpoint_every=1, model=Clipped)
    ).execute(make_data())
    assert TorchModelLoader(tmp_path / "checkpoints" / "epoch_0", Clipped)().limit == math.inf


def test_a_file_of_weights(trained, tmp_path):
    _, model = trained
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    OmegaConf.save({"width": 99}, tmp_path / "config.yaml")  # of something else
    assert same(TorchModelLoader(tmp_path / "weights.pth", partial(MLP, width=5))(), model)


def test_a_checkpoint_in_shards(tmp_path):
    trainer = TorchTrainer(
        **options(tmp_path, epochs=1, checkpoint_every=1, checkpoint_sharded=True)
    )
    *_, model = trainer.execute(make_data())
    checkpoint = tmp_path / "checkpoints" / "epoch_0"
    assert not (checkpoint / "model.pt").exists()
    assert same(TorchModelLoader(checkpoint, MLP)(), model.eval())


@pytest.mark.parametrize("content", [MLP(), [1, 2]])
def test_a_file_that_is_no_state_dictionary_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model.pt: .*write torch.save\(model.state_dict"):
        TorchModelLoader(tmp_path / "model.pt", MLP)()


def test_a_pickled_module_is_not_run(tmp_path):
    torch.save(Mine(tmp_path / "was-run"), tmp_path / "model.pt")
    with pytest.raises(CheckpointError):
        TorchModelLoader(tmp_path / "model.pt", MLP)()
    assert not (tmp_path / "was-run").exists()


class Mine:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_weights_of_another_class_are_refused(trained):
    with pytest.raises(CheckpointError, match="not those of model_class"):
        TorchModelLoader(trained[0], Deep)()


def test_weights_without_a_class_are_refused(trained):
    with pytest.raises(ConfigurationError, match=r"model_class: .* holds weights alone"):
        TorchModelLoader(trained[0])()


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is nothing here\. Give a checkpoint"):
        TorchModelLoader(tmp_path / "nothing", MLP)()
    with pytest.raises(StudyError, match="no such record"):
        TorchModelLoader(f"study:{tmp_path}", MLP)()


def test_a_damaged_checkpoint_is_refused(trained, tmp_path):
    for file in trained[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.pt").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match="cut off"):
        TorchModelLoader(tmp_path, MLP)()


@pytest.mark.parametrize("prefix", ["runs:/{run}/net", "mlflow+{store}/{run}/artifacts/net"])
def test_a_model_from_mlflow(tmp_path, monkeypatch, prefix):
    pytest.importorskip("mlflow")
    logger = MLFlowLogger(savedir=tmp_path)
    model = MLP()
    with logger.start_logging():
        logger.log(model, "net", kind="model")
        store = f"{logger.tracking_uri}/{logger.experiment_id}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", logger.tracking_uri)
    uri = prefix.format(run=logger.run_id, store=store)
    loaded = TorchModelLoader(uri)()
    assert same(loaded, model.eval())
    predictions = MulticlassTorchPredictor(loaded, CONFIG).execute(make_data(9))
    assert len(predictions) == 9


@pytest.mark.parametrize("prefix", ["study:", ""])
def test_the_best_trial_of_a_study(study: RayTorchTrainer, prefix):
    best = study.study_result.best
    loaded = TorchModelLoader(f"{prefix}{study.study_result.record.parent}", MLP)()
    weights = torch.load(best.checkpoint / "model.pt", weights_only=True)
    assert loaded.layers[0].out_features == best.params["width"]
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RayTorchTrainer:
    folder = tmp_path_factory.mktemp("study")
    trainer = RayTorchTrainer(
        **options(folder, epochs=1),
        search_space={"width": {"type": "choice", "categories": [3, 5]}},
        study={"storage_path": folder, "mode": "min", "num_samples": 2},
    )
    trainer.execute(make_data(), make_data(20, seed=8))
    return trainer


def test_a_loader_can_be_written_down():
    loader = TorchModelLoader("checkpoints/best_model", "small_trainings.MLP")
    assert loader.to_dict() == {
        "_target_": "itwinai.torch.model_loader.TorchModelLoader",
        "model_uri": "checkpoints/best_model",
        "model_class": "small_trainings.MLP",
    }


# -- one process -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("dataset", [TensorDataset(torch.arange(11.0).unsqueeze(1)), Lines(11)])
def test_each_sample_has_its_prediction(dataset, workers):
    config = {**CONFIG, "num_workers_dataloader": workers}
    predictions = TorchPredictor(nn.Identity(), config).execute(dataset)
    assert [float(prediction) for prediction in predictions] == list(range(11))


def test_targets_beside_the_inputs_are_left_alone():
    inputs, _ = make_data(9).tensors
    model = MLP()
    expected = model(inputs).argmax(1).tolist()
    assert MulticlassTorchPredictor(model, CONFIG).execute(make_data(9)) == expected


@pytest.mark.parametrize(
    ("predictor", "expected"),
    [
        (TorchPredictor, [[0.25, 2.0], [0.75, -1.0], [0.5, 0.0]]),
        (MulticlassTorchPredictor, [1, 0, 0]),
        (MultilabelTorchPredictor, [[0, 1], [1, 0], [0, 0]]),
        (partial(MultilabelTorchPredictor, threshold=0.0), [[1, 1], [1, 0], [1, 0]]),
        (RegressionTorchPredictor, [[0.25, 2.0], [0.75, -1.0], [0.5, 0.0]]),
    ],
)
def test_what_outputs_become(predictor, expected):
    outputs = torch.tensor([[0.25, 2.0], [0.75, -1.0], [0.5, 0.0]])
    predictions = predictor(nn.Identity(), CONFIG).execute(TensorDataset(outputs))
    plain = [p.tolist() if isinstance(p, torch.Tensor) else p for p in predictions]
    assert plain == expected


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_a_single_output_is_a_number(shape):
    outputs = torch.arange(5.0).reshape(shape)
    predictor = RegressionTorchPredictor(nn.Identity(), CONFIG)
    assert predictor.execute(TensorDataset(outputs)) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_one_output_is_no_choice_of_classes():
    with pytest.raises(HookError, match=r"one output, .* Use MultilabelTorchPredictor"):
        MulticlassTorchPredictor(nn.Identity(), CONFIG).execute(TensorDataset(torch.rand(5, 1)))


@pytest.mark.parametrize("predictor", [MulticlassTorchPredictor, MultilabelTorchPredictor])
def test_classes_of_what_is_no_number_are_told_once(predictor, capsys):
    outputs = torch.rand(40, 3)
    predictor(nn.Identity(), CONFIG).execute(TensorDataset(outputs))
    assert "warning" not in capsys.readouterr().out
    outputs[7:, 1] = float("nan")
    assert len(predictor(nn.Identity(), CONFIG).execute(TensorDataset(outputs))) == 40
    assert capsys.readouterr().out.count("the model gives NaN for some samples") == 1


def test_the_model_predicts_in_evaluation_mode_and_is_left_as_it_was():
    model = nn.Dropout(0.5).train()
    predictor = RegressionTorchPredictor(model, CONFIG)
    assert predictor.execute(TensorDataset(torch.ones(5))) == [1.0] * 5
    assert model.training


def test_a_layer_that_is_frozen_in_evaluation_mode_stays_so():
    model = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1)).train()
    model[0].eval()
    RegressionTorchPredictor(model, CONFIG).execute(TensorDataset(torch.ones(5, 1)))
    assert [module.training for module in model.modules()] == [True, False, True]


class Squeezing(nn.Module):
    """Drops the dimension of a batch of one sample."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.squeeze(0)


def test_a_model_that_drops_the_dimension_of_a_batch_is_refused():
    five = TensorDataset(torch.ones(5, 3))  # the last batch has one sample
    with pytest.raises(HookError, match="returned 3 predictions for a batch of 1; expected one"):
        TorchPredictor(Squeezing(), CONFIG).execute(five)


def test_the_model_may_come_with_the_data(trained):
    checkpoint, model = trained
    loader = TorchModelLoader(checkpoint, MLP)
    expected = MulticlassTorchPredictor(model, CONFIG).execute(make_data(9))
    predictor = MulticlassTorchPredictor(config=CONFIG)
    assert isinstance(predictor, Predictor)
    assert predictor.execute(make_data(9), model) == expected
    assert predictor.execute(make_data(9), loader) == expected
    with pytest.raises(ConfigurationError, match=r"'MulticlassTorchPredictor', model: .* not None"):
        predictor.execute(make_data(9))


def test_an_exported_model_has_one_mode_only():
    exported = torch.export.export(nn.Linear(1, 1), (torch.ones(4, 1),)).module()
    predictions = RegressionTorchPredictor(exported, CONFIG).execute(
        TensorDataset(torch.ones(4, 1))
    )
    assert len(predictions) == 4


class Forces(nn.Module):
    """What it predicts is a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Linear(1, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            places = inputs.detach().requires_grad_()
            energy = self.energy(places.square()).sum()
            return torch.autograd.grad(energy, places)[0]


def test_a_model_may_need_gradients_to_predict():
    data, model = TensorDataset(torch.arange(9.0).unsqueeze(1)), Forces()
    expected = (2 * model.energy.weight.item() * data.tensors[0]).flatten().tolist()
    assert RegressionTorchPredictor(model, CONFIG).execute(data) == pytest.approx(expected)


class Summing(nn.Module):
    """Sums each of some packed sequences."""

    def forward(self, packed: PackedSequence) -> torch.Tensor:
        return pad_packed_sequence(packed, batch_first=True)[0].sum(1)


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_of_various_lengths(workers):
    class OfSequences(RegressionTorchPredictor):
        def collate(self, samples: list[Any]) -> Any:
            return pack_sequence(samples, enforce_sorted=False)

    data = [torch.ones(length) for length in (3, 1, 4, 1, 5, 9)]
    config = {**CONFIG, "num_workers_dataloader": workers}
    assert OfSequences(Summing(), config).execute(data) == [3, 1, 4, 1, 5, 9]


def test_an_own_step_and_an_own_transformation():
    class Mine(TorchPredictor):
        def predict_step(self, model, batch, batch_idx):
            return model(batch["x"]), batch["name"]

        def transform_predictions(self, outputs):
            return list(zip(outputs[1], outputs[0].tolist(), strict=True))

    samples = [{"x": torch.tensor(float(i)), "name": f"n{i}"} for i in range(6)]
    assert Mine(nn.Identity(), CONFIG).execute(samples) == [(f"n{i}", float(i)) for i in range(6)]


# -- a pipeline ------------------------------------------------------------------------------------


def test_a_pipeline_in_yaml_predicts_and_saves(trained, tmp_path):
    predictor = {
        "_target_": "itwinai.torch.inference.MulticlassTorchPredictor",
        "config": CONFIG,
        "model": {
            "_target_": "itwinai.torch.inference.TorchModelLoader",
            "model_uri": str(trained[0]),
            "model_class": "small_trainings.MLP",
        },
    }
    saver = {
        "_target_": "itwinai.torch.inference.PredictionSaver",
        "path": str(tmp_path / "out" / "predictions.csv"),
    }
    pipeline = {"_target_": "itwinai.pipeline.Pipeline", "steps": [predictor, saver]}
    config = OmegaConf.create({"inference_pipeline": pipeline, "pipe_key": "inference_pipeline"})
    predictions = build_pipeline(config).execute(make_data(9))
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sample"]) for row in rows] == list(range(9))
    assert [int(row["prediction"]) for row in rows] == predictions
    assert predictions == trained[1](make_data(9).tensors[0]).argmax(1).tolist()


def test_a_pipeline_predicts_with_the_model_that_it_has_just_trained(tmp_path):
    """Not with what an earlier run has left in the same place; the first run finds nothing."""
    validation, data = Adapter(["INPUT_ARG#1"]), make_data(32, seed=8)
    for seed in (1, 2):
        trainer = TorchTrainer(**options(tmp_path, epochs=1, random_seed=seed))
        loader = TorchModelLoader(tmp_path / "checkpoints" / "best_model", MLP)
        predictor = MulticlassTorchPredictor(loader, CONFIG)
        predictions = Pipeline([trainer, validation, predictor]).execute(make_data(), data)
        assert predictions == loader()(data.tensors[0]).argmax(1).tolist()


def test_predictions_of_several_values_have_a_column_each(tmp_path):
    saver = PredictionSaver(tmp_path / "p.csv")
    saver.execute([torch.tensor([0.5, 1.0]), np.array([2, 3])])
    text = (tmp_path / "p.csv").read_text()
    assert text == "sample,prediction_0,prediction_1\n0,0.5,1.0\n1,2,3\n"
    with pytest.raises(ConfigurationError, match=r"rows of one length, not \[1, 2\]"):
        saver.execute([1, [2, 3]])
    assert (tmp_path / "p.csv").read_text() == text


# -- several processes -----------------------------------------------------------------------------


def run_two(folder: Path, kind: str, samples: int) -> None:
    run_ranks(PROGRAM, kind, str(samples), str(folder))


def of_ranks(folder: Path, name: str) -> list[Any]:
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize(
    ("kind", "samples"),
    [
        ("indexed", 23),
        ("indexed", 1),
        ("iterable", 23),
        ("shuffled", 23),
        ("trained", 23),
    ],
)
def test_two_processes_predict_each_sample_once_in_order(tmp_path, kind, samples):
    run_two(tmp_path, kind, samples)
    numbers = [float(number) for number in range(samples)]
    assert of_ranks(tmp_path, "rank") == [numbers, numbers]
    if kind != "indexed":
        return
    assert of_ranks(tmp_path, "seen") == [numbers[0::2], numbers[1::2]]
    assert (tmp_path / "saved.csv").read_text().splitlines() == [
        "sample,prediction",
        *(f"{number},{float(number)}" for number in range(samples)),
    ]


def test_a_data_set_of_unknown_order_is_refused_by_several_processes():
    lines = Lines(3)
    lines.deals_itself_out = True
    with pytest.raises(ConfigurationError, match="predict_dataset: Lines deals itself out"):
        _share(lines, 0, 2, 0)
    assert _share(lines, 0, 1, 0) is lines
