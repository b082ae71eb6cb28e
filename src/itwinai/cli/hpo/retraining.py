"""``itwinai hpo rerun`` and ``confirm``: trials are trained again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from itwinai.cli.exits import DIFFERED, clean_exit
from itwinai.cli.hpo.opening import data_from, kept_of, load
from itwinai.cli.hpo.options import Allow, AsJson, StudyFolder
from itwinai.cli.output import messages_aside, write_json
from itwinai.errors import visible

if TYPE_CHECKING:
    from itwinai.hpo.insight import Confirmation, Gain
    from itwinai.hpo.retraining import Rerun


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
    from itwinai.hpo.retraining import rerun

    result = load(study)
    kept = kept_of(study, allow).going_on()
    with messages_aside(as_json), kept.in_place():
        *earlier, trainer = kept.build_steps()
        outcome = rerun(trainer, data_from(earlier), result, trial, epochs, seeds, threads)
    if as_json:
        write_json(_plain_rerun(outcome))
    else:
        _show_rerun(outcome)
    if outcome.differing:
        raise typer.Exit(DIFFERED)


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
    from itwinai.hpo.retraining import confirm

    result = load(study)
    kept = kept_of(study, allow).going_on()
    with messages_aside(as_json), kept.in_place():
        *earlier, trainer = kept.build_steps()
        outcome = confirm(trainer, data_from(earlier), result, top, seeds)
    if as_json:
        write_json(_plain_confirmation(outcome))
    else:
        _show_confirmation(outcome)


def _plain_rerun(outcome: Rerun) -> dict[str, Any]:
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


def _show_rerun(outcome: Rerun) -> None:
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


def _plain_confirmation(outcome: Confirmation) -> dict[str, Any]:
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


def _show_confirmation(outcome: Confirmation) -> None:
    """Tell whether a study's best trials are better than its default."""
    from itwinai.hpo.display.confirmed import confirmed

    for line in confirmed(outcome):
        typer.echo(visible(line))
