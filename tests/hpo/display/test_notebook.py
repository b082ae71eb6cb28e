"""A study in a notebook: what it says and draws, and that nothing of a study becomes markup."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hand_driven import ask, build_study, simulate

from itwinai.hpo import load_study
from itwinai.hpo.display.summary import summary
from itwinai.hpo.launch import plan_study
from itwinai.hpo.planning import plan_cost
from itwinai.hpo.trial import TrialState

SPACE = {"lr": {"type": "loguniform", "lower": 1e-4, "upper": 1.0}}
HOSTILE = "<img src=x onerror=alert(1)>\"'&amp;\u202e"
#: All that the HTML is made of.
PLAIN = {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "svg", "path"}


class Fragment(HTMLParser):
    """The elements of some HTML and the texts of its cells."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag in ("th", "td", "caption"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data

    @property
    def paths(self) -> list[list[tuple[float, float]]]:
        """The points of each curve."""
        paths = [attrs["d"] or "" for tag, attrs in self.elements if tag == "path"]
        drawn = [path.partition("L")[2] for path in paths]
        return [
            [(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", path)]
            for path in drawn
        ]


def curve(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
    return {"validation_loss": params["lr"] + 1 / epoch}


def html_of(shown: Any) -> Fragment:
    return Fragment(shown._repr_html_())


def test_it_says_what_the_summary_says(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, 9, {"lr": 0.5}, num_samples=14, scheduler="asha")
    simulate(study, curve)
    result = load_study(study.directory)
    said = html_of(result).cells
    lines = str(summary(result)).splitlines()
    outcome = lines[: next(i for i, line in enumerate(lines) if line.startswith("checkpoint"))]
    told = [cell for line in outcome for cell in (line[:12].strip(), line[12:])]
    assert said[: len(told)] == told
    assert any(cell.startswith("expected gain") for cell in told)


def test_the_best_ten_have_their_curves_at_one_scale(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, 4, {"lr": 0.5}, num_samples=14)
    result = load_study(simulate(study, curve).record)
    shown = html_of(result)
    assert len(shown.paths) == 10
    assert {len(points) for points in shown.paths} == {4}
    ends = [points[-1] for points in shown.paths]
    assert {x for x, _ in ends} == {98}
    heights = [y for _, y in ends]
    assert heights == sorted(heights, reverse=True)  # the lower a loss, the better
    assert result.best is not None
    numbers = [cell for cell in shown.cells if re.fullmatch(r"trial \d+( \(default\))?", cell)]
    assert (numbers[0], len(numbers)) == (f"trial {result.best.number}", 10)


def test_nothing_of_a_study_is_markup(tmp_path: Path) -> None:
    name = HOSTILE.replace("\u202e", "")
    space = {**SPACE, name: {"type": "choice", "categories": [HOSTILE, "plain"]}}
    default = {"lr": 0.5, name: HOSTILE}
    study = build_study(tmp_path, space, 2, default, num_samples=4)
    study.tell(ask(study).number, TrialState.FAILED, HOSTILE)
    simulate(study, curve)
    html = load_study(study.directory)._repr_html_()
    shown = Fragment(html)
    assert {tag for tag, _ in shown.elements} <= PLAIN
    assert not any(name.startswith("on") for _, attrs in shown.elements for name in attrs)
    assert "\u202e" not in html
    assert any(cell.startswith("<img src=x onerror=alert(1)>") for cell in shown.cells)
    assert re.findall(r"color\s*:|#[0-9a-f]{3}", html) == []


def test_a_study_without_an_epoch_is_shown_too(tmp_path: Path) -> None:
    study = build_study(tmp_path, SPACE, 2)
    assert "study" in html_of(load_study(study.directory)).cells
    ask(study)
    shown = html_of(load_study(study.directory))
    study.close()
    assert (shown.paths, "running" in shown.cells) == ([], True)


def test_a_plan_shows_itself_with_the_lines_of_its_text(tmp_path: Path) -> None:
    from itwinai.hpo.config import StudyConfiguration
    from itwinai.hpo.space import SearchSpace

    configuration = StudyConfiguration(storage_path=tmp_path, num_samples=4, mode="min")
    cost = plan_cost(plan_study(configuration, SearchSpace.parse(SPACE), 4, None), [{"CPU": 2.0}])
    lines = str(cost).splitlines()
    told = [cell for line in lines for cell in (line[:12].strip(), line[12:])]
    assert html_of(cost).cells == told
