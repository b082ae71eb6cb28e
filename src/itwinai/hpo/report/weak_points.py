"""What holds the study back, and the remedies."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from itwinai.hpo.insight import Finding
from itwinai.hpo.record import StudyResult
from itwinai.hpo.report.parts import Command, Section, Table, said


def diagnosis(result: StudyResult, findings: Sequence[Finding]) -> Section:
    """The findings about the study, each with its cost and remedy."""
    count = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}"
    folder = shlex.quote(str(result.record.parent))
    write = Command(
        "Write the remedies as a change of the configuration",
        said(f"itwinai hpo diagnose {folder} --patch patch.yaml"),
    )
    return Section(
        key="diagnosis",
        title="Diagnosis",
        lead=f"{count}, each with its evidence."
        if findings
        else "The record gives no evidence of anything to mend.",
        tables=[
            Table(
                "What holds the study back",
                ["finding", "evidence", "cost", "remedy"],
                [[f.kind, said(f.evidence), said(f.cost), said(f.remedy)] for f in findings],
            )
        ]
        if findings
        else [],
        commands=[write] if any(finding.patch for finding in findings) else [],
    )
