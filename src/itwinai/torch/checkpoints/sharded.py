"""State that every rank writes its own part of, and the way back to one file.

The files are those of ``torch.distributed.checkpoint``. What they hold does not depend on the
strategy that wrote them, nor on the number of processes: each tensor of the model and of the
optimizer is whole, under a name of its own, in however many pieces. Reading runs no code.

Loading this module takes half a second: import it where shards are written or read.
"""

from __future__ import annotations

import enum
import io
import pickle
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from itwinai.errors import CheckpointError

_METADATA = ".metadata"
#: State of an optimizer that is not there.
NO_OPTIMIZER: Mapping[str, Any] = {"state": {}, "param_groups": []}
#: Everything that is no tensor, under one name.
_PLAIN = "plain"


def write_shards(
    folder: str | Path,
    model: Mapping[str, Any],
    optimizer: Mapping[str, Any],
    names: Iterable[str] | None = None,
    of_first: Iterable[str] = (),
) -> None:
    """Write this rank's part; all ranks call it.

    Args:
        folder: The same on all ranks; made if need be.
        model: State dictionary. Of a ``DTensor`` each rank writes its part, and of a tensor that
            several ranks hold one of them writes it.
        optimizer: State dictionary, by number of the parameter.
        names: All names of the model's state, where a rank holds only some; None: ``model``'s.
        of_first: Names of tensors that each rank has otherwise, such as the statistics of its own
            batches; those of rank 0 are written.
    """
    left = set(of_first) if dist.is_initialized() and dist.get_rank() > 0 else set()
    whole = {k: v for k, v in model.items() if isinstance(v, torch.Tensor)}
    tensors = {f"model/{k}": v for k, v in whole.items() if k not in left}
    tensors |= {
        f"optimizer/{number}/{key}": value
        for number, values in optimizer["state"].items()
        for key, value in values.items()
        if isinstance(value, torch.Tensor)
    }
    plain = {
        "names": list(model if names is None else names),
        "model": _without_tensors(model),
        "state": {k: _without_tensors(v) for k, v in optimizer["state"].items()},
        "param_groups": optimizer["param_groups"],
    }
    with _quiet():
        save(
            {**tensors, _PLAIN: plain},
            storage_writer=FileSystemWriter(folder),
            planner=DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
            no_dist=not dist.is_initialized(),
        )


def _without_tensors(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not isinstance(value, torch.Tensor)}


def read_model(folder: Path, state: dict[str, Any]) -> None:
    """Fill a model's state dictionary, tensors in place, each rank its part.

    Args:
        folder: As of :func:`write_shards`.
        state: The dictionary to fill.

    Raises:
        RuntimeError: If the model is another one.
        CheckpointError: If the files are incomplete or damaged.
    """
    shards = _Shards(folder)
    names = set(shards.plain["names"])
    if names != state.keys():
        missing, unexpected = sorted(state.keys() - names), sorted(names - state.keys())
        raise RuntimeError(f"{folder}: missing in it: {missing}; not in the model: {unexpected}")
    for name, value in state.items():
        found = shards.tensors.get(f"model/{name}")
        if found is not None and found.size != value.shape:
            raise RuntimeError(
                f"{folder}: {name} has shape {tuple(found.size)}, the model's {tuple(value.shape)}"
            )
    shards.fill({f"model/{k}": v for k, v in state.items() if isinstance(v, torch.Tensor)})
    state.update(shards.plain["model"])


def read_optimizer(folder: Path, parameters: Sequence[torch.Tensor]) -> dict[str, Any]:
    """Return an optimizer's state dictionary, each rank its part.

    Args:
        folder: As of :func:`write_shards`.
        parameters: The optimizer's; where they are in parts, so are the tensors of the result.

    Raises:
        CheckpointError: If the files are incomplete or damaged.
    """
    shards = _Shards(folder)
    tensors = {}
    for name, found in shards.tensors.items():
        if name.startswith("optimizer/"):
            parameter = parameters[int(name.split("/")[1])]
            dtype = found.properties.dtype
            tensors[name] = (
                torch.zeros_like(parameter, dtype=dtype)
                if parameter.shape == found.size
                else torch.zeros(found.size, dtype=dtype)
            )
    shards.fill(tensors)
    return shards.optimizer_state(tensors)


