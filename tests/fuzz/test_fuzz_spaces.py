"""Search spaces of any kind: refused, or searched and recorded as they were written."""

from __future__ import annotations

import json
from typing import Any

from given_values import NUMBERS, SCALARS, TEXT, VALUES, some_of
from hypothesis import given
from hypothesis import strategies as st
from refusing import taken

from itwinai.hpo.space import SearchSpace, from_json, to_json
from itwinai.hpo.space.forms import FORMS
from itwinai.hpo.space.values import same

NAMES = st.sampled_from(["optim_lr", "batch_size", "model.width", "x"]) | TEXT
LISTS = st.lists(SCALARS, max_size=4) | st.lists(VALUES, max_size=4)
FORM = some_of(
    type=st.sampled_from([*FORMS]),
    lower=NUMBERS,
    upper=NUMBERS,
    log=st.booleans(),
    step=NUMBERS,
    q=NUMBERS,
    base=NUMBERS,
    categories=LISTS,
    value=VALUES,
    default=SCALARS,
    grid_search=LISTS,
    only_if=st.dictionaries(NAMES, LISTS, max_size=2),
)
RANGE = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["uniform", "loguniform", "randint", "lograndint", "float", "int"]),
        "lower": NUMBERS,
        "upper": NUMBERS,
    },
    optional={"step": NUMBERS, "log": st.booleans()},
)
CHOICE = st.fixed_dictionaries({"type": st.just("choice"), "categories": LISTS})
SPACE = st.dictionaries(NAMES, RANGE | CHOICE | FORM | VALUES, min_size=1, max_size=3) | VALUES


@given(SPACE)
def test_a_search_space(forms: Any) -> None:
    space = taken(lambda: SearchSpace.parse(forms))
    if space is not None:
        taken(lambda: check_is_kept(space))


def check_is_kept(space: SearchSpace) -> None:
    """A record gives the space and its values back as they are."""
    kept = json.loads(json.dumps(to_json(space.describe())))
    again = SearchSpace.parse(from_json(kept))
    assert same(again.describe(), space.describe())
    for name, domain in space.items():
        for position in (0.0, 0.3, 1.0):
            value = domain.at(position)
            assert domain.contains(value), (domain, value)
            assert 0 <= domain.position(value) <= 1
            stored = json.loads(json.dumps(domain.encode(value)))
            assert same(again[name].decode(stored), value)
