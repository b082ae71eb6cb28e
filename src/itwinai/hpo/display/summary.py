"""The end of a study as text, from its record alone; and how trials and numbers are written."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from itwinai.errors import one_line, visible
from itwinai.hpo.display.confirmed import confirmed
from itwinai.hpo.display.words import interval, number, plural
from itwinai.hpo.insight import estimate_winner, read_confirmation
from itwinai.hpo.insight.finding import alike
from itwinai.hpo.objectives import dominated_by, losses_of
from itwinai.hpo.record import PIPELINE_FILE, StudyResult, resume_command
from itwinai.hpo.trial import AGAIN, FAILURES, TrialResult, TrialState
from itwinai.io.failures import FILE_NAME, read_failures
from itwinai.io.files import shortest

#: What the counts call the ends that are not a completion.
OTHER_ENDS = {
    TrialState.STOPPED: "stopped early",
    TrialState.PAUSED: "paused",
    TrialState.DIVERGED: "diverged",
    TrialState.OUT_OF_MEMORY: "out of memory",
    TrialState.FAILED: "failed",
    TrialState.LOST: "lost",
    TrialState.HUNG: "hung",
    TrialState.INTERRUPTED: "interrupted",
}

#: Relative difference that is told; a smaller one would read as none.
_TOLD = 0.0005

#: Trials of a Pareto front that are listed.
_FRONT_SHOWN = 10

#: Trials of different values, times the numbers that they have alike, for that to be no chance.
_NO_CHANCE = 9

#: Width of the label in front of each line.
_LABEL = 12


def summary(result: StudyResult) -> Text:
    """Sum a study up for a reader; ``str()`` of it is plain text.

    Its lines are as long as they are, because a folded path cannot be copied: print it with
    ``console.print(summary(result), soft_wrap=True)``.
    """
    text = Text()
    for label, line in lines_of(result):
        text.append(label.ljust(_LABEL), "bold")
        text.append(f"{visible(line)}\n", "bold green" if label in ("best", "front") else "")
    text.right_crop()
    return text


def lines_of(result: StudyResult) -> Iterator[tuple[str, str]]:
    """The summary's lines with their labels; one that continues the line before has none."""
    yield "study", f"{result.name}, {plural(len(result.trials), 'trial')}"
    yield "ended", _ends(result)
    yield from _failures(result)
    yield from (("node", str(verdict)) for verdict in result.nodes)
    yield from _logger_failures(result.record.parent)
    several = len(result.objectives) > 1 and bool(result.front)
    yield from _front(result) if several else _best(result)
    yield from _default_beside_front(result) if several else _default(result)
    yield from _confirmation(result)
    yield from _without_effect(result)
    yield "epochs", _epochs(result)
    if several:
        yield "checkpoints", f"{result.record.parent / 'trials'}, by number"
    elif result.best is not None:
        yield "checkpoint", checkpoint_of(result.best)
    yield "record", str(result.record)
    folder, what = shortest(result.record.parent), "front" if several else "best.params"
    if result.best is not None:
        yield "read back", f'from itwinai.hpo import load_study; load_study("{folder}").{what}'
    yield "dashboard", f"itwinai hpo dashboard {shlex.quote(folder)}"
    if result.seconds_early is not None:
        yield "time", _time_saved(result, result.seconds_early)
    again = [trial for trial in result.trials if trial.state in AGAIN]
    if again:
        lost = len(_in_state(result, TrialState.LOST))
        which = f"{plural(len(again), 'trial')}{f', {lost} of them lost' if lost else ''}"
        command = resume_command(result.record.parent)
        yield "interrupted", f"{which}; resume with {command or 'study.resume=true'}"


def _time_saved(result: StudyResult, seconds: float) -> str:
    """What a run did not use of its time, as nothing would have come of it."""
    setup = result.setup
    held = 0.0 if setup is None else setup.held.get("CPU", 0.0) * (setup.slots or 1)
    saved = f"; {held * seconds / 3600:.2g} core-hours are saved" if held else ""
    left = max(0, result.total + result.copies - len(result.trials))
    return (
        f"ended {duration(seconds)} early: no trial could have reached a rung or a checkpoint"
        f"{saved}. {plural(left, 'new trial')} left for the next run"
    )


def _in_state(result: StudyResult, state: TrialState) -> list[TrialResult]:
    return [trial for trial in result.trials if trial.state is state]


