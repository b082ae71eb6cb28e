"""Tell the known vulnerabilities of what is installed here.

Ends with 1 if there are some, and with 0 if there are none or no index of advisories answers, which
it says: who is offline shall be able to run all else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory

#: Seconds for one answer, and for all of them.
_ONE_S, _ALL_S = "15", 600


def verdict(report: str) -> tuple[int, str]:
    """The exit code and what to say, of a report of pip-audit's in JSON; empty: there is none."""
    known = json.loads(report)["dependencies"] if report else []
    audited = [one for one in known if "vulns" in one]
    found = [
        f"{one['name']} {one['version']}: {vuln['id']}; "
        f"mended in {', '.join(vuln['fix_versions']) or 'no version yet'}"
        for one in audited
        for vuln in one["vulns"]
    ]
    if found:
        return 1, "\n".join(["audit: known vulnerabilities", *found])
    if not audited:
        return 0, "audit: no index of advisories answers, so nothing was audited"
    return 0, f"audit: no known vulnerability in {len(audited)} of {len(known)} packages"


def installed() -> list[str]:
    """What is installed, as requirements; ``2.13.0+cpu`` has the advisories of 2.13.0."""
    pairs = {(one.metadata["Name"], one.version.partition("+")[0]) for one in distributions()}
    return sorted(f"{name}=={version}" for name, version in pairs if name != "itwinai")


def audited(requirements: list[str]) -> str:
    """Let pip-audit ask for these; return its report, or nothing if it could make none."""
    with TemporaryDirectory() as folder:
        wanted, report = Path(folder, "requirements.txt"), Path(folder, "report.json")
        wanted.write_text("\n".join(requirements))
        command = [
            *(sys.executable, "-m", "pip_audit", "--progress-spinner=off", f"--timeout={_ONE_S}"),
            *("--no-deps", "--disable-pip", "--format=json"),
            *(f"--requirement={wanted}", f"--output={report}"),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_ALL_S)
        except subprocess.TimeoutExpired:
            return ""
        if "No module named pip_audit" in done.stderr:
            sys.exit("audit: pip-audit is missing. It comes with: pip install -e '.[dev]'")
        return report.read_text() if report.exists() else ""


if __name__ == "__main__":
    code, said = verdict(audited(installed()))
    print(said)  # noqa: T201
    sys.exit(code)
