"""``itwinai hpo diagnose`` and ``repair``: what is wrong with a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itwinai.cli.exits import clean_exit
from itwinai.cli.hpo.opening import load
from itwinai.cli.hpo.options import AsJson, StudyFolder
from itwinai.cli.output import put_text, write_json
from itwinai.errors import visible

if TYPE_CHECKING:
    from itwinai.hpo.insight import Finding


@clean_exit()
def diagnose_command(
    study: StudyFolder,
    patch: Annotated[
        Path | None,
        typer.Option(help="File to write: the remedies, as a change of the configuration in YAML."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what holds a study back, with evidence, cost and remedy; also while it runs."""
    from itwinai.hpo.insight import diagnose, merged

    result = load(study)
    findings = diagnose(result)
    changes = merged(findings)
    if patch is not None:
        put_text(_yaml_text(changes), patch)
    if as_json:
        found = [vars(finding) for finding in findings]
        write_json({"study": result.name, "findings": found, "patch": changes})
    else:
        _show_findings(findings)


@clean_exit()
def repair_command(study: StudyFolder, as_json: AsJson = False) -> None:
    """Mend a damaged record without what its damaged lines held; the damaged one is kept."""
    from itwinai.hpo.record import FILE_NAME, repair

    damages, kept = repair(study / FILE_NAME)
    if as_json:
        lines = [vars(damage) for damage in damages]
        write_json({"damaged": lines, "kept": str(kept) if damages else None})
    elif damages:
        for damage in damages:
            typer.echo(f"left out: {damage}")
        typer.echo(f"{study} is mended; the damaged record is kept as {kept}")
    else:
        typer.echo(f"{study}: nothing is damaged")


def _show_findings(findings: Sequence[Finding]) -> None:
    """Tell each finding about a study in a block of its own."""
    for finding in findings:
        typer.echo(visible(f"{finding.kind}: {finding.evidence}"))
        typer.echo(visible(f"  cost    {finding.cost}"))
        typer.echo(visible(f"  remedy  {finding.remedy}"))
        if finding.patch:
            typer.echo(visible(indent(_yaml_text(finding.patch), " " * 10).rstrip()))
    if not findings:
        typer.echo("nothing found: the record gives no evidence of anything to mend")


def _yaml_text(content: Mapping[str, Any]) -> str:
    """Write a part of a configuration as YAML."""
    from itwinai.config.writing import as_yaml
    from itwinai.hpo.record import plain

    return as_yaml(plain(content))
