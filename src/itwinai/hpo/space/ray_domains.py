"""Ray Tune's search-space objects, read into ours and written from ours.

The classes come from ``ray.tune.search.sample``, where Ray's own search adapters take them from.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from itwinai.hpo.space.domains import Choice, Parameter


def read_domain(form: Any) -> dict[str, Any] | None:
    """Return the YAML form of a Ray Tune domain, or None if ``form`` is none that can be read."""
    if "ray" not in sys.modules:  # nobody can hold one of its objects
        return None
    from ray.tune.search import sample

    if isinstance(form, sample.Categorical):
        return {"type": "choice", "categories": list(form.categories)}
    if not isinstance(form, sample.Float | sample.Integer) or form.sampler is None:
        return None
    sampler, quantum = form.sampler, None
    if isinstance(sampler, sample.Quantized):
        sampler, quantum = sampler.sampler, sampler.q
    if not isinstance(sampler, sample.Uniform | sample.LogUniform):
        return None
    # Steps of 1 change a real range, but not an integer one.
    quantised = quantum is not None and not (quantum == 1 and isinstance(form, sample.Integer))
    names = {
        (sample.Float, False): "uniform",
        (sample.Float, True): "loguniform",
        (sample.Integer, False): "randint",
        (sample.Integer, True): "lograndint",
    }
    name = names[type(form), isinstance(sampler, sample.LogUniform)]
    lower, upper = form.lower, form.upper
    if not quantised:
        return {"type": name, "lower": lower, "upper": upper}
    if isinstance(form, sample.Integer):
        # Ray's integers are multiples of q, ours steps from the lower bound.
        lower, upper = -(-lower // quantum) * quantum, upper // quantum * quantum
    return {"type": f"q{name}", "lower": lower, "upper": upper, "q": quantum}


def write_domains(space: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return a space as Ray Tune's ``Searcher`` objects expect it."""
    from ray import tune

    domains = {}
    for name, parameter in space.items():
        if isinstance(parameter, Choice):
            domains[name] = tune.choice(list(parameter.categories))
            continue
        form = parameter.describe()
        kind = form.pop("type")
        domains[name] = getattr(tune, kind)(**form)
    return domains
