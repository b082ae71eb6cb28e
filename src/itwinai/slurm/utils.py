"""Of programs written for itwinai 0.4."""

from __future__ import annotations

from textwrap import dedent


def remove_indentation_from_multiline_string(multiline_string: str) -> str:
    """Remove the indentation that all lines share, and blank lines around them."""
    return dedent(multiline_string).strip("\n")
