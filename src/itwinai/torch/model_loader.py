"""Trained models from where they are kept: a checkpoint, a file of weights, MLflow, a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from itwinai.confidential import resolved
from itwinai.errors import CheckpointError, ConfigurationError, MissingPackageError
from itwinai.io.files import newest_complete
from itwinai.serialization import ModelLoader
from itwinai.torch.checkpoints import files as checkpoints
from itwinai.torch.config import Configuration
from itwinai.torch.optimization.factories import ModelFactory, build_model
from itwinai.utils import dynamically_import_class

_STUDY = "study:"
_MLFLOW = "mlflow+"
#: Schemes that MLflow reads itself.
_MLFLOW_SCHEMES = ("runs:", "models:", "mlflow-artifacts:")
#: In a study's folder.
_RECORD = "record.log"


class TorchModelLoader(ModelLoader):
    """Loads a PyTorch model when called, on the CPU and ready to predict.

    ``model_uri`` may be

    - a checkpoint's folder: the model is built with the configuration that is kept in it;
    - a ``.pt`` or ``.pth`` file with a state dictionary;
    - ``study:FOLDER``, or a study's folder: its best trial's checkpoint;
    - ``runs:/...``, ``models:/...`` or ``mlflow-artifacts:/...``, or ``mlflow+URI`` for any other
      place that MLflow reads.

    Nothing of a checkpoint, a file or a study is run as code. **MLflow is different**: it unpickles
    the model, which runs whatever its author put there. Load from MLflow only what you trust.

    Args:
        model_uri: Where the model is.
        model_class: What the weights are for: a module, a class or function that builds one from
            the configuration's keys of the same names as its parameters, or the dotted name of
            such a class or function. Not needed for a model from MLflow.
    """

    def __init__(
        self,
        model_uri: str | Path,
        model_class: nn.Module | ModelFactory | str | None = None,
    ) -> None:
        super().__init__(str(model_uri))
        self.update_parameters(model_class=model_class)
        self.model_class = model_class

    def __call__(self) -> nn.Module:
        """Return the model.

        Raises:
            CheckpointError: If there is no such model, it is damaged, it would run code, or it is
                not one of ``model_class``.
            ConfigurationError: If ``model_class`` is missing or lacks a value.
            MissingPackageError: If MLflow is needed and not installed.
        """
        uri = self.model_uri
        if uri.startswith(_MLFLOW_SCHEMES) or uri.startswith(_MLFLOW):
            return _from_mlflow(uri.removeprefix(_MLFLOW))
        path = Path(uri.removeprefix(_STUDY)).expanduser()
        if uri.startswith(_STUDY) or (path / _RECORD).is_file():
            path = _best_of_study(path)
        elif path.is_file() and not _is_of_checkpoint(path):
            return self._loaded(_state_of_file(path), {}, path)
        folder = path.parent if path.is_file() else newest_complete(path)
        if folder is None:
            raise CheckpointError(
                f"model_uri={uri!r}: there is nothing here. Give a checkpoint's folder, a .pt "
                "file, study:FOLDER, or a URI of MLflow (runs:/..., models:/...)."
            )
        return self._from_checkpoint(folder)

    def _from_checkpoint(self, folder: Path) -> nn.Module:
        from omegaconf import OmegaConf

        config = folder / checkpoints.CONFIG
        stored: Any = OmegaConf.to_container(OmegaConf.load(config)) if config.exists() else {}
        values = resolved(stored)
        shards = folder / checkpoints.SHARDS
        if not shards.is_dir():
            return self._loaded(checkpoints.load_model(folder), values, folder)
        from itwinai.torch.checkpoints import sharded

        checkpoints.check_files(folder)
        model = self._built(values)
        state = model.state_dict()
        sharded.read_model(shards, state)
        model.load_state_dict(state)
        return model.eval()

    def _loaded(self, state: Any, values: dict[str, Any], where: Path) -> nn.Module:
        model = self._built(values)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(
                f"{where}: the weights are not those of model_class={self.model_class!r}: {error}"
            ) from None
        return model.cpu().eval()

    def _built(self, values: dict[str, Any]) -> nn.Module:
        given = self.model_class
        if given is None:
            raise ConfigurationError(
                f"model_class: {self.model_uri} holds weights alone. Say what they are for, as in "
                "model_class=MyNetwork."
            )
        model = dynamically_import_class(given) if isinstance(given, str) else given
        return build_model(model, Configuration(**values))


def _best_of_study(folder: Path) -> Path:
    # Loaded here, because only this needs Optuna.
    from itwinai.torch.ray.prediction import best_checkpoint

    return best_checkpoint(folder)


def _from_mlflow(uri: str) -> nn.Module:
    try:
        from mlflow import pytorch
    except ImportError as error:
        raise MissingPackageError(
            f"model_uri={uri!r} needs mlflow ({error}): pip install 'itwinai[mlflow]'"
        ) from error
    model: nn.Module = pytorch.load_model(uri, map_location="cpu")
    return model


def _is_of_checkpoint(file: Path) -> bool:
    return file.name == checkpoints.MODEL and checkpoints.is_complete(file.parent)


def _state_of_file(path: Path) -> dict[str, Any]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - reading a foreign file may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: {_NO_WEIGHTS} ({reason})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: {_NO_WEIGHTS} (it holds a {type(content).__name__})")
    return content


_NO_WEIGHTS = (
    "not a state dictionary. A whole pickled module would run code when it is loaded, so it is "
    "refused; in the program that has it, write torch.save(model.state_dict(), FILE) instead, and "
    "give its class as model_class"
)
