"""What the commands of ``itwinai hpo`` write: text for people, or one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

import typer

from itwinai.errors import visible

if TYPE_CHECKING:
    from itwinai.hpo.insight import Confirmation, Finding, Gain
    from itwinai.hpo.record import StudyResult
    from itwinai.hpo.retraining import Rerun


@contextmanager
def messages_aside(as_json: bool) -> Iterator[None]:
    """Send what is meant for people to standard error, where standard output is to be JSON."""
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def put_text(text: str, output: Path | None) -> None:
    """Write a text to a file, or to standard output."""
    from itwinai.io.files import write_text

    if output is None:
        typer.echo(visible(text) if sys.stdout.isatty() else text, nl=False)
    else:
        write_text(output, text)


def write_json(content: Any) -> None:
    """Write the one JSON document of a command."""
    from itwinai.hpo.record import plain

    typer.echo(json.dumps(plain(content), allow_nan=False))


def write_studies(pipelines: list[Any], as_json: bool) -> None:
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


def plain_rerun(outcome: Rerun) -> dict[str, Any]:
    """Return a rerun as JSON can write it."""
    return {
        "trial": outcome.trial.number,
        "threads": outcome.threads,
        "equal": not outcome.differing if outcome.is_repetition else None,
        "differing_epochs": list(outcome.differing),
        "runs": [vars(run) for run in outcome.runs],
        "metrics": {
            name: {"mean": mean, "std": deviation}
            for name, (mean, deviation) in outcome.metrics.items()
        },
    }


def show_rerun(outcome: Rerun) -> None:
    """Tell what a rerun gave, and whether it was the recorded trial again."""
    from itwinai.hpo.display import name_of, number, plural

    epochs = plural(max(outcome.runs[-1].at, default=0), "epoch")
    runs = plural(len(outcome.runs), "run")
    typer.echo(f"{name_of(outcome.trial)}: {runs} of {epochs}, {plural(outcome.threads, 'thread')}")
    for name, (mean, deviation) in outcome.metrics.items():
        spread = "" if deviation is None else f" +- {deviation:.4g}"
        typer.echo(f"  {name} = {mean:.6g}{spread}")
    for run in outcome.runs:
        if run.checkpoint is not None:
            typer.echo(f"  seed {run.seed}: {run.checkpoint}")
    if not outcome.is_repetition:
        return
    if not outcome.differing:
        typer.echo("every epoch's metrics equal the recorded ones to the last bit")
        return
    places = ", ".join(map(number, outcome.differing))
    typer.echo(
        f"epochs that differ from the record: {places}. Something "
        "has changed: the code, the data, the machine, or what the pipeline does not seed."
    )


def plain_confirmation(outcome: Confirmation) -> dict[str, Any]:
    """Return a confirmation as JSON can write it."""
    return {
        "study": outcome.study.name,
        "default": outcome.default,
        "decided": outcome.is_decided,
        "candidates": [
            {"trial": candidate, "gain": _plain(outcome.gain(candidate))}
            | {"gain_on_test": _plain(outcome.gain_on_test(candidate))}
            for candidate in outcome.candidates
        ],
    }


def _plain(gain: Gain | None) -> dict[str, Any] | None:
    return None if gain is None else vars(gain)


def show_confirmation(outcome: Confirmation) -> None:
    """Tell whether a study's best trials are better than its default."""
    from itwinai.hpo.display.confirmed import confirmed

    for line in confirmed(outcome):
        typer.echo(visible(line))


def show_findings(findings: Sequence[Finding]) -> None:
    """Tell each finding about a study in a block of its own."""
    for finding in findings:
        typer.echo(visible(f"{finding.kind}: {finding.evidence}"))
        typer.echo(visible(f"  cost    {finding.cost}"))
        typer.echo(visible(f"  remedy  {finding.remedy}"))
        if finding.patch:
            typer.echo(visible(indent(yaml_text(finding.patch), " " * 10).rstrip()))
    if not findings:
        typer.echo("nothing found: the record gives no evidence of anything to mend")


def yaml_text(content: Mapping[str, Any]) -> str:
    """Write a part of a configuration as YAML."""
    from itwinai.config.writing import as_yaml
    from itwinai.hpo.record import plain

    return as_yaml(plain(content))


def show_front(result: StudyResult) -> None:
    """Show the Pareto front of a study of several objectives."""
    from itwinai.hpo.display import show, table_of_trials

    if len(result.objectives) > 1:
        title = "Pareto front: no trial is better in all objectives"
        show(table_of_trials(result, result.front, title))


def echo_values(label: str, values: Mapping[str, Any]) -> None:
    """Write each value in a line of its own, in full."""
    for name, value in values.items():
        typer.echo(visible(f"{label:<11} {name} = {value}"))
