"""What the report of a study weighs, and how long a reader waits for it.

The studies are those of the scale benchmark, of simulated workers. Reading and writing are told in
seconds of one core. Each page is opened in a headless Chromium (Debian's ``chromium``); these times
are the reader's, from its opening on.

    python -m benchmarks.report --json report.json
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from benchmarks.scale import Driver, Machine, open_study
from itwinai.hpo import load_study, report_study

WORKERS = 50
#: How long the first click had to wait, in milliseconds.
FIRST_INPUT = """new Promise(done => new PerformanceObserver(list => {
    const [input] = list.getEntries();
    done(input.processingStart - input.startTime);
}).observe({type: "first-input", buffered: true}))"""


def main() -> None:
    options = _options()
    logging.getLogger("optuna").setLevel(logging.WARNING)
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for trials in options.trials:
            file = Path(folder, f"{trials}.html")
            written = write(Path(folder, str(trials)), trials, file)
            opened = [opening(browser, file) for _ in range(options.repeats)]
            times = {kind: median(each[kind] for each in opened) for kind in opened[0]}
            rows.append({"trials": trials, "bytes": file.stat().st_size, **written, **times})
        browser.close()
    print(table(rows))
    if options.json is not None:
        options.json.write_text(json.dumps(report(rows, options.repeats), indent=2) + "\n")


def write(folder: Path, trials: int, file: Path) -> dict[str, float]:
    """Run a study, report it; return the seconds of reading and of writing."""
    study = open_study(folder, trials)
    Machine(Driver(study), WORKERS, [trials]).run()
    study.close()
    begin = time.process_time()
    result = load_study(study.directory)
    read = time.process_time()
    report_study(result, file=file)
    return {"read_s": read - begin, "write_s": time.process_time() - read}


def opening(browser: Browser, file: Path) -> dict[str, float]:
    """Seconds until a page can be read, answers a click while it draws, and has drawn all."""
    tab = browser.new_page()
    tab.goto(file.as_uri(), wait_until="domcontentloaded")
    tab.mouse.click(5, 5)
    tab.wait_for_selector("html[data-drawn]", state="attached", timeout=300_000)
    drawn = float(tab.evaluate("performance.now()"))
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    painted, waited = float(tab.evaluate(paint)), float(tab.evaluate(FIRST_INPUT))
    tab.close()
    return {"painted_s": painted / 1000, "waited_s": waited / 1000, "drawn_s": drawn / 1000}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 5000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| trials | MB | to read, s | to write, s | first paint, s | a click waits, s | drawn, s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['trials']:,} | {row['bytes'] / 1e6:.2f} | {row['read_s']:.2f} | "
        f"{row['write_s']:.2f} | {row['painted_s']:.2f} | {row['waited_s']:.2f} | "
        f"{row['drawn_s']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def report(rows: list[dict[str, Any]], repeats: int) -> dict[str, Any]:
    """All figures, with what they were measured on."""
    packages = ("itwinai", "optuna", "vl-convert-python")
    return {
        "benchmark": "report",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": len(os.sched_getaffinity(0)), "architecture": platform.machine()},
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in packages},
        "repeats": repeats,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
