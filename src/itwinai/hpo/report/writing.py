"""Writing the report of studies: one file that needs nothing else and lets nothing else in."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itwinai.errors import ConfigurationError, MissingPackageError
from itwinai.hpo.insight import WinnerEstimate, diagnose, estimate_winner, importances
from itwinai.hpo.record import StudyResult, load_study, plain, state_of
from itwinai.hpo.report import answer, comparison, effort, matters, trials, values, weak_points
from itwinai.hpo.report.library import bundled
from itwinai.hpo.report.parts import Chart, Section, said
from itwinai.io.files import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

#: What the page may do: run its own script, use its own style, and nothing else.
_POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; base-uri 'none'; "
    "form-action 'none'"
)


@dataclass(frozen=True)
class _Part:
    """A study's part of the page."""

    key: str
    title: str
    state: str
    sections: Sequence[Section]


def report_study(*studies: StudyResult | str | Path, file: str | Path) -> Path:
    """Write one page of HTML about a study, or several side by side.

    The page is read from the records alone, also while a study runs. It needs no network, and
    its content-security policy allows none. A file that is there already is replaced.

    Args:
        studies: Studies, or their folders.
        file: Where to.

    Returns:
        The file.

    Raises:
        ConfigurationError: If there is no study to report.
        MissingPackageError: Without the packages of ``itwinai[report]``.
        StudyError: As of :func:`itwinai.hpo.load_study`.
    """
    if not studies:
        raise ConfigurationError("report_study: give it at least one study, or its folder.")
    results = [study if isinstance(study, StudyResult) else load_study(study) for study in studies]
    write_text(Path(file), page(results))
    return Path(file)


def page(results: Sequence[StudyResult]) -> str:
    """Return the page about some studies."""
    environment = _environment()
    winners = [estimate_winner(result) for result in results]
    parts = [
        _Part(f"study{index}", said(result.name), state_of(result), _sections(result, winner))
        for index, (result, winner) in enumerate(zip(results, winners, strict=True), start=1)
    ]
    above = [comparison.comparison(results, winners)] if len(results) > 1 else []
    every = [section for part in parts for section in part.sections]
    script, style = (_source(environment, name) for name in ("draw.js", "page.css"))
    script = bundled(script)
    return environment.get_template("page.html").render(
        policy=_POLICY.format(script=_digest(script), style=_digest(style)),
        script=script,
        style=style,
        title=" and ".join(part.title for part in parts),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        above=above,
        parts=parts,
        **_drawn([*above, *every]),
    )


def _sections(result: StudyResult, winner: WinnerEstimate | None) -> list[Section]:
    known = importances(result)
    return [
        answer.answer(result, winner, known),
        weak_points.diagnosis(result, diagnose(result)),
        trials.history(result),
        trials.curves(result),
        values.parallel(result, known),
        matters.importance(result, known),
        values.slices(result, known),
        *([trials.pareto(result)] if len(result.objectives) > 1 else []),
        effort.timeline(result),
        effort.failures(result),
        effort.cost(result),
        effort.origin(result),
    ]


def _drawn(sections: Sequence[Section]) -> Mapping[str, Any]:
    """The charts as the page's program reads them: each with the number of its rows."""
    shown: list[Chart] = [chart for section in sections for chart in section.charts]
    rows: dict[int, tuple[int, Sequence[Mapping[str, Any]]]] = {}
    for chart in shown:
        rows.setdefault(id(chart.data), (len(rows), chart.data))
    specs = [{"spec": chart.spec, "rows": rows[id(chart.data)][0]} for chart in shown]
    numbers = {id(chart): number for number, chart in enumerate(shown)}
    return {
        "number_of": lambda chart: numbers[id(chart)],
        "data": _for_script({"charts": specs, "rows": [values for _, values in rows.values()]}),
    }


def _for_script(value: Any) -> str:
    """JSON in which nothing can end the element that it stands in."""
    text = json.dumps(plain(value), separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingPackageError(
            "a report needs more packages: pip install 'itwinai[report]'"
        ) from error
    return Environment(
        loader=PackageLoader("itwinai.hpo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _digest(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
