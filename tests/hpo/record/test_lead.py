"""By how much a trial leads the default: told of two trainings to the end, and of no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hand_driven import build_study, simulate

from itwinai.hpo import StudyResult, report_study


def studied(folder: Path, **settings: Any) -> StudyResult:
    """The default is much worse after the first epoch, and hardly in the end."""
    sign = -1 if settings.get("mode") == "max" else 1
    return simulate(
        build_study(folder, default={"x": 1.0}, metric="score", **settings),
        lambda params, epoch: {"score": sign * (params["x"] / epoch**2 + 1)},
        slots=1,
    )


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_lead_is_positive_for_the_better_trial(tmp_path: Path, mode: str) -> None:
    result = studied(tmp_path, mode=mode)
    assert result.best is not None
    assert result.lead(result.best) == pytest.approx((1 - result.best.params["x"]) / 16)


def test_an_early_value_of_the_default_is_compared_with_no_late_one(tmp_path: Path) -> None:
    threshold = {"name": "threshold", "worst": 1.99, "grace_period": 1}
    result = studied(tmp_path, scheduler=threshold, default_first="stop_early")
    assert result.best is not None
    assert result.default is not None
    assert result.default.epochs == 1
    assert result.lead(result.best) is None
    page = report_study(result, file=tmp_path / "page.html").read_text()
    assert re.search(r">gain</\w+>\s*<td[^>]*>-</td>", page)
