"""Plain data as YAML that all who read it take alike."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Quotes a text that some reader, of whatever version of YAML, takes for something else."""


# OmegaConf and YAML 1.2 read 1e3 as a number, and 0o17; others take y and n for true and false.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[\d_]+\.?[\d_]*|\.[\d_]+)[eE][-+]?\d+$|0o[0-7]+$"),
    list("-+.0123456789"),
)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("[yYnN]$"), list("yYnN"))


def as_yaml(content: Any) -> str:
    """Write plain data as YAML, in its order."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
