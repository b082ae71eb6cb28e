"""``itwinai sanity-check`` and ``check-distributed-cluster``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Annotated

import typer

CORE_MODULES = (
    "itwinai.components",
    "itwinai.pipeline",
    "itwinai.serialization",
    "itwinai.loggers",
)
TORCH_MODULES = (
    "itwinai.torch.trainer",
    "itwinai.torch.distributed",
    "itwinai.torch.inference",
    "itwinai.torch.ray.trainer",
    "itwinai.hpo.launch",
    "itwinai.hpo.engine.run",
)
OPTIONAL_MODULES = ("mlflow", "wandb", "tensorboard", "deepspeed", "jsonargparse")


def as_check_distributed_cluster(check: Callable[[], None]) -> Callable[..., None]:
    """Give what ``itwinai check`` does the options of ``check-distributed-cluster``."""

    def check_distributed_cluster(
        platform: Annotated[str, typer.Option(help="Ignored: devices are detected.")] = "nvidia",
        launcher: Annotated[str, typer.Option(help="Ignored: none is needed.")] = "torchrun",
    ) -> None:
        """The same as 'itwinai check', on this node: the name that it had in version 0.4."""
        check()

    return check_distributed_cluster


def sanity_check(
    torch: Annotated[bool, typer.Option("--torch", help="What PyTorch trainings need.")] = False,
    tensorflow: Annotated[bool, typer.Option("--tensorflow", help="Left out.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All of it.")] = False,
    optional: Annotated[
        bool, typer.Option("--optional-deps", help="Optional packages as well.")
    ] = False,
) -> None:
    """Import itwinai's modules; ends with code 1 if one cannot be imported.

    'itwinai check' does more: it tries them out.
    """
    essential = CORE_MODULES + (TORCH_MODULES if torch or everything else ())
    imported = [_imports(module, "FAILED") for module in essential]
    for module in OPTIONAL_MODULES if optional or everything else ():
        _imports(module, "")
    if tensorflow or everything:
        _show("", "tensorflow", "itwinai has nothing for it: left out")
    if not all(imported):
        raise typer.Exit(1)


def _imports(module: str, mark: str) -> bool:
    """Tell whether a module can be imported; the mark stands before one that cannot."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        _show(mark, module, str(error))
        return False
    _show("ok", module, "can be imported")
    return True


def _show(mark: str, name: str, value: str) -> None:
    typer.echo(f"  {mark:<7}{name:<16} {value}")
