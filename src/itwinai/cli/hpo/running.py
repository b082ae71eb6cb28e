"""``itwinai hpo run``, ``resume``, ``extend`` and ``stop``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itwinai.cli.exec_pipeline import run_pipeline, split_allowed
from itwinai.cli.exits import clean_exit
from itwinai.cli.hpo.opening import kept_of, load
from itwinai.cli.hpo.options import Allow, AsJson, StudyFolder
from itwinai.cli.hpo.planning import plan_of, plan_pipelines, show_plans
from itwinai.cli.output import messages_aside, write_json

if TYPE_CHECKING:
    from itwinai.cli.kept import KeptPipeline
    from itwinai.hpo.record import StudyResult


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
    from itwinai.cli.hpo.functions import is_function, pipeline_of

    allow, arguments = split_allowed(context.args)
    settings = {"metric": metric, "mode": mode, "epochs": epochs, "name": name}
    given = settings | {"num_samples": trials}
    if not is_function(arguments):
        _refuse_options_of_functions(space, given)
        _run_or_plan_pipeline(context.args, plan, as_json)
        return
    kept = pipeline_of(arguments, space, given, allow)
    if plan:
        show_plans([plan_of(kept)], as_json)
    else:
        _go_on(kept, as_json)


@clean_exit()
def resume_command(study: StudyFolder, allow: Allow = None, as_json: AsJson = False) -> None:
    """Go on with an interrupted study, to the total it was planned with."""
    _go_on(_reopened(study, load(study), allow), as_json)


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
    result = load(study)
    kept = _reopened(study, result, allow)
    changes: dict[str, Any] = {}
    if trials is not None:
        changes["num_samples"] = result.total + trials
    if time is not None:
        changes["time_budget_s"] = result.cost.elapsed + time
    extended = kept.with_overrides(overrides or []).with_study(changes)
    _check_goes_on(extended, result)
    _go_on(extended, as_json)


@clean_exit()
def stop_command(study: StudyFolder, as_json: AsJson = False) -> None:
    """Ask a running study to stop after its trials' current epochs; it can be resumed."""
    from itwinai.hpo.record import stop_study

    stop_study(study)
    if as_json:
        write_json({"directory": str(study.absolute()), "requested": "stop"})
    else:
        typer.echo(f"{study} was asked to stop; its trials end after their current epochs")


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
        plan_pipelines(args, as_json)
        return
    with messages_aside(as_json):
        pipelines = run_pipeline(args)
    _write_studies(pipelines, as_json)


def _reopened(study: Path, result: StudyResult, allow: list[str] | None) -> KeptPipeline:
    """Return the pipeline of a study, so that it goes on in the folder where it lies now."""
    from itwinai.hpo.errors import StudyError
    from itwinai.hpo.record import is_running

    directory = result.record.parent
    if is_running(directory):
        raise StudyError(
            f"{directory}: another process is running this study. Wait for it, or end it with "
            "'itwinai hpo stop'."
        )
    return kept_of(study, allow).resuming(directory)


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
    _write_studies([pipeline], as_json)


def _write_studies(pipelines: list[Any], as_json: bool) -> None:
    """Write the results of all studies that ran; without JSON each has shown its own."""
    if not as_json:
        return
    from itwinai.hpo.record import plain_study

    results = [
        step.study_result
        for pipeline in pipelines
        for step in _steps(pipeline)
        if getattr(step, "study_result", None) is not None
    ]
    write_json({"studies": [plain_study(result, trials=False) for result in results]})


def _steps(pipeline: Any) -> list[Any]:
    steps = pipeline.steps
    return list(steps.values()) if isinstance(steps, Mapping) else list(steps)
