"""The audit of what is installed: it fails for a vulnerability, and for nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / ".ci" / "audit.py"

GOOD = {"name": "numpy", "version": "2.0.0", "vulns": []}
BAD = {
    "name": "torch",
    "version": "2.5.1",
    "vulns": [{"id": "PYSEC-2025-41", "fix_versions": ["2.6.0"], "aliases": [], "description": ""}],
}
UNKNOWN = {"name": "absl-py", "skip_reason": "Dependency not found on PyPI"}


@pytest.fixture(scope="module")
def audit() -> Any:
    spec = spec_from_file_location("audit", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ([GOOD, BAD], 1, "torch 2.5.1: PYSEC-2025-41; mended in 2.6.0"),
        ([GOOD, UNKNOWN], 0, "audit: no known vulnerability in 1 of 2 packages"),
        ([UNKNOWN], 0, "audit: no index of advisories answers, so nothing was audited"),
        (None, 0, "audit: no index of advisories answers, so nothing was audited"),
    ],
)
def test_the_verdict(
    audit: Any, dependencies: list[dict[str, Any]] | None, code: int, said: str
) -> None:
    report = "" if dependencies is None else json.dumps({"dependencies": dependencies, "fixes": []})
    assert audit.verdict(report)[0] == code
    assert audit.verdict(report)[1].endswith(said)


def test_without_a_network_it_says_so_and_fails_nothing() -> None:
    pytest.importorskip("pip_audit")
    nowhere = {
        **os.environ,
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, str(FILE)], env=nowhere, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (
        0,
        "audit: no index of advisories answers, so nothing was audited\n",
    )