def _ends(result: StudyResult) -> str:
    words = {TrialState.COMPLETED: "completed", **OTHER_ENDS, TrialState.RUNNING: "running"}
    counts = {word: len(_in_state(result, state)) for state, word in words.items()}
    parts = [f"{n} {word}" for word, n in counts.items() if n or word == "completed"]
    return ", ".join(parts)


def _failures(result: StudyResult) -> Iterator[tuple[str, str]]:
    for state in FAILURES:
        trials = _in_state(result, state)
        if trials:
            what = "first" if state is TrialState.FAILED else f"first {OTHER_ENDS[state]},"
            yield "failed", f"{what} {name_of(trials[0])}: {one_line(trials[0].reason)}"


def _logger_failures(folder: Path) -> Iterator[tuple[str, str]]:
    """What the loggers of all trials could not log."""
    names = Path(FILE_NAME).stem + "*.json"
    failures = read_failures([*folder.glob(names), *sorted(folder.glob(f"trials/*/{names}"))])
    for name, failed in failures.items():
        yield "loggers", one_line(failed.of(name))


def _front(result: StudyResult) -> Iterator[tuple[str, str]]:
    """List the trials among which a reader has to choose."""
    names = ", ".join(f"{objective.metric} ({objective.mode})" for objective in result.objectives)
    yield "front", f"{plural(len(result.front), 'trial')} that none beats in all of {names}"
    for trial in result.front[:_FRONT_SHOWN]:
        values = f"{scores(result, trial)}  {parameters(trial.params, digits=6)}"
        yield "", f"{name_of(trial)}, {values}"
    if len(result.front) > _FRONT_SHOWN:
        yield "", f"... and {len(result.front) - _FRONT_SHOWN} more"


def _default_beside_front(result: StudyResult) -> Iterator[tuple[str, str]]:
    default = result.default
    if default is None or default.state is not TrialState.COMPLETED:
        yield from _default(result)
        return
    pairs = [losses_of(result.objectives, t.metrics) for t in (*result.front, default)]
    beaten = int(dominated_by([losses for losses in pairs if losses is not None])[-1])
    by = f"beaten by {plural(beaten, 'trial')} of it, nowhere worse"
    verdict = by if beaten else "on the front"
    yield "default", f"{_scored(result, default)}; {verdict}"


def _without_effect(result: StudyResult) -> Iterator[tuple[str, str]]:
    """Say that trials with various values came to the same numbers, in all that they reported."""
    whole = (TrialState.COMPLETED, TrialState.STOPPED)
    trials = [t for t in result.trials if t.state in whole and t.history and t.parent is None]
    reports = min((len(trial.history) for trial in trials), default=0)
    told = ([dict(metrics) for metrics in trial.history[:reports]] for trial in trials)
    first = next(told, [])
    if any(repr(other) != repr(first) for other in told):  # of numbers NaN is not itself
        return
    numbers = {value for metrics in first for value in metrics.values()}
    if len(alike(trials)) * len(numbers) >= _NO_CHANCE:
        names = ", ".join(dict.fromkeys(name for trial in trials for name in trial.params))
        yield (
            "no effect",
            f"all {len(trials)} trials reported the same numbers: nothing that is tuned ({names}) "
            "seems to change the training. Does it use it?",
        )


def _best(result: StudyResult) -> Iterator[tuple[str, str]]:
    best = result.best
    if best is None:
        yield "best", f"none: no usable trial has reported {result.metric}"
        return
    value = scores(result, best)
    if best.state is TrialState.COMPLETED:
        after = f"{value} after {plural(best.epochs, 'epoch')}"
        yield "best", f"{name_of(best)}, {after}: {result.why_best}"
    else:
        furthest = f"{name_of(best)}, {value} at epoch {number(best.epochs)}/{result.epochs}"
        yield "best", f"no trial trained to the end; the furthest is {furthest}"
    yield "", parameters(best.params, digits=6)


def _default(result: StudyResult) -> Iterator[tuple[str, str]]:
    """Set the best trial against the default configuration, where the two can be compared."""
    default, best = result.default, result.best
    if default is None:
        yield "default", "no default trial"
    elif default.state in (*FAILURES, TrialState.DIVERGED):
        yield "default", f"default {default.state.value}: {one_line(default.reason)}"
    elif default.state is not TrialState.COMPLETED:
        end = f"{OTHER_ENDS.get(default.state, 'running')} at epoch {number(default.epochs)}"
        yield "default", f"{_scored(result, default)}, {end}/{result.epochs}"
        if default.reason:
            yield "", f"no gain is told, for it did not train to the end: {default.reason}"
    elif best is None or best.number == default.number:
        yield "default", f"{_scored(result, default)}; {nothing_better(result)}"
    else:
        yield "default", _scored(result, default)
        yield "", _difference(result, best, default)
        yield from _expected(result, best)


