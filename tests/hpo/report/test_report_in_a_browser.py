"""The report in a real browser: it draws, asks nobody for anything, and everybody can read it.

Needs Debian's package ``chromium``, or another Chromium on the path.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from hand_driven import ask, build_study, simulate
from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import Page as Tab

from itwinai.hpo import report_study
from itwinai.hpo.trial import TrialState

SPACE = {
    "optim_lr": {"type": "loguniform", "lower": 1e-4, "upper": 1.0},
    "optim.name['x']\\": {"type": "choice", "categories": ["<b>sgd</b>", "adam"]},
    "width": {"type": "randint", "lower": 8, "upper": 257},
}
DEFAULT = {"optim_lr": 0.5, "optim.name['x']\\": "adam", "width": 16}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")


def curve(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
    loss = (math.log10(params["optim_lr"]) + 2) ** 2 + 1 / epoch
    return {"validation_loss": loss, "latency": float(params["width"])}


@dataclass
class Visit:
    """A page that was opened, and what it did."""

    tab: Tab
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, file: Path) -> Visit:
        self.tab.on("console", lambda message: self.messages.append(message.text))
        self.tab.on("pageerror", lambda error: self.messages.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(file.as_uri())
        self.tab.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)
        return self


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies, one with two objectives and failures, so that every kind of chart is there."""
    folder = tmp_path_factory.mktemp("studies")
    one = build_study(folder, SPACE, 9, DEFAULT, name="one", scheduler="asha", num_samples=20)
    simulate(one, curve)
    goals = {"metric": ["loss", "latency"], "mode": ["min", "min"]}
    two = build_study(folder, SPACE, 4, DEFAULT, name="two", num_samples=12, **goals)
    two.tell(ask(two).number, TrialState.FAILED, "ValueError: <img src=x onerror=alert(1)>")
    simulate(two, curve)
    return report_study(one.directory, two.directory, file=folder / "page.html")


@pytest.fixture(scope="module", params=["light", "dark"])
def visit(request: pytest.FixtureRequest, browser: Browser, file: Path) -> Iterator[Visit]:
    visit = Visit(browser.new_page(color_scheme=request.param)).open(file)
    yield visit
    visit.tab.close()


def test_all_charts_are_drawn_without_a_message_or_a_request(visit: Visit, file: Path) -> None:
    assert visit.messages == []
    assert visit.requests == [file.as_uri()]
    drawn = "all => all.filter(one => one.querySelector('.role-mark path, .role-mark line')).length"
    places = visit.tab.locator("[data-chart]").count()
    assert places == 24
    assert visit.tab.eval_on_selector_all("[data-chart]", drawn) == places


def test_nothing_keeps_anybody_from_reading_it(visit: Visit) -> None:
    visit.tab.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    found = Axe().run(visit.tab).response["violations"]
    assert [(problem["id"], problem["impact"], problem["help"]) for problem in found] == []


def test_text_of_the_charts_has_the_colour_of_the_theme(visit: Visit) -> None:
    ink = visit.tab.evaluate("getComputedStyle(document.body).color")
    fill = visit.tab.eval_on_selector(".chart svg text", "text => getComputedStyle(text).fill")
    assert fill == ink


def test_a_point_tells_which_trial_it_is_and_a_key_opens_the_table(
    browser: Browser, file: Path
) -> None:
    tab = Visit(browser.new_page()).open(file).tab
    tab.locator("section.history .role-mark.mark-symbol path").first.hover(force=True)
    tab.wait_for_selector("#vg-tooltip-element.visible")
    assert "trial 0 (default)" in tab.inner_text("#vg-tooltip-element")
    tab.locator("section.history summary").first.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("section.history details[open] tbody tr").count() == 20
    tab.close()


def test_it_fits_a_phone(browser: Browser, file: Path) -> None:
    tab = Visit(browser.new_page(viewport={"width": 360, "height": 740})).open(file).tab
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    tab.close()


def test_no_number_is_folded_on_a_phone(browser: Browser, file: Path) -> None:
    """0.0279 above 1 would be read as another number than 0.02791."""
    tab = Visit(browser.new_page(viewport={"width": 360, "height": 740})).open(file).tab
    folded = """() => [...document.querySelectorAll("section.answer td")].filter(cell => {
      const range = document.createRange();
      range.selectNodeContents(cell);
      return !isNaN(cell.textContent) && range.getClientRects().length > 1;
    }).map(cell => cell.textContent)"""
    assert tab.evaluate(folded) == []
    tab.close()


def test_the_policy_stops_what_is_not_the_page_s_own(browser: Browser, file: Path) -> None:
    visit = Visit(browser.new_page()).open(file)
    foreign = "document.createElement('script')"
    visit.tab.evaluate(
        f"() => {{ const s = {foreign}; s.textContent = 'window.foreign = 1';"
        " document.body.append(s); }"
    )
    with visit.tab.expect_event("requestfailed") as failed:
        visit.tab.evaluate("() => { new Image().src = 'https://example.org/x.png'; }")
    assert visit.tab.evaluate("window.foreign") is None
    assert failed.value.failure == "csp"
    visit.tab.close()
