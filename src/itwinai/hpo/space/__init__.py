"""What is searched: domains, the space they make, and how users write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.space.domains import Choice, Float, Integer, Parameter
    from itwinai.hpo.space.ray_domains import write_domains
    from itwinai.hpo.space.schema import json_schema
    from itwinai.hpo.space.search_space import SearchSpace
    from itwinai.hpo.space.values import from_json, to_json

__all__ = [
    "Choice",
    "Float",
    "Integer",
    "Parameter",
    "SearchSpace",
    "from_json",
    "json_schema",
    "to_json",
    "write_domains",
]

__getattr__ = lazily(
    __name__,
    {
        "domains": "Choice Float Integer Parameter",
        "search_space": "SearchSpace",
        "ray_domains": "write_domains",
        "schema": "json_schema",
        "values": "from_json to_json",
    },
)
