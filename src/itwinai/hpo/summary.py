"""The end of a study as text, from its record alone; and how trials and numbers are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from itwinai.hpo.results import StudyResult
from itwinai.hpo.trial import TrialResult, TrialState

#: What the counts call the ends that are not a completion.
OTHER_ENDS = {
    TrialState.STOPPED: "stopped early",
    TrialState.DIVERGED: "diverged",
    TrialState.FAILED: "failed",
    TrialState.INTERRUPTED: "interrupted",
}

#: Width of the label in front of each line.
_LABEL = 12


def summary(result: StudyResult) -> Text:
    """Sum a study up for a reader; ``str()`` of it is plain text.

    Its lines are as long as they are, because a folded path cannot be copied: print it with
    ``console.print(summary(result), soft_wrap=True)``.
    """
    text = Text()
    for label, line in _lines(result):
        text.append(label.ljust(_LABEL), "bold")
        text.append(f"{line}\n", "bold green" if label == "best" else "")
    text.right_crop()
    return text


def _lines(result: StudyResult) -> Iterator[tuple[str, str]]:
    yield "study", f"{result.name}, {plural(len(result.trials), 'trial')}"
    yield "ended", _ends(result)
    failed = _in_state(result, TrialState.FAILED)
    if failed:
        yield "failed", f"first {name_of(failed[0])}: {one_line(failed[0].reason)}"
    yield from _best(result)
    yield from _default(result)
    yield "epochs", _epochs(result)
    if result.best is not None:
        yield "checkpoint", str(result.best.checkpoint or "the best trial has none")
    yield "record", str(result.record)
    folder = shortest(result.record.parent)
    yield "read back", f'from itwinai.hpo import load_study; load_study("{folder}").best.params'
    interrupted = _in_state(result, TrialState.INTERRUPTED)
    if interrupted:
        yield "interrupted", f"{plural(len(interrupted), 'trial')}; resume with study.resume=true"


def _in_state(result: StudyResult, state: TrialState) -> list[TrialResult]:
    return [trial for trial in result.trials if trial.state is state]


def _ends(result: StudyResult) -> str:
    words = {TrialState.COMPLETED: "completed", **OTHER_ENDS, TrialState.RUNNING: "running"}
    counts = {word: len(_in_state(result, state)) for state, word in words.items()}
    parts = [f"{n} {word}" for word, n in counts.items() if n or word == "completed"]
    return ", ".join(parts)


def _best(result: StudyResult) -> Iterator[tuple[str, str]]:
    best = result.best
    if best is None:
        yield "best", f"none: no trial has a {result.metric}"
        return
    value = f"{result.metric}={score(result, best)}"
    if best.state is TrialState.COMPLETED:
        yield "best", f"{name_of(best)}, {value} after {plural(best.epochs, 'epoch')}"
    else:
        furthest = f"{name_of(best)}, {value} at epoch {best.epochs}/{result.epochs}"
        yield "best", f"no trial trained to the end; the furthest is {furthest}"
    yield "", parameters(best.params, digits=6)


def _default(result: StudyResult) -> Iterator[tuple[str, str]]:
    """Set the best trial against the default configuration, where the two can be compared."""
    default, best = result.default, result.best
    if default is None:
        yield "default", "no default trial"
    elif default.state in (TrialState.FAILED, TrialState.DIVERGED):
        yield "default", f"default {default.state.value}: {one_line(default.reason)}"
    else:
        value = f"{name_of(default)}, {result.metric}={score(result, default)}"
        if default.state is not TrialState.COMPLETED:
            at = f"at epoch {default.epochs}/{result.epochs}"
            yield "default", f"{value}, {OTHER_ENDS.get(default.state, 'running')} {at}"
        elif best is None or best.number == default.number:
            yield "default", f"{value}; nothing was better"
        else:
            yield "default", value
            yield "", _difference(result, best, default)


def _difference(result: StudyResult, best: TrialResult, default: TrialResult) -> str:
    new, old = best.metric(result.metric), default.metric(result.metric)
    if new is None or old is None:
        return "not comparable"
    relative = f" ({(new - old) / abs(old):+.1%})" if old else ""
    word = "better" if (new > old) == (result.mode == "max") and new != old else "no better"
    return f"the best is {word}: {new - old:+.4g}{relative}"


def _epochs(result: StudyResult) -> str:
    cost = result.cost
    saved = cost.full_epochs - cost.epochs
    if saved <= 0:
        return f"{cost.epochs} run; early stopping saved none"
    return (
        f"{cost.epochs} run, {cost.full_epochs} without early stopping: "
        f"{saved / cost.full_epochs:.0%} saved"
    )


def score(result: StudyResult, trial: TrialResult) -> str:
    """Write the metric that the study is about, ``-`` before the first epoch."""
    value = trial.metric(result.metric)
    return "-" if value is None else number(value)


def name_of(trial: TrialResult) -> str:
    """Name a trial in a sentence."""
    return f"trial {trial.number}{' (default)' if trial.is_default else ''}"


def parameters(params: Mapping[str, Any], digits: int = 3) -> str:
    """Write hyper-parameters as ``lr=0.00123 hidden=32``."""
    return " ".join(f"{name}={number(value, digits)}" for name, value in params.items())


def number(value: Any, digits: int = 4) -> str:
    """Write a real number with few digits, anything else as it is, on one line."""
    return f"{value:.{digits}g}" if isinstance(value, float) else one_line(str(value))


def plural(count: int, word: str) -> str:
    """Write a count of things."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def one_line(text: str, longest: int = 200) -> str:
    """Cut a message down to what fits a line."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def duration(seconds: float) -> str:
    """Write seconds as people say them."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    return f"{hours} h {minutes % 60:02} min" if hours else f"{minutes} min {whole % 60:02} s"


def shortest(path: Path) -> str:
    """Write a path from the current folder if it lies in it, otherwise in full."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
