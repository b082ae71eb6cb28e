"""Comments ``#:`` above a field as its text in the reference: an extension of Griffe."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from griffe import Attribute, Docstring, Extension, ObjectNode

_MARK = "#:"


class FieldComments(Extension):
    """Gives an attribute that has no text of its own the comment above it."""

    def on_attribute_instance(
        self, *, node: ast.AST | ObjectNode, attr: Attribute, **_: Any
    ) -> None:
        """Read the comment, once the attribute is known."""
        path = attr.filepath
        if attr.docstring is None and attr.lineno is not None and isinstance(path, Path):
            lines = attr.lines_collection[path][: attr.lineno - 1]
            comment: list[str] = []
            while lines and lines[-1].strip().startswith(_MARK):
                comment.insert(0, lines.pop().strip().removeprefix(_MARK).strip())
            if comment:
                attr.docstring = Docstring("\n".join(comment), parent=attr)
