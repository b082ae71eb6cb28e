"""``itwinai hpo plan``, and ``run --plan``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itwinai.cli.exec_pipeline import with_configurations
from itwinai.cli.exits import clean_exit
from itwinai.cli.hpo.opening import data_from
from itwinai.cli.hpo.options import AsJson
from itwinai.cli.output import messages_aside, write_json

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from itwinai.cli.kept import KeptPipeline
    from itwinai.hpo.planning import PlannedCost

_TIME = re.compile(r"(?:(\d+):)?(\d+):(\d+)")


@clean_exit()
def plan_command(
    context: typer.Context,
    epoch_seconds: Annotated[
        float | None,
        typer.Option(metavar="S", help="Seconds of an epoch of the default configuration."),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Train two epochs of it here, to measure them.")
    ] = False,
    like: Annotated[
        Path | None,
        typer.Option(metavar="STUDY", help="Folder of an earlier study that tells them."),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="What a job may take, in seconds or as HH:MM:SS."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what the study of a pipeline will cost; the other options are those of 'run'.

    The steps before the trainer run, because the plan looks at the data; nothing is trained unless
    --probe allows it.
    """
    from itwinai.cli.hpo.functions import is_function

    if is_function(context.args):
        raise typer.BadParameter(
            f"this plans pipelines; of a function: itwinai hpo run {context.args[0]} ... --plan"
        )
    seconds = None if limit is None else _seconds(limit)
    known = {"epoch_seconds": epoch_seconds, "probe": probe, "like": like, "limit": seconds}
    plan_pipelines(context.args, as_json, **known)


def plan_pipelines(args: list[str], as_json: bool, **known: Any) -> None:
    """Show what the study of a pipeline will cost; the arguments are Hydra's.

    Args:
        args: The arguments.
        as_json: Whether to write one JSON document.
        **known: What a trainer's ``plan`` is told, such as ``epoch_seconds``.
    """
    from itwinai.cli.kept import up_to_study

    def plan(cfg: DictConfig, allowed: tuple[str, ...]) -> PlannedCost:
        *earlier, trainer = up_to_study(cfg, allowed)
        cost: PlannedCost = trainer.plan(*data_from(earlier), **known)
        return cost

    with messages_aside(True):  # of the steps before the trainer
        costs = with_configurations(args, plan)
    show_plans(costs, as_json)


def plan_of(kept: KeptPipeline) -> PlannedCost:
    """Return what the study of a pipeline will cost."""
    with messages_aside(True), kept.in_place() as here:
        *earlier, trainer = here.build_steps()
        cost: PlannedCost = trainer.plan(*data_from(earlier))
    return cost


def show_plans(costs: list[PlannedCost], as_json: bool) -> None:
    """Show what studies will cost."""
    from itwinai.hpo.display import show

    if as_json:
        write_json({"plans": [cost.plain() for cost in costs]})
    else:
        show(*(cost.__rich__() for cost in costs))


def _seconds(text: str) -> float:
    """Read seconds, or a time as ``HH:MM:SS`` or ``MM:SS``."""
    parts = _TIME.fullmatch(text)
    if parts is not None:
        hours, minutes, seconds = (int(part or 0) for part in parts.groups())
        text = str(3600 * hours + 60 * minutes + seconds)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"--limit {text}: give seconds above 0, or HH:MM:SS")
    return value
