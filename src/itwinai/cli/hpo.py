"""``itwinai hpo``: commands for studies.

All but ``run`` and ``plan`` need the study's folder alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itwinai.cli.exec_pipeline import run_pipeline, split_allowed, with_configurations
from itwinai.cli.exits import DIFFERED, EXIT_CODES, clean_exit
from itwinai.cli.output import (
    echo_values,
    messages_aside,
    plain_confirmation,
    plain_rerun,
    put_text,
    show_confirmation,
    show_findings,
    show_front,
    show_rerun,
    write_json,
    write_studies,
    yaml_text,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.text import Text

    from itwinai.cli.kept import KeptPipeline
    from itwinai.hpo.planning import PlannedCost
    from itwinai.hpo.record import StudyResult

_MORE_EXIT_CODES = """\
  3    a repeated trial differed from its record
  75   the job's time is nearly up; the next job goes on
  130  interrupted; 'itwinai hpo resume' goes on
"""

app = typer.Typer(
    name="hpo",
    help="Run, resume, inspect, repeat and export hyper-parameter studies.",
    epilog=EXIT_CODES + _MORE_EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
)

#: All arguments are Hydra's.
PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


class Format(str, Enum):
    """Formats of ``export``."""

    CSV = "csv"
    PARQUET = "parquet"
    CONFIG = "config"
    OPTUNA = "optuna"


def _complete_study(incomplete: str) -> list[str]:
    folders = [path.parent for path in Path("studies").glob("*/record.log")]
    return [str(folder) for folder in folders if str(folder).startswith(incomplete)]


StudyFolder = Annotated[
    Path,
    typer.Argument(metavar="STUDY", help="The study's folder.", autocompletion=_complete_study),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Write JSON to standard output, messages to standard error."),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="NAME", help="A package or address that the pipeline may name, too."
    ),
]


@app.command(
    "run",
    context_settings=PASSED_ON,
    options_metavar="[FILE.py:FUNCTION] [--plan] [--json] [OPTIONS] [KEY=VALUE]...",
)
@clean_exit()
def run_command(
    context: typer.Context,
    space: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What is tuned, and maybe 'config' and 'study'."),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Metric to optimise.")] = None,
    mode: Annotated[str | None, typer.Option(help="min or max.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Reports of a full training.")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials in total.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what it will cost, and start nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline with a study in it, or a function: FILE.py:FUNCTION --space FILE.yaml.

    The options of a pipeline are those of 'itwinai exec-pipeline'; --space, --metric, --mode,
    --epochs, --trials and --name are those of a function.
    """
    from itwinai.cli.functions import is_function, pipeline_of

    allow, arguments = split_allowed(context.args)
    settings = {"metric": metric, "mode": mode, "epochs": epochs, "name": name}
    given = settings | {"num_samples": trials}
    if not is_function(arguments):
        _refuse_options_of_functions(space, given)
        _run_or_plan_pipeline(context.args, plan, as_json)
        return
    kept = pipeline_of(arguments, space, given, allow)
    if plan:
        _show_plans([_plan_of(kept)], as_json)
    else:
        _go_on(kept, as_json)


def _refuse_options_of_functions(space: Path | None, settings: dict[str, Any]) -> None:
    given = [name for name, value in {"space": space, **settings}.items() if value is not None]
    if given:
        option = "trials" if given[0] == "num_samples" else given[0]
        raise typer.BadParameter(
            f"--{option} is for a function, as in 'itwinai hpo run train.py:train'; in a pipeline "
            "it stands in the trainer's study"
        )


def _run_or_plan_pipeline(args: list[str], plan: bool, as_json: bool) -> None:
    if plan:
        _plan(args, as_json)
        return
    with messages_aside(as_json):
        pipelines = run_pipeline(args)
    write_studies(pipelines, as_json)


@app.command(
    "plan",
    context_settings=PASSED_ON,
    options_metavar="[--epoch-seconds S | --probe | --like STUDY] [OPTIONS] [KEY=VALUE]...",
)
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
    seconds = None if limit is None else _seconds(limit)
    known = {"epoch_seconds": epoch_seconds, "probe": probe, "like": like, "limit": seconds}
    _plan(context.args, as_json, **known)