def nothing_better(result: StudyResult) -> str:
    """Say why the default is the best trial: by its recorded value, or by the model alone."""
    leads = [result.lead(trial) for trial in result.trials]
    if any(lead is not None and lead > 0 for lead in leads):
        return "by the model's mean nothing is better"
    return "nothing was better"


def _scored(result: StudyResult, trial: TrialResult) -> str:
    return f"{name_of(trial)}, {scores(result, trial)}"


def _difference(result: StudyResult, best: TrialResult, default: TrialResult) -> str:
    new, old = best.metric(result.metric), default.metric(result.metric)
    if new is None or old is None:
        return "not comparable"
    share = (new - old) / abs(old) if old else 0.0
    relative = f" ({share:+.1%})" if abs(share) >= _TOLD else ""
    word = "better" if (new > old) == (result.mode == "max") and new != old else "no better"
    return f"the best is {word}: {new - old:+.4g}{relative}"


def _confirmation(result: StudyResult) -> Iterator[tuple[str, str]]:
    """What reruns from fresh seeds have told, if there were any."""
    confirmation = read_confirmation(result)
    for line in [] if confirmation is None else confirmed(confirmation):
        yield "confirmed", line


def _expected(result: StudyResult, best: TrialResult) -> Iterator[tuple[str, str]]:
    """What the gain is worth, as long as no reruns of this trial tell it."""
    confirmation = read_confirmation(result)
    if confirmation is not None and best.number in confirmation.candidates:
        return
    winner = estimate_winner(result)
    proof = f"{_proof(result.record.parent)} proves it"
    if winner is None or winner.gain is None:
        yield "", f"one training of each proves no gain; {proof}"
    else:
        gain = winner.gain
        value, low, high = interval(gain.value, gain.lower, gain.upper)
        yield "", f"expected gain {value} [{low}, {high}], 95 %, by a model; {proof}"


def _proof(directory: Path) -> str:
    if not (directory / PIPELINE_FILE).is_file():
        return "itwinai.hpo.confirm in the program that started the study"
    return f"'itwinai hpo confirm {shlex.quote(shortest(directory))}'"


def _epochs(result: StudyResult) -> str:
    cost = result.cost
    saved = cost.full_epochs - cost.epochs
    if saved <= 0:
        return f"{number(cost.epochs)} run; early stopping saved none"
    return (
        f"{number(cost.epochs)} run, {number(cost.full_epochs)} without early stopping: "
        f"{saved / cost.full_epochs:.0%} saved"
    )


def score(trial: TrialResult, metric: str) -> str:
    """Write a metric of a trial, ``-`` before the first epoch."""
    value = trial.metric(metric)
    return "-" if value is None else number(value)


def scores(result: StudyResult, trial: TrialResult) -> str:
    """Write the metrics that the study is about as ``loss=0.5 latency=12``."""
    metrics = [objective.metric for objective in result.objectives]
    return " ".join(f"{metric}={score(trial, metric)}" for metric in metrics)


def name_of(trial: TrialResult) -> str:
    """Name a trial in a sentence."""
    return f"trial {trial.number}{' (default)' if trial.is_default else ''}"


def checkpoint_of(trial: TrialResult) -> str:
    """Say where a trial's checkpoint is, and of when if that is not its last epoch."""
    if trial.checkpoint is None:
        return "none: that training saved none"
    if trial.checkpoint_epochs == trial.epochs:
        return str(trial.checkpoint)
    return f"{trial.checkpoint}, after {plural(trial.checkpoint_epochs, 'epoch')}"


def parameters(params: Mapping[str, Any], digits: int = 3) -> str:
    """Write hyper-parameters as ``lr=0.00123 hidden=32``."""
    return " ".join(f"{name}={number(value, digits)}" for name, value in params.items())


def duration(seconds: float) -> str:
    """Write seconds as people say them."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    return f"{hours} h {minutes % 60:02} min" if hours else f"{minutes} min {whole % 60:02} s"
