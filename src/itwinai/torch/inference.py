"""Predictions of a trained model, by one process or by several."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

import itwinai
from itwinai.components import Predictor, Saver, monitor_exec
from itwinai.distributed import detect_distributed_environment
from itwinai.errors import ConfigurationError
from itwinai.io.files import write_text
from itwinai.serialization import ModelLoader
from itwinai.torch.config import TrainingConfiguration, read_configuration
from itwinai.torch.data import is_iterable, to_device
from itwinai.torch.model_loader import TorchModelLoader
from itwinai.torch.strategies import TorchDistributedStrategy, check_strategy, resolve_strategy
from itwinai.torch.streams import RankShare, rest_given
from itwinai.torch.training.evaluating import modes_kept
from itwinai.torch.type import Batch, HookError

__all__ = [
    "MulticlassTorchPredictor",
    "MultilabelTorchPredictor",
    "PredictionSaver",
    "RegressionTorchPredictor",
    "TorchModelLoader",
    "TorchPredictor",
]


class TorchPredictor(Predictor):
    """Predicts each sample of a data set, batch by batch.

    Where several processes run together, each predicts its share. All of them return all
    predictions, in the order of the data set, with no sample lost or counted twice.

    A subclass may override :meth:`collate`, :meth:`predict_step` and
    :meth:`transform_predictions`.

    Args:
        model: A module, or a :class:`TorchModelLoader`, which loads it anew in each ``execute``;
            None: ``execute`` is given one.
        config: A mapping or a :class:`TrainingConfiguration`; ``batch_size``,
            ``num_workers_dataloader``, ``pin_gpu_memory`` and ``dist_backend`` are read.
        strategy: How the processes meet, as of :class:`TorchTrainer`; each holds the whole model.
        name: Name in messages.

    Raises:
        ConfigurationError: For a wrong value in ``config``, or an unknown strategy.
    """

    #: Whether a NaN among the outputs was told.
    _told_unknown = False

    def __init__(
        self,
        model: nn.Module | ModelLoader | None = None,
        config: Mapping[str, Any] | TrainingConfiguration | None = None,
        strategy: str | TorchDistributedStrategy | None = "ddp",
        name: str | None = None,
    ) -> None:
        super().__init__(model, name)
        self.save_parameters(**self.locals2params(locals()))
        check_strategy(strategy)
        self.config = read_configuration(config)
        self.strategy = strategy

    @monitor_exec
    def execute(
        self, predict_dataset: Dataset[Any], model: nn.Module | ModelLoader | None = None
    ) -> list[Any]:
        """Return one prediction per sample, in the order of the data set.

        Args:
            predict_dataset: Its samples are inputs, or tuples of which the first item is the input.
            model: Used instead of the constructor's.

        Raises:
            ConfigurationError: If there is no model, or several processes cannot share the data.
        """
        chosen = self._model(model)
        strategy = resolve_strategy(self.strategy, self.config)
        strategy.init()
        try:
            own = self._predict(strategy, predict_dataset, chosen)
            return _dealt_back(strategy.allgather_obj(own))
        finally:
            strategy.clean_up()

    def collate(self, samples: list[Any]) -> Batch:
        """Make a batch of samples; override it where their tensors have various shapes."""
        return default_collate(samples)

    def predict_step(self, model: nn.Module, batch: Batch, batch_idx: int) -> Any:
        """Return the model's outputs for a batch, which is on the model's device already."""
        is_pair = isinstance(batch, list | tuple) and not isinstance(batch, PackedSequence)
        return model(batch[0] if is_pair else batch)

    def transform_predictions(self, outputs: Any) -> list[Any]:
        """Turn the outputs of a batch into one prediction per sample."""
        return [output.clone() for output in outputs.cpu()]

    def _model(self, given: Any) -> nn.Module:
        model = self._source if given is None else given
        model = model() if isinstance(model, ModelLoader) else model
        if not isinstance(model, nn.Module):
            raise ConfigurationError(
                f"'{self.name}', model: a trained torch.nn.Module is needed, not {model!r}. Pass "
                "one, or an itwinai.torch.inference.TorchModelLoader."
            )
        return model

    def _predict(
        self, strategy: TorchDistributedStrategy, dataset: Dataset[Any], model: nn.Module
    ) -> list[Any]:
        device = strategy.device()
        seed = strategy.broadcast_obj(torch.initial_seed(), 0)
        share = _share(dataset, strategy.global_rank(), strategy.global_world_size(), seed)
        loader = self._loader(share)
        model = model.to(device)
        predictions: list[Any] = []
        with _evaluated(model), torch.no_grad(), rest_given(loader):
            for index, (samples, batch) in enumerate(loader):
                outputs = self.predict_step(model, to_device(batch, device), index)
                predictions += self._one_for_each(samples, self.transform_predictions(outputs))
        return predictions

    def _one_for_each(self, samples: int, predictions: Sized) -> Any:
        """The predictions of a batch.

        Raises:
            HookError: If they are not one per sample: a model that drops the dimension of the batch
                where it has one sample gives as many as it has outputs.
        """
        if len(predictions) != samples:
            raise HookError(
                f"'{self.name}': transform_predictions() returned {len(predictions)} predictions "
                f"for a batch of {samples}; expected one for each sample. Do the model's outputs "
                "keep the dimension of the batch, also where it has one sample?"
            )
        return predictions

    def _tell_unknown(self, outputs: torch.Tensor) -> None:
        """Say once that outputs are not numbers, which the classes made of them do not show."""
        if not self._told_unknown and bool(outputs.isnan().any()):
            self._told_unknown = True
            itwinai.logger.warning(
                "warning: '%s': the model gives NaN for some samples, so their classes mean "
                "nothing. Has its training diverged, or do their inputs hold NaN?",
                self.name,
            )

    def _loader(self, share: Dataset[Any]) -> DataLoader[Any]:
        workers = self.config.num_workers_dataloader
        return DataLoader(
            share,
            batch_size=self.config.batch_size,
            collate_fn=partial(_counted, self.collate),
            # Several loading processes would mix the order of what is read from front to back.
            num_workers=min(workers, 1) if is_iterable(share) else workers,
            pin_memory=self.config.pin_gpu_memory,
        )


class MulticlassTorchPredictor(TorchPredictor):
    """Predicts the number of the class with the largest output."""

    def transform_predictions(self, outputs: Any) -> list[Any]:
        """One whole number per sample.

        Raises:
            HookError: If there is one output, which would always be the largest.
        """
        if outputs.shape[1:2] == (1,):
            raise HookError(
                f"'{self.name}': the model has one output, and so there is one class alone. Use "
                "MultilabelTorchPredictor, which compares it with a threshold."
            )
        self._tell_unknown(outputs)
        return cast("list[Any]", outputs.argmax(dim=1).tolist())


class MultilabelTorchPredictor(TorchPredictor):
    """Predicts for each label whether it applies: 1 where the output is above a threshold.

    Args:
        model: As of :class:`TorchPredictor`.
        config: As of :class:`TorchPredictor`.
        strategy: As of :class:`TorchPredictor`.
        name: Name in messages.
        threshold: 0.5 suits outputs that are probabilities; 0.0 suits logits.
    """

    def __init__(
        self,
        model: nn.Module | ModelLoader | None = None,
        config: Mapping[str, Any] | TrainingConfiguration | None = None,
        strategy: str | TorchDistributedStrategy | None = "ddp",
        name: str | None = None,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(model, config, strategy, name)
        self.update_parameters(threshold=threshold)
        self.threshold = threshold

    def transform_predictions(self, outputs: Any) -> list[Any]:
        """One list of zeros and ones per sample."""
        self._tell_unknown(outputs)
        return cast("list[Any]", (outputs > self.threshold).int().tolist())


class RegressionTorchPredictor(TorchPredictor):
    """Predicts numbers: one per sample, or a list of them where the model has several outputs."""

    def transform_predictions(self, outputs: Any) -> list[Any]:
        """One number, or one list of numbers, per sample."""
        single = outputs.ndim == 2 and outputs.shape[1] == 1
        return cast("list[Any]", (outputs.squeeze(1) if single else outputs).tolist())


class PredictionSaver(Saver):
    """Writes predictions to a CSV file: one row per sample, with its number in the data set.

    Where several processes run together, the first one writes.

    Args:
        path: The file; replaced if it exists.
        name: Name in messages.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        super().__init__(name)
        self.save_parameters(path=str(path), name=name)
        self.path = Path(path)

    @monitor_exec
    def execute(self, artifact: list[Any]) -> list[Any]:
        """Write the predictions, and return them."""
        if detect_distributed_environment().global_rank == 0:
            write_text(self.path, _as_csv(artifact))
        return artifact


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a block; an exported one has no other mode."""
    with modes_kept([model]):
        with suppress(NotImplementedError):
            model.eval()
        yield


def _counted(collate: Callable[[list[Any]], Batch], samples: list[Any]) -> tuple[int, Batch]:
    """A batch, with the number of its samples."""
    return len(samples), collate(samples)


def _share(dataset: Any, rank: int, world_size: int, seed: int) -> Dataset[Any]:
    """Part of a data set that one process predicts; :func:`_dealt_back` is the way back."""
    if world_size == 1:
        return cast("Dataset[Any]", dataset)
    if not is_iterable(dataset):
        return Subset(dataset, range(rank, len(dataset), world_size))
    if getattr(dataset, "deals_itself_out", False):
        raise ConfigurationError(
            f"predict_dataset: {type(dataset).__name__} deals itself out, so its order is unknown "
            "to several processes. Predict with one process, or give a plain data set."
        )
    return RankShare(dataset, rank, world_size, seed)


def _dealt_back(parts: list[list[Any]]) -> list[Any]:
    """Put what each process predicted back into the order of the data set."""
    merged: list[Any] = [None] * sum(map(len, parts))
    for rank, part in enumerate(parts):
        merged[rank :: len(parts)] = part
    return merged


def _as_csv(predictions: list[Any]) -> str:
    rows = [_values(prediction) for prediction in predictions]
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise ConfigurationError(
            f"predictions: a table needs rows of one length, not {sorted(widths)}. Override "
            "transform_predictions() of the predictor, or write a Saver of your own."
        )
    width = widths.pop() if widths else 1
    names = ["prediction"] if width == 1 else [f"prediction_{i}" for i in range(width)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sample", *names])
    writer.writerows([number, *row] for number, row in enumerate(rows))
    return text.getvalue()


def _values(prediction: Any) -> list[Any]:
    if isinstance(prediction, torch.Tensor | np.ndarray):
        prediction = prediction.flatten().tolist()
    return list(prediction) if isinstance(prediction, list | tuple) else [prediction]