@app.command("resume")
@clean_exit()
def resume_command(study: StudyFolder, allow: Allow = None, as_json: AsJson = False) -> None:
    """Go on with an interrupted study, to the total it was planned with."""
    _go_on(_reopened(study, _load(study), allow), as_json)


@app.command("extend")
@clean_exit()
def extend_command(
    study: StudyFolder,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="As in search_space.optim_lr.upper=1"),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="So many trials more.")] = None,
    time: Annotated[
        float | None, typer.Option(min=0, help="So many seconds from where it stands.")
    ] = None,
    allow: Allow = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a study beyond its total; the ranges of numbers may become wider."""
    if trials is None and time is None:
        raise typer.BadParameter("say how much more: --trials N, --time SECONDS, or both")
    result = _load(study)
    kept = _reopened(study, result, allow)
    changes: dict[str, Any] = {}
    if trials is not None:
        changes["num_samples"] = result.total + trials
    if time is not None:
        changes["time_budget_s"] = result.cost.elapsed + time
    extended = kept.with_overrides(overrides or []).with_study(changes)
    _check_goes_on(extended, result)
    _go_on(extended, as_json)


@app.command("list")
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


@app.command("ledger")
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
    joules = energy_of(sorted(set(every.jobs))) if every.jobs else {}
    if as_json:
        studies = [{"directory": str(path), **vars(one)} for path, one in spent.items()]
        write_json({"studies": studies, "total": vars(every), "jobs_joules": joules})
    elif spent:
        show(table_of_spent(spent), *_measured_by_slurm(joules))
    else:
        typer.echo(f"no studies in {folder}")


@app.command("show")
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

    result = _load(study)
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
    show_front(result)


@app.command("watch")
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


@app.command("dashboard")
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


@app.command("best")
@clean_exit()
def best_command(study: StudyFolder, as_json: AsJson = False) -> None:
    """Show the best trial's values and metrics; of several objectives all that are best."""
    from itwinai.hpo.display import checkpoint_of, name_of, plural
    from itwinai.hpo.errors import StudyError
    from itwinai.hpo.record import plain_study

    result = _load(study)
    best = result.best
    if best is None:
        raise StudyError(f"study {result.name!r} has no best trial: none reported {result.metric}")
    if as_json:
        content = plain_study(result, trials=False)
        write_json({key: content[key] for key in ("study", "best", "front")})
        return
    typer.echo(f"{name_of(best)}, {best.state.value} after {plural(best.epochs, 'epoch')}")
    echo_values("params", best.params)
    echo_values("metrics", best.metrics)
    typer.echo(f"checkpoint  {checkpoint_of(best)}")
    show_front(result)


@app.command("rerun")
@clean_exit()
def rerun_command(
    study: StudyFolder,
    trial: Annotated[int | None, typer.Option(min=0, help="Number of the trial.")] = None,
    best: Annotated[bool, typer.Option("--best", help="The best trial.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Train so many epochs.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Train from so many new seeds.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch; as many as the trial had.")
    ] = None,
    allow: Allow = None,
    as_json: AsJson = False,
) -> None:
    """Repeat a trial in this process, without Ray.

    Without --epochs and --seeds the metrics must be the recorded ones to the last bit; otherwise
    the command ends with code 3. With --seeds it tells mean and standard deviation.
    """
    if best == (trial is not None):
        raise typer.BadParameter("say which trial: --trial N or --best")
    from itwinai.cli.kept import KeptPipeline
    from itwinai.config.allowing import allowed_names
    from itwinai.hpo.retraining import rerun

    result = _load(study)
    kept = KeptPipeline.read(study).going_on().allowing(allowed_names(allow or ()))
    with messages_aside(as_json), kept.in_place():
        *earlier, trainer = kept.build_steps()
        outcome = rerun(trainer, _data(earlier), result, trial, epochs, seeds, threads)
    if as_json:
        write_json(plain_rerun(outcome))
    else:
        show_rerun(outcome)
    if outcome.differing:
        raise typer.Exit(DIFFERED)


