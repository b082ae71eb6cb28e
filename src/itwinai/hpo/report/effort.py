"""What the study did: the use of its slots, failures, cost; and how to repeat it."""

from __future__ import annotations

import heapq
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import accumulate, groupby
from typing import Any

from itwinai.errors import one_line
from itwinai.hpo.display.summary import OTHER_ENDS, duration, name_of
from itwinai.hpo.display.words import number, plural
from itwinai.hpo.insight.spending import CORE_WATTS, GPU_WATTS, spent_by
from itwinai.hpo.record import PIPELINE_FILE, Attempt, StudyResult
from itwinai.hpo.report import charts
from itwinai.hpo.report.parts import (
    MOST_POINTS,
    Chart,
    Command,
    Row,
    Section,
    Table,
    said,
    value_of,
)
from itwinai.hpo.space import SearchSpace
from itwinai.hpo.trial import FAILURES, NVML, RAPL, TrialResult, TrialState, epochs_as_kept
from itwinai.io.files import shortest

#: Attempts that are drawn one by one; beyond, the number of slots in use is drawn at so many times.
_BARS, _TIMES = 400, 300
_FAILED = (*FAILURES, TrialState.DIVERGED)
_SOURCES = (RAPL, NVML)
_TRACEBACK = re.compile(r"(?: \(|, )traceback: [^()]*(?=\)$)")
_UNITS = ((2 * 86400, 86400, "days"), (2 * 3600, 3600, "hours"), (120, 60, "minutes"))


@dataclass(frozen=True)
class _Use:
    """The use of the slots: times are in a unit since the first attempt began.

    Attributes:
        attempts: Each with its slot.
        slots: How many slots there were.
        begin: When the first attempt began, in seconds since 1970.
        seconds: Length of the unit.
        unit: Its name.
    """

    attempts: Sequence[tuple[Attempt, int]]
    slots: int
    begin: float
    seconds: float
    unit: str

    @classmethod
    def of(cls, attempts: Sequence[Attempt]) -> _Use:
        """Give each attempt a slot, and choose the unit."""
        places = _packed(attempts)
        begin = min((attempt.began for attempt in attempts), default=0.0)
        end = max((attempt.ended for attempt in attempts), default=0.0)
        known = ((s, word) for least, s, word in _UNITS if end - begin >= least)
        seconds, unit = next(known, (1.0, "seconds"))
        slots = max(places, default=-1) + 1
        return cls(list(zip(attempts, places, strict=True)), slots, begin, seconds, unit)

    def at(self, time: float) -> float:
        """A time in the unit."""
        return (time - self.begin) / self.seconds


def timeline(result: StudyResult) -> Section:
    """When which slot was used."""
    use = _Use.of(result.attempts)
    spent = sum(attempt.seconds for attempt in result.attempts)
    room = result.slot_seconds
    share = spent / room if room else 0.0
    chart, data = _together(use) if len(use.attempts) > _BARS else _one_by_one(use, result)
    return Section(
        key="timeline",
        title="Use of the slots",
        lead=f"At most {plural(use.slots, 'slot')} ran at once, and {share:.0%} of their time was "
        f"used ({duration(room - spent)} of slots idle).",
        notes=[
            "Each trial is put into the first slot that was free. Times in which nothing ran, as "
            "between runs, do not count as idle; a run has as many slots as were in use at once."
        ],
        charts=[chart] if use.attempts else [],
        data=data,
    )


def failures(result: StudyResult) -> Section:
    """What went wrong, by kind and message."""
    failed = [trial for trial in result.trials if trial.state in _FAILED]
    keyed = sorted(failed, key=lambda trial: (_FAILED.index(trial.state), _cause(trial)))
    groups = [
        (state, list(trials))
        for (state, _), trials in groupby(keyed, lambda t: (t.state, _cause(t)))
    ]
    groups.sort(key=lambda group: -len(group[1]))
    kinds = [state for state in _FAILED if any(trial.state is state for trial in failed)]
    counts = [f"{sum(t.state is kind for t in failed)} {OTHER_ENDS[kind]}" for kind in kinds]
    lead = f"{len(failed)} of {plural(len(result.trials), 'trial')} have no result: "
    return Section(
        key="failures",
        title="Failures",
        lead=f"{lead}{', '.join(counts)}." if failed else "No trial failed or diverged.",
        tables=[
            Table(
                "By kind and message, the most frequent first",
                ["kind", "trials", "first", "message"],
                [
                    [state.value, str(len(trials)), str(trials[0].number), _message(trials[0])]
                    for state, trials in groups[:50]
                ],
            )
        ]
        if failed
        else [],
    )


