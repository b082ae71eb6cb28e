"""Constraints between hyper-parameters: expressions such as ``batch_size * width <= 4096``."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from itwinai.errors import ConfigurationError, did_you_mean

#: What an expression may consist of: no calls, no subscripts, nothing that runs code.
_ALLOWED = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub),
    *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod),
    *(ast.Name, ast.Load, ast.Constant, ast.Tuple, ast.List),
)


class Constraint:
    """A condition on the values of a trial.

    Args:
        text: A Python comparison of parameters and constants; dots in names are allowed.

    Raises:
        ConfigurationError: If it is not such an expression.

    Example:
        >>> Constraint("model.width % 8 == 0").holds({"model.width": 12})
        False
    """

    def __init__(self, text: str) -> None:
        self.text = text
        tree = _Names().visit(_parsed(text))
        forbidden = next((n for n in ast.walk(tree) if not isinstance(n, _ALLOWED)), None)
        if forbidden is not None:
            raise ConfigurationError(
                f"study.constraints: {text!r}: only comparisons, arithmetic, and, or, not and in "
                f"are allowed, got {type(forbidden).__name__}"
            )
        names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
        self.names = tuple(dict.fromkeys(names))
        self._code = compile(ast.fix_missing_locations(tree), "constraint", "eval")

    def check_names(self, known: Iterable[str]) -> None:
        """Refuse an unknown name.

        Raises:
            ConfigurationError: With what was probably meant.
        """
        known = list(known)
        for name in self.names:
            if name not in known:
                hint = did_you_mean(name, known) or f"; known names: {', '.join(known)}"
                raise ConfigurationError(
                    f"study.constraints: {self.text!r}: {name!r} is not in the search space{hint}"
                )

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Tell whether it holds; it does if one of its parameters does not exist.

        Raises:
            ConfigurationError: If values of these kinds cannot be compared.
        """
        if any(name not in params for name in self.names):
            return True
        try:
            return bool(eval(self._code, {"__builtins__": {}}, dict(params)))
        except (TypeError, ZeroDivisionError) as error:
            raise ConfigurationError(f"study.constraints: {self.text!r}: {error}") from None


class _Names(ast.NodeTransformer):
    """Reads ``model.width`` as one name."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Name(ast.unparse(node), ast.Load())


def _parsed(text: str) -> ast.Expression:
    try:
        return ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ConfigurationError(
            f"study.constraints: {text!r}: not an expression ({error.msg})"
        ) from None