@app.command("confirm")
@clean_exit()
def confirm_command(
    study: StudyFolder,
    top: Annotated[int, typer.Option(min=1, help="So many of the best trials.")] = 1,
    seeds: Annotated[int, typer.Option(min=3, help="Reruns of each trial at most.")] = 8,
    allow: Allow = None,
    as_json: AsJson = False,
) -> None:
    """Train the best trial and the default again from fresh seeds: is it really better?

    The reruns run in slots as the study's trials did, and are kept in the study's folder
    'confirmation'. A test after 3, 5 and 8 of them decides; then the command ends. Repeated, it
    goes on where it was interrupted.
    """
    from itwinai.cli.kept import KeptPipeline
    from itwinai.config.allowing import allowed_names
    from itwinai.hpo.retraining import confirm

    result = _load(study)
    kept = KeptPipeline.read(study).going_on().allowing(allowed_names(allow or ()))
    with messages_aside(as_json), kept.in_place():
        *earlier, trainer = kept.build_steps()
        outcome = confirm(trainer, _data(earlier), result, top, seeds)
    if as_json:
        write_json(plain_confirmation(outcome))
    else:
        show_confirmation(outcome)


@app.command("export")
@clean_exit()
def export_command(
    study: StudyFolder,
    format: Annotated[  # noqa: A002
        Format,
        typer.Option(
            help="csv, parquet: a row per trial. config: a configuration that trains the best "
            "with 'itwinai exec-pipeline'. optuna: a database in SQLite."
        ),
    ] = Format.CSV,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; csv and config also without."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a study for other programs."""
    from itwinai.hpo.record import csv_text, export_study

    is_text = format in (Format.CSV, Format.CONFIG)
    if output is None and (as_json or not is_text):
        raise typer.BadParameter("say which file to write: -o FILE")
    result = _load(study)
    if format is Format.CONFIG:
        put_text(_best_config(study, result), output)
    elif output is None:
        put_text(csv_text(result), output)
    else:
        export_study(result, format.value, output)
    if as_json:
        write_json({"study": result.name, "format": format.value, "file": str(output)})


@app.command("report")
@clean_exit()
def report_command(
    studies: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY...", help="The studies' folders.", autocompletion=_complete_study
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "report.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Write a page of HTML about a study, or several side by side; also while they run."""
    from itwinai.hpo.report import report_study

    results = [_load(study) for study in studies]
    report_study(*results, file=output)
    if as_json:
        write_json({"studies": [result.name for result in results], "file": str(output)})
    else:
        typer.echo(f"{output} is written; open it in a browser")


@app.command("diagnose")
@clean_exit()
def diagnose_command(
    study: StudyFolder,
    patch: Annotated[
        Path | None,
        typer.Option(help="File to write: the remedies, as a change of the configuration in YAML."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what holds a study back, with evidence, cost and remedy; also while it runs."""
    from itwinai.hpo.insight import diagnose, merged

    result = _load(study)
    findings = diagnose(result)
    changes = merged(findings)
    if patch is not None:
        put_text(yaml_text(changes), patch)
    if as_json:
        found = [vars(finding) for finding in findings]
        write_json({"study": result.name, "findings": found, "patch": changes})
    else:
        show_findings(findings)


@app.command("stop")
@clean_exit()
def stop_command(study: StudyFolder, as_json: AsJson = False) -> None:
    """Ask a running study to stop after its trials' current epochs; it can be resumed."""
    from itwinai.hpo.record import stop_study

    stop_study(study)
    if as_json:
        write_json({"directory": str(study.absolute()), "requested": "stop"})
    else:
        typer.echo(f"{study} was asked to stop; its trials end after their current epochs")


@app.command("repair")
@clean_exit()
def repair_command(study: StudyFolder, as_json: AsJson = False) -> None:
    """Mend a damaged record without what its damaged lines held; the damaged one is kept."""
    from itwinai.hpo.record import FILE_NAME, repair

    damages, kept = repair(study / FILE_NAME)
    if as_json:
        lines = [vars(damage) for damage in damages]
        write_json({"damaged": lines, "kept": str(kept) if damages else None})
    elif damages:
        for damage in damages:
            typer.echo(f"left out: {damage}")
        typer.echo(f"{study} is mended; the damaged record is kept as {kept}")
    else:
        typer.echo(f"{study}: nothing is damaged")


@app.command("schema")
@clean_exit()
def schema_command(as_json: AsJson = False) -> None:
    """Write the JSON schema of 'study' and 'search_space', for editors."""
    from itwinai.hpo.space import json_schema

    typer.echo(json.dumps(json_schema(), indent=None if as_json else 2))


def _measured_by_slurm(joules: Mapping[str, float]) -> list[Text]:
    """What Slurm has measured of jobs: it is neither added to what trials used nor compared."""
    from rich.text import Text

    from itwinai.hpo.display import plural

    if not joules:
        return []
    kwh = f"{sum(joules.values()) / 3.6e6:.3g} kWh"
    return [Text(f"by Slurm    {kwh} of whole nodes, in {plural(len(joules), 'job')}")]


def _load(study: Path) -> StudyResult:
    from itwinai.hpo.record import load_study

    with messages_aside(True):  # what is damaged
        return load_study(study)


def _reopened(study: Path, result: StudyResult, allow: list[str] | None) -> KeptPipeline:
    """Return the pipeline of a study, so that it goes on in the folder where it lies now."""
    from itwinai.cli.kept import KeptPipeline
    from itwinai.config.allowing import allowed_names
    from itwinai.hpo.errors import StudyError
    from itwinai.hpo.record import is_running

    directory = result.record.parent
    if is_running(directory):
        raise StudyError(
            f"{directory}: another process is running this study. Wait for it, or end it with "
            "'itwinai hpo stop'."
        )
    return KeptPipeline.read(study).allowing(allowed_names(allow or ())).resuming(directory)


def _check_goes_on(kept: KeptPipeline, result: StudyResult) -> None:
    """Refuse an extension that leaves no room for a trial."""
    from itwinai.hpo.errors import StudyError
    from itwinai.hpo.record import state_of

    total = int(kept.study.get("num_samples") or result.total)
    if total <= result.total and state_of(result) == "finished":
        raise StudyError(f"all {total} trials have run, so more time is of no use: add --trials N.")
    budget = kept.study.get("time_budget_s")
    if budget is not None and budget <= result.cost.elapsed:
        raise StudyError(f"the time budget of {budget:g} s is spent: add --time SECONDS.")


def _go_on(kept: KeptPipeline, as_json: bool) -> None:
    with messages_aside(as_json), kept.in_place() as here:
        pipeline = here.run()
    write_studies([pipeline], as_json)


def _plan(args: list[str], as_json: bool, **known: Any) -> None:
    """Show what the study of a pipeline will cost."""
    from itwinai.cli.kept import up_to_study

    def plan(cfg: DictConfig, allowed: tuple[str, ...]) -> PlannedCost:
        *earlier, trainer = up_to_study(cfg, allowed)
        cost: PlannedCost = trainer.plan(*_data(earlier), **known)
        return cost

    with messages_aside(True):  # of the steps before the trainer
        costs = with_configurations(args, plan)
    _show_plans(costs, as_json)


def _plan_of(kept: KeptPipeline) -> PlannedCost:
    with messages_aside(True), kept.in_place() as here:
        *earlier, trainer = here.build_steps()
        cost: PlannedCost = trainer.plan(*_data(earlier))
    return cost


def _show_plans(costs: list[PlannedCost], as_json: bool) -> None:
    from itwinai.hpo.display import show

    if as_json:
        write_json({"plans": [cost.plain() for cost in costs]})
    else:
        show(*(cost.__rich__() for cost in costs))


_TIME = re.compile(r"(?:(\d+):)?(\d+):(\d+)")


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


def _data(steps: list[Any]) -> tuple[Any, ...]:
    """Run the steps before a trainer; return what its ``execute`` would get."""
    from itwinai.pipeline import Pipeline

    output = Pipeline(steps).execute()
    return output if isinstance(output, tuple) else (output,)


def _best_config(study: Path, result: StudyResult) -> str:
    from omegaconf import OmegaConf

    from itwinai.cli.kept import KeptPipeline
    from itwinai.cli.retrain import program
    from itwinai.hpo.errors import StudyError

    best = result.best
    if best is None:
        raise StudyError(f"study {result.name!r} has no best trial: none reported {result.metric}")
    with KeptPipeline.read(study).going_on().in_place() as kept:
        config = kept.without_study(best.params, best.seed)
    head = f"# Trains the best configuration of study {result.name!r}, that of trial {best.number}."
    workers = 1 if result.setup is None else result.setup.workers
    if workers > 1:  # one process would see smaller batches
        start = " ".join(program(workers))
        head += f"\n# {workers} processes trained it together, as in {start} exec-pipeline"
    return f"{head}\n{OmegaConf.to_yaml(config)}"