def cost(result: StudyResult) -> Section:
    """What the trials have cost, by how they ended."""
    spent = result.cost
    own = {state: [t for t in result.trials if t.state is state] for state in TrialState}
    held = {state: _attempts_at(result, trials) for state, trials in own.items()}
    saved = spent.full_epochs - spent.epochs
    share = f"{saved / spent.full_epochs:.0%}" if saved > 0 else "none"
    stopped = duration(sum(attempt.seconds for attempt in held[TrialState.STOPPED]))
    rows = [
        [
            state.value,
            str(len(trials)),
            number(epochs_as_kept(sum(attempt.epochs for attempt in held[state]))),
            duration(sum(attempt.seconds for attempt in held[state])),
        ]
        for state, trials in own.items()
        if trials
    ]
    total = ["all", str(len(result.trials)), number(spent.epochs), duration(spent.seconds)]
    return Section(
        key="cost",
        title="Cost",
        lead=f"{plural(spent.epochs, 'epoch')} were trained in {duration(spent.elapsed)}, {share} "
        f"fewer than without early stopping; {stopped} of slots went into trials that it ended.",
        notes=[
            "Epochs that were trained again after an interruption count twice, and those that a "
            "copy began with count for its parent alone."
        ],
        tables=[
            Table("By state", ["state", "trials", "epochs", "slots held"], [*rows, total]),
            _held(result),
        ],
        data=_measured(result),
    )


def _held(result: StudyResult) -> Table:
    """Hours of cores and GPUs, and energy: what was measured, and apart from it an estimate."""
    spent = spent_by(result)
    rule = f"at {CORE_WATTS:g} W a core and {GPU_WATTS:g} W a GPU"
    by_hours = [
        ["hours of cores", number(spent.core_hours, 3)],
        ["hours of GPUs", number(spent.gpu_hours, 3)],
        ["energy that was not measured", f"about {number(spent.estimated_kwh, 3)} kWh, {rule}"],
    ]
    rows = [
        *([label, "not recorded" if spent.unknown else text] for label, text in by_hours),
        ["energy of processors and memory", _kwh(spent.rapl_kwh, RAPL)],
        ["energy of GPUs", _kwh(spent.nvml_kwh, NVML)],
    ]
    return Table("What the trials held and used", ["", ""], rows)


def _kwh(energy: float, source: str) -> str:
    return f"{number(energy, 3)} kWh, measured by {source}" if energy else "not measured"


def _measured(result: StudyResult) -> Table | None:
    """The energy of each trial, if any was measured."""
    rows = [
        [
            str(trial.number),
            *(number(trial.energy[s], 4) if s in trial.energy else "-" for s in _SOURCES),
        ]
        for trial in result.trials[:MOST_POINTS]
        if trial.energy
    ]
    head = ["trial", *(f"joules by {source}" for source in _SOURCES)]
    return Table("Energy of each trial, as it was measured", head, rows) if rows else None


def origin(result: StudyResult) -> Section:
    """Where the study came from, and how to repeat it."""
    folder = shlex.quote(said(shortest(result.record.parent)))
    seeds = {trial.seed for trial in result.trials}
    facts = {
        "record": said(shortest(result.record)),
        "objectives": ", ".join(f"{said(o.metric)} ({o.mode})" for o in result.objectives),
        "epochs of a full training": str(result.epochs),
        "trials planned": str(result.total),
        "seed of a training": _seeds(seeds),
        "threads of a process": "not recorded" if result.threads is None else str(result.threads),
        "this report is by": f"itwinai {version('itwinai')}",
    }
    space = [[said(name), said(_domain(result.space, name))] for name in result.space]
    space += [["constraint", said(constraint)] for constraint in result.constraints]
    has_pipeline = (result.record.parent / PIPELINE_FILE).is_file()
    return Section(
        key="origin",
        title="How to repeat it",
        lead="The record holds values, seeds and metrics of all trials"
        + (
            ", and the study's folder the pipeline that it ran."
            if has_pipeline
            else "; the program that started the study is not part of it."
        ),
        notes=[] if result.starts else ["The record does not tell how its runs were started."],
        tables=[
            Table("The study", ["", ""], [[key, value] for key, value in facts.items()]),
            *([_starts(result)] if result.starts else []),
            Table("The search space", ["hyper-parameter", "values"], space),
        ],
        commands=list(_repeat(result, folder)) if has_pipeline else [],
    )


