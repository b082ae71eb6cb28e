"""JSON schema of what users write about a study, for editors that check YAML as it is typed."""

from __future__ import annotations

from typing import Any

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.space.forms import FORMS, GridSearchForm


def json_schema() -> dict[str, Any]:
    """Return the schema of a pipeline file.

    It checks ``study`` and ``search_space``, of the steps of each pipeline or at the top of the
    file, and leaves everything else alone.
    """
    study = StudyConfiguration.model_json_schema()
    space = space_schema()
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


def space_schema() -> dict[str, Any]:
    """Return the schema of a search space alone: each name has one of the forms, or a value."""
    definitions: dict[str, Any] = {}
    for kind, form in FORMS.items():
        schema = form.model_json_schema()
        schema["properties"] = {"type": {"const": kind}, **schema["properties"]}
        schema["required"] = ["type", *schema.get("required", [])]
        definitions[kind] = schema
    definitions["grid_search"] = GridSearchForm.model_json_schema()
    forms = [{"$ref": f"#/$defs/{name}"} for name in definitions]
    constant = {"type": ["string", "number", "boolean", "null"]}
    nested = {
        "type": "object",
        "not": {"anyOf": [{"required": ["type"]}, {"required": ["grid_search"]}]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "search_space",
        "type": "object",
        "additionalProperties": {"anyOf": [*forms, constant, nested]},
        "$defs": definitions,
    }
