"""Makes the pictures of a report: ``python docs/images/make_report_pictures.py``.

Runs the study of ``examples/digits``, reports it, and takes pictures of the page in a headless
Chromium: the top in light and dark, and the whole width of a phone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "digits"
ITWINAI = [sys.executable, "-m", "itwinai"]
VIEWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 860, "height": 1090}},
    "dark": {"viewport": {"width": 860, "height": 620}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 720}},
}
#: The section at the top of each picture.
PLACES = {"light": "h1", "dark": "section.curves", "phone": "section.parallel"}


def main() -> None:
    """Run the study, report it, and take the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "digits")
        shutil.copytree(EXAMPLE, work, ignore=shutil.ignore_patterns("studies", "__pycache__"))
        subprocess.run([*ITWINAI, "hpo", "run", "--config-name", "study"], cwd=work, check=True)
        subprocess.run([*ITWINAI, "hpo", "report", "studies/digits"], cwd=work, check=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for name in VIEWS:
                take(browser, work / "report.html", name)
            browser.close()


def take(browser: Browser, page: Path, name: str) -> None:
    """Save one picture."""
    tab = browser.new_page(**VIEWS[name])
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-drawn]", state="attached")
    tab.locator(PLACES[name]).evaluate("place => place.scrollIntoView()")
    tab.screenshot(path=HERE / f"report-{name}.png")
    tab.close()


if __name__ == "__main__":
    main()
