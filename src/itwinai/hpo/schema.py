"""JSON schema of what users write about a study, for editors that check YAML as it is typed."""

from __future__ import annotations

from typing import Any

from itwinai.hpo import space_forms
from itwinai.hpo.config import StudyConfiguration


def json_schema() -> dict[str, Any]:
    """Return the schema of a pipeline file.

    It checks ``study`` and ``search_space``, of the steps of each pipeline or at the top of the
    file, and leaves everything else alone.
    """
    study = StudyConfiguration.model_json_schema()
    space = space_forms.json_schema()
    sections = {"study": _or_interpolation("study"), "search_space": _or_interpolation("space")}
    step = {"$ref": "#/$defs/step"}
    return {
        "$schema": space.pop("$schema"),
        "title": "itwinai pipelines",
        "type": "object",
        "properties": sections,
        "additionalProperties": {"$ref": "#/$defs/pipeline"},
        "$defs": {
            **space.pop("$defs"),
            **study.pop("$defs", {}),
            "study": study,
            "space": space,
            "step": {"properties": sections},
            "pipeline": {
                "properties": {
                    "steps": {"additionalProperties": step, "items": step},
                }
            },
        },
    }


def _or_interpolation(name: str) -> dict[str, Any]:
    """A section may also be written elsewhere in the file."""
    return {"if": {"type": "object"}, "then": {"$ref": f"#/$defs/{name}"}}
