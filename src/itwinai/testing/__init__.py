"""Tests that itwinai ships, for what users write themselves."""

from itwinai.testing.strategies import BrokenRuleError, check_strategy

__all__ = ["BrokenRuleError", "check_strategy"]