def _starts(result: StudyResult) -> Table:
    """How each run was started, and with which versions."""
    rows = [
        [
            datetime.fromtimestamp(start.time, timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            said(start.command),
            said(start.folder),
            said(start.host + (f" (job {start.job})" if start.job else "")),
            said(", ".join(f"{name} {held}" for name, held in start.versions.items())),
        ]
        for start in result.starts
    ]
    return Table("How its runs were started", ["when", "command", "in", "on", "versions"], rows)


def _repeat(result: StudyResult, folder: str) -> Iterator[Command]:
    if result.best is not None:
        line = f"itwinai hpo rerun {folder} --trial {result.best.number}"
        yield Command("Repeat the best trial to the last bit:", line)
    yield Command("All trials as a table:", f"itwinai hpo export {folder} --format csv")


def _packed(attempts: Sequence[Attempt]) -> list[int]:
    """Give each attempt, the earliest first, the first slot that is free."""
    used: list[tuple[float, int]] = []
    free: list[int] = []
    places = []
    for attempt in attempts:
        while used and used[0][0] <= attempt.began:
            heapq.heappush(free, heapq.heappop(used)[1])
        place = heapq.heappop(free) if free else len(used)
        heapq.heappush(used, (attempt.ended, place))
        places.append(place)
    return places


def _one_by_one(use: _Use, result: StudyResult) -> tuple[Chart, Table]:
    """A bar for each attempt."""
    trials = {trial.number: trial for trial in result.trials}
    there = [state for state in TrialState if any(t.state is state for t in result.trials)]
    rows: list[Row] = [
        {
            "x": use.at(attempt.began),
            "y": use.at(attempt.ended),
            "k": place,
            "s": trials[attempt.trial].state.value,
            "t": f"{name_of(trials[attempt.trial])}, {duration(attempt.seconds)}",
        }
        for attempt, place in use.attempts
    ]
    head = ["trial", "slot", f"began ({use.unit})", f"ended ({use.unit})", "node"]
    table = [
        [
            str(attempt.trial),
            str(row["k"]),
            f"{row['x']:.2f}",
            f"{row['y']:.2f}",
            said(", ".join(attempt.nodes)) or "-",
        ]
        for (attempt, _), row in zip(use.attempts, rows, strict=True)
    ]
    chart = Chart("When each trial ran", charts.slots(there, use.unit, use.slots), rows)
    return chart, Table("Times of the trials", head, table)


def _together(use: _Use) -> tuple[Chart, Table]:
    """How many slots were in use at each time."""
    end = max(attempt.ended for attempt, _ in use.attempts)
    step = (end - use.begin) / _TIMES or 1.0
    changes = [0] * (_TIMES + 1)
    for attempt, _ in use.attempts:  # it counts at the times from its begin on, before its end
        for time, change in ((attempt.began, 1), (attempt.ended, -1)):
            changes[min(math.ceil((time - use.begin) / step), _TIMES)] += change
    rows: list[Row] = [
        {"x": index * step / use.seconds, "v": count}
        for index, count in enumerate(accumulate(changes))
    ]
    caption = f"Slots in use; {len(use.attempts)} are too many to draw each trial"
    table = [[f"{row['x']:.2f}", str(row["v"])] for row in rows]
    head = [f"time ({use.unit})", "slots in use"]
    return Chart(caption, charts.busy(use.unit), rows), Table("Slots in use", head, table)


def _message(trial: TrialResult) -> str:
    return said(one_line(trial.reason, longest=500) or "no message")


def _cause(trial: TrialResult) -> str:
    """Why it failed, without the place of its own log."""
    return _TRACEBACK.sub("", trial.reason)


def _attempts_at(result: StudyResult, trials: Sequence[TrialResult]) -> list[Attempt]:
    numbers = {trial.number for trial in trials}
    return [attempt for attempt in result.attempts if attempt.trial in numbers]


def _seeds(seeds: set[int | None]) -> str:
    known = [seed for seed in seeds if seed is not None]
    return f"{known[0]}, of all trials" if len(known) == 1 else "one of its own for each trial"


def _domain(space: SearchSpace, name: str) -> str:
    described = space[name].describe()
    if "categories" in described:
        described["categories"] = _values(name, described["categories"])
    parts = [f"{key} {value}" for key, value in described.items()]
    conditions = space.conditions.get(name, {}).items()
    return ", ".join(
        [*parts, *(f"only if {p} is {_values(p, values)}" for p, values in conditions)]
    )


def _values(name: str, values: Iterable[Any]) -> str:
    """Values of a hyper-parameter, without what is secret."""
    return " or ".join(str(value_of({name: value}, name)) for value in values)