def merge_shards(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bring the parts together: plain state dictionaries of model and optimizer.

    One process does it, with no process group, whatever wrote them.

    Raises:
        CheckpointError: If the files are incomplete or damaged.
    """
    shards = _Shards(Path(folder))
    tensors = {
        name: torch.zeros(found.size, dtype=found.properties.dtype)
        for name, found in shards.tensors.items()
    }
    shards.fill(tensors)
    plain = shards.plain
    model = {n: plain["model"].get(n, tensors.get(f"model/{n}")) for n in plain["names"]}
    return model, shards.optimizer_state(tensors)


class _Shards:
    """A folder of shards, open for reading."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reader = _Reader(folder)
        self.tensors: dict[str, TensorStorageMetadata] = {
            name: found
            for name, found in self._reader.read_metadata().state_dict_metadata.items()
            if isinstance(found, TensorStorageMetadata)
        }
        self.plain: dict[str, Any] = self.fill({_PLAIN: None})[_PLAIN]

    def fill(self, state: dict[str, Any]) -> dict[str, Any]:
        """Read the entries of a dictionary, tensors in place."""
        if not state:
            return state
        try:
            with _quiet():
                load(state, storage_reader=self._reader, planner=_PlainPlanner(), no_dist=True)
        except (CheckpointException, OSError) as error:
            raise CheckpointError(_damaged(self._folder, error)) from None
        return state

    def optimizer_state(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The optimizer's state dictionary, with these tensors in it."""
        state = {number: dict(values) for number, values in self.plain["state"].items()}
        for name, value in tensors.items():
            if name.startswith("optimizer/"):
                _, number, key = name.split("/", 2)
                state.setdefault(int(number), {})[key] = value
        ordered = {number: state[number] for number in sorted(state)}
        return {"state": ordered, "param_groups": self.plain["param_groups"]}


class _PlainPlanner(DefaultLoadPlanner):
    """Reads tensors and plain values only."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Read a value that is no tensor, without running any code."""
        self.state_dict[read_item.dest_index.fqn] = torch.load(value, weights_only=True)


class _Reader(FileSystemReader):
    """Reads the index of a folder without running any code."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Read the index.

        Raises:
            CheckpointError: If it is missing, damaged, or would run code.
        """
        try:
            with (self._folder / _METADATA).open("rb") as file:
                metadata: Metadata = _IndexUnpickler(file).load()
        except FileNotFoundError:
            raise CheckpointError(f"{self._folder}: there are no shards here") from None
        except (pickle.UnpicklingError, EOFError, AttributeError, ValueError) as error:
            raise CheckpointError(_damaged(self._folder, error)) from None
        return metadata


class _IndexUnpickler(pickle.Unpickler):
    """Knows the classes of an index, and no others."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the classes.

        Raises:
            UnpicklingError: For any other.
        """
        is_index = module in (
            "torch.distributed.checkpoint.metadata",
            "torch.distributed.checkpoint.filesystem",
        )
        found = super().find_class(module, name) if is_index or module == "torch" else None
        if is_index and isinstance(found, type) and found.__module__ == module:
            return found
        if found is torch.Size or isinstance(found, torch.dtype):
            return found
        if (module, name) == ("torch.serialization", "_get_layout"):
            return super().find_class(module, name)
        if module.split(".")[0] == "pathlib" and name in ("PosixPath", "WindowsPath"):
            return PurePath
        if (module, name) == ("builtins", "getattr"):
            return _member
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in it")


def _member(kind: Any, name: str) -> Any:
    """The member of an enumeration, which some versions of Python pickle as an attribute."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum) and name in kind.__members__:
        return kind[name]
    raise pickle.UnpicklingError(f"{kind}.{name} does not belong in it")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that a single process is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _damaged(folder: Path, error: BaseException) -> str:
    return f"{folder}: not whole shards of a checkpoint ({str(error).splitlines()[0]})"
