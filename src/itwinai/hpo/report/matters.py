"""Which hyper-parameters matter."""

from __future__ import annotations

from collections.abc import Sequence

from itwinai.hpo.insight import Importance
from itwinai.hpo.record import StudyResult
from itwinai.hpo.report import charts
from itwinai.hpo.report.parts import Chart, Section, Table, said, scored

#: Hyper-parameters that are drawn at most.
_MOST = 30
_READINGS = ("by the model", "with equal priors")


def importance(result: StudyResult, matters: Sequence[Importance]) -> Section:
    """How much each hyper-parameter matters, in two readings."""
    shown = matters[:_MOST]
    rows = [
        {"a": said(found.name), "v": round(share, 4), "r": reading, "t": _told(found)}
        for found in shown
        for reading, share in zip(_READINGS, (found.share, found.equal), strict=True)
    ]
    caption = (
        f"Share of the variance of {said(result.metric)} that each hyper-parameter has a hand in"
    )
    return Section(
        key="importance",
        title="Importance",
        lead=_lead(matters, few=len(scored(result)) < 2),
        notes=[
            "Total Sobol indices of a model of all trials, the stopped ones included; "
            "interactions count for each that takes part. The first reading expects a learning "
            "rate to matter more, the second expects nothing. Where the two disagree, the trials "
            "have not settled it. Those of one rank are not told apart. With few trials the order "
            "is a hint, no proof.",
            f"By a model that leaves it open, {shown[0].explained:.0%} of the variance over the "
            "whole space is not luck; where that is little, nothing is settled.",
        ]
        if shown
        else [],
        charts=[Chart(caption, charts.importance(len(shown)), rows)] if rows else [],
        data=Table(
            caption,
            ["rank", "hyper-parameter", *_READINGS, ""],
            [[str(f.rank), said(f.name), *_shares(f), "uncertain" * f.uncertain] for f in matters],
        ),
    )


def _lead(matters: Sequence[Importance], few: bool) -> str:
    if not matters and few:
        return "Too few trials have reported to say which hyper-parameter matters."
    if not matters:
        return "The trials show no difference that a hyper-parameter would have made."
    first = [f"{said(found.name)} ({found.share:.0%})" for found in matters if found.rank == 1]
    unsure = [said(found.name) for found in matters if found.uncertain]
    rest = f"; uncertain: {', '.join(unsure)}" if unsure else ""
    if len(first) > 1:
        return f"The trials do not tell which of these matters most: {', '.join(first)}{rest}."
    name, share = said(matters[0].name), matters[0].share
    if matters[0].uncertain:
        return f"It is not settled what matters most: the model takes it for {name}{rest}."
    return f"{name} matters most, with {share:.0%} of the variance{rest}."


def _told(found: Importance) -> str:
    share, equal = _shares(found)
    unsure = ", uncertain" if found.uncertain else ""
    return f"{said(found.name)}: {share}, with equal priors {equal}{unsure}"


def _shares(found: Importance) -> tuple[str, str]:
    return f"{found.share:.2f}", f"{found.equal:.2f}"
