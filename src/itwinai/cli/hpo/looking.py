"""``itwinai hpo list``, ``ledger``, ``show``, ``watch``, ``dashboard`` and ``best``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itwinai.cli.exits import clean_exit
from itwinai.cli.hpo.opening import best_of, load
from itwinai.cli.hpo.options import AsJson, StudyFolder
from itwinai.cli.output import messages_aside, write_json
from itwinai.errors import visible

if TYPE_CHECKING:
    from rich.text import Text

    from itwinai.hpo.record import StudyResult


@clean_exit()
def list_command(
    folder: Annotated[Path, typer.Argument(help="Folder that holds studies.")] = Path("studies"),
    as_json: AsJson = False,
) -> None:
    """List the studies of a folder and those below it."""
    from itwinai.hpo.display import show, table_of_studies
    from itwinai.hpo.record import list_studies

    with messages_aside(True):
        studies = list_studies(folder)
    if as_json:
        write_json([vars(study) for study in studies])
    elif studies:
        show(table_of_studies(studies))
    else:
        typer.echo(f"no studies in {folder}")


@clean_exit()
def ledger_command(
    folder: Annotated[Path, typer.Argument(help="Folder that holds studies.")] = Path("studies"),
    as_json: AsJson = False,
) -> None:
    """Sum up what the studies of a folder have spent: epochs, hours of cores and GPUs, energy.

    Of studies that ran in jobs it asks Slurm's accounting, too.
    """
    from itwinai.hpo.display import show
    from itwinai.hpo.display.tables import table_of_spent
    from itwinai.hpo.insight.spending import ledger, total
    from itwinai.slurm.queue import energy_of

    with messages_aside(True):
        spent = ledger(folder)
    every = total(spent.values())
    joules = energy_of(sorted(every.jobs)) if every.jobs else {}
    if as_json:
        studies = [{"directory": str(path), **vars(one)} for path, one in spent.items()]
        write_json({"studies": studies, "total": vars(every), "jobs_joules": joules})
    elif spent:
        show(table_of_spent(spent), *_measured_by_slurm(joules))
    else:
        typer.echo(f"no studies in {folder}")


@clean_exit()
def show_command(
    study: StudyFolder,
    limit: Annotated[
        int, typer.Option(min=0, help="Rows of the table at most; 0: all trials.")
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """Show a study's summary and its trials."""
    from rich.text import Text

    from itwinai.hpo.display import show, standing, table_of_trials
    from itwinai.hpo.display.summary import summary
    from itwinai.hpo.record import plain_study, state_of

    result = load(study)
    if as_json:
        write_json(plain_study(result))
        return
    if state_of(result) == "running":
        show(Text(f"running     {standing(result)}"))
    shown = list(islice(result.trials, limit or None))
    show(summary(result), table_of_trials(result, shown))
    if len(shown) < len(result.trials):
        more = len(result.trials) - len(shown)
        show(Text(f"... {more} more; --limit 0 shows all, 'itwinai hpo export' writes them"))
    _show_front(result)


@clean_exit()
def watch_command(
    study: StudyFolder,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Watch a study while it runs, from any terminal or node; Ctrl-C ends the watching alone."""
    from rich.console import Console

    from itwinai.hpo.display import watch

    with suppress(KeyboardInterrupt):
        watch(study, Console(highlight=False), every)


@clean_exit()
def dashboard_command(
    study: StudyFolder,
    port: Annotated[int, typer.Option(min=0, help="Port; 0: any that is free.")] = 8080,
) -> None:
    """Look at a study in Optuna's dashboard, which nothing can be written in; Ctrl-C ends it."""
    from itwinai.hpo.display.dashboard import dashboard

    server = dashboard(study, port)
    typer.echo(f"http://127.0.0.1:{server.server_port}/ shows {study}, until Ctrl-C")
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()


@clean_exit()
def best_command(study: StudyFolder, as_json: AsJson = False) -> None:
    """Show the best trial's values and metrics; of several objectives all that are best."""
    from itwinai.hpo.display import checkpoint_of, name_of, plural
    from itwinai.hpo.record import plain_study

    result = load(study)
    best = best_of(result)
    if as_json:
        content = plain_study(result, trials=False)
        write_json({key: content[key] for key in ("study", "best", "front")})
        return
    typer.echo(f"{name_of(best)}, {best.state.value} after {plural(best.epochs, 'epoch')}")
    _echo_values("params", best.params)
    _echo_values("metrics", best.metrics)
    typer.echo(f"checkpoint  {checkpoint_of(best)}")
    _show_front(result)


def _show_front(result: StudyResult) -> None:
    """Show the Pareto front of a study of several objectives."""
    from itwinai.hpo.display import show, table_of_trials

    if len(result.objectives) > 1:
        title = "Pareto front: no trial is better in all objectives"
        show(table_of_trials(result, result.front, title))


def _echo_values(label: str, values: Mapping[str, Any]) -> None:
    """Write each value in a line of its own, in full."""
    for name, value in values.items():
        typer.echo(visible(f"{label:<11} {name} = {value}"))


def _measured_by_slurm(joules: Mapping[str, float]) -> list[Text]:
    """What Slurm has measured of jobs: it is neither added to what trials used nor compared."""
    from rich.text import Text

    from itwinai.hpo.display import plural

    if not joules:
        return []
    kwh = f"{sum(joules.values()) / 3.6e6:.3g} kWh"
    return [Text(f"by Slurm    {kwh} of whole nodes, in {plural(len(joules), 'job')}")]
