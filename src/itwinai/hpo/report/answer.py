"""The answer first: which configuration, whether it is really better, what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from itwinai.hpo.display.confirmed import confirmed, gained
from itwinai.hpo.display.summary import duration, name_of, nothing_better
from itwinai.hpo.display.view import standing
from itwinai.hpo.display.words import interval, number, plural
from itwinai.hpo.insight import Estimate, Gain, Importance, WinnerEstimate, read_confirmation
from itwinai.hpo.record import PIPELINE_FILE, StudyResult, state_of
from itwinai.hpo.report.parts import Command, Section, Table, or_dash, said, values_of
from itwinai.hpo.trial import FAILURES, TrialResult, TrialState
from itwinai.io.files import shortest

#: Share of failed trials from which they are the first thing to look at.
_MANY_FAILURES = 0.2
#: Trials of a Pareto front that are listed.
_FRONT_SHOWN = 20


def answer(
    result: StudyResult, winner: WinnerEstimate | None, matters: Sequence[Importance]
) -> Section:
    """Say which configuration to use, what it is worth, what it cost, and what to do next."""
    several = len(result.objectives) > 1 and bool(result.front)
    tables = [] if winner is None else [_worth(result, winner), _values(result, winner, matters)]
    if several:
        tables = [_front(result)]
    return Section(
        key="answer",
        title="The answer",
        lead=_choice(result) if several else _lead(result, winner),
        notes=[*([] if several or winner is None else _honesty(result, winner)), _spent(result)],
        tables=tables,
        commands=list(_next(result, winner)),
    )


def gain_of(winner: WinnerEstimate) -> str:
    """Write the gain over the default with its interval, and whether that proves it."""
    gain = winner.gain
    if gain is None:
        return "there is no default to compare with"
    if winner.verdict == "better":
        return f"expected to be better than the default by {estimated(gain)}"
    return (
        f"not proven to be better than the default: the difference is {estimated(gain)}, "
        "which includes none"
    )


def estimated(estimate: Estimate) -> str:
    """Write an estimate with its interval."""
    value, low, high = interval(estimate.value, estimate.lower, estimate.upper)
    return f"{value} (95% interval {low} to {high})"


def _lead(result: StudyResult, winner: WinnerEstimate | None) -> str:
    if winner is None:
        return f"There is nothing to use yet: no trial has reported {said(result.metric)}."
    name, default = name_of(winner.trial), result.default
    if winner.trial.state is not TrialState.COMPLETED:
        return f"No trial trained to the end; {name} came furthest, which is not an answer yet."
    if winner.trial.is_default:
        return f"Keep the default configuration ({name}): {nothing_better(result)}."
    proven = _proven(result, winner.trial.number)
    if proven:
        return f"Use {name}: by {plural(proven.reruns, 'rerun')} of each, {gained(proven)}."
    if winner.gain is not None:
        return f"Use {name}: it is {gain_of(winner)}."
    if default is None:
        return f"Use {name}, {result.why_best}; no default ran, so no gain can be told."
    ended = f"the default {default.state.value} without a result to compare with"
    return f"Use {name}, {result.why_best}; {ended}, so no gain can be told."


def _proven(result: StudyResult, number: int) -> Gain | None:
    """What reruns from fresh seeds tell of a trial, if they call it better."""
    confirmation = read_confirmation(result)
    if confirmation is None or not confirmation.proves(number):
        return None
    return confirmation.gain(number)


def _choice(result: StudyResult) -> str:
    names = " and ".join(said(objective.metric) for objective in result.objectives)
    count = plural(len(result.front), "trial")
    return f"Choose among {count}: none of the others is better in all of {names}."


def _honesty(result: StudyResult, winner: WinnerEstimate) -> Iterator[str]:
    metric, recorded = said(result.metric), number(winner.recorded)
    confirmation = read_confirmation(result)
    for line in [] if confirmation is None else confirmed(confirmation):
        yield f"Trained again from fresh seeds, {line}."
    yield f"The recorded {metric} of {name_of(winner.trial)} is {recorded} ({result.why_best})."
    if winner.expected is None:
        yield "Too few trials have reported for an estimate of what another training would reach."
        return
    yield (
        f"A recorded best is the luckiest of {plural(len(result.trials), 'trial')} and therefore "
        "promises too much. The estimate is that of a model of all trials' learning curves; its "
        "interval is widened, because a search looks where its model is optimistic. It is no "
        "proof: only trainings from fresh seeds are."
    )


def _spent(result: StudyResult) -> str:
    cost = result.cost
    return (
        f"It has cost {plural(cost.epochs, 'epoch')} in {plural(len(result.trials), 'trial')}, "
        f"and slots were held for {duration(cost.seconds)} within {duration(cost.elapsed)}."
    )


def _worth(result: StudyResult, winner: WinnerEstimate) -> Table:
    default = result.default
    lead, best = result.lead(winner.trial), name_of(winner.trial)
    before = "-" if default is None else _recorded(result, default)
    rows = [
        [best, _recorded(result, winner.trial), *_estimated(winner.expected)],
        ["default", before, *_estimated(winner.default)],
        ["gain", or_dash(lead), *_estimated(winner.gain)],
    ]
    title = f"{said(result.metric)} ({result.mode}), recorded and as the model expects it"
    shown = rows[:1] if default is None or winner.trial.is_default else rows
    return Table(title, ["", "recorded", "expected", "95% interval"], shown)


def _recorded(result: StudyResult, trial: TrialResult) -> str:
    """A trial's value, and of which epoch if that is not comparable with one of the last."""
    value = trial.metric(result.metric)
    early = value is not None and trial.state is not TrialState.COMPLETED
    return or_dash(value) + (f" at epoch {number(trial.epochs)}" if early else "")


