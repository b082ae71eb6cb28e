"""A study as one page of HTML: what to use, whether it is better, what it cost, what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.report.writing import report_study

__all__ = ["report_study"]

__getattr__ = lazily(__name__, {"writing": "report_study"})