def _estimated(estimate: Estimate | None) -> list[str]:
    if estimate is None:
        return ["-", "-"]
    _, low, high = interval(estimate.value, estimate.lower, estimate.upper)
    value, *_ = interval(estimate.value, estimate.lower, estimate.upper, digits=4)
    return [value, f"{low} to {high}"]


def _values(result: StudyResult, winner: WinnerEstimate, matters: Sequence[Importance]) -> Table:
    best, default = values_of(winner.trial), result.default
    before = {} if default is None or default is winner.trial else values_of(default)
    shares = {said(found.name): found for found in matters}
    order = [*(name for name in shares if name in best), *(n for n in best if n not in shares)]
    rows = [
        [name, best[name], *([before.get(name, "-")] if before else []), _share(shares.get(name))]
        for name in order
    ]
    columns = [name_of(winner.trial), *(["default"] if before else [])]
    head = ["hyper-parameter", *columns, "importance"]
    return Table(f"The configuration of {name_of(winner.trial)}", head, rows)


def _share(importance: Importance | None) -> str:
    if importance is None:
        return "-"
    return f"{importance.share:.2f}{' (uncertain)' if importance.uncertain else ''}"


def _front(result: StudyResult) -> Table:
    metrics = [said(objective.metric) for objective in result.objectives]
    shown: Sequence[TrialResult] = result.front[:_FRONT_SHOWN]
    names = list(dict.fromkeys(name for trial in shown for name in values_of(trial)))
    rows = [
        [
            name_of(trial),
            *(number(trial.metric(o.metric)) for o in result.objectives),
            *(values_of(trial).get(name, "-") for name in names),
        ]
        for trial in shown
    ]
    more = len(result.front) - len(shown)
    title = f"The Pareto front{f', without {more} more' if more else ''}"
    return Table(title, ["trial", *metrics, *names], rows)


def _next(result: StudyResult, winner: WinnerEstimate | None) -> Iterator[Command]:
    """What to do next, the most urgent first."""
    folder = shlex.quote(said(shortest(result.record.parent)))
    state, failed = state_of(result), sum(trial.state in FAILURES for trial in result.trials)
    has_pipeline = (result.record.parent / PIPELINE_FILE).is_file()
    if state == "running":
        again = f"itwinai hpo report {folder}"
        yield Command(f"The study still runs ({standing(result)}). Report again later:", again)
    if failed > _MANY_FAILURES * len(result.trials):
        what = f"{plural(failed, 'trial')} failed, so look at the failures first:"
        yield Command(what, f"itwinai hpo show {folder}")
    if state == "interrupted" and has_pipeline:
        yield Command("The study is not at its end. Go on with it:", f"itwinai hpo resume {folder}")
    if not has_pipeline:
        yield Command("Read the values back in the program that started the study:", _read(result))
    elif winner is not None:
        yield from _confirm(result, winner, folder)


def _confirm(result: StudyResult, winner: WinnerEstimate, folder: str) -> Iterator[Command]:
    default = result.default
    known = read_confirmation(result)
    untried = known is None or winner.trial.number not in known.candidates
    if untried and default is not None and default.number != winner.trial.number:
        prove = f"itwinai hpo confirm {folder}"
        yield Command("Prove its worth by trainings from fresh seeds, beside the default:", prove)
    if winner.verdict == "open" and state_of(result) == "finished":
        more = max(8, len(result.trials) // 2)
        yield Command("Or search on:", f"itwinai hpo extend {folder} --trials {more}")
    if len(result.objectives) == 1:
        export = f"itwinai hpo export {folder} --format config -o best.yaml"
        yield Command("Write the configuration that trains the best:", export)


def _read(result: StudyResult) -> str:
    folder, what = said(shortest(result.record.parent)), "best.params"
    what = "front" if len(result.objectives) > 1 else what
    return f"from itwinai.hpo import load_study; load_study({folder!r}).{what}"
