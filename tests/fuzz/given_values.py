"""Values that somebody may write where another one is meant."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

#: Text that YAML, OmegaConf, a file system or Python take for something else.
ODD_TEXT = [
    *("", " ", ".", "..", "-", "~", "null", "no", "1e-3", "0x10", "12:00:00", "NaN", "inf", "1_0"),
    *("???", "${x}", "${oc.env:NOWHERE}", "${", "$HOME", "a.b", "a=b", "x/../../y", "s3://b/x"),
    *("__tuple__", "__outside__", "lambda: 0", "a\nb", "\x00", "\x1b[31m", "\ud800", "ä" * 300),
]
TEXT = st.sampled_from(ODD_TEXT) | st.text(max_size=12)
INTEGERS = st.integers(-5, 5) | st.integers() | st.sampled_from([2**53 + 1, 10**18, 10**400])
NUMBERS = INTEGERS | st.floats() | st.floats(0, 10)
SCALARS = (
    st.none() | st.booleans() | NUMBERS | TEXT | st.binary(max_size=3) | st.just(date(2026, 1, 1))
)
VALUES: SearchStrategy[Any] = st.recursive(
    SCALARS | st.just(Path("x")),
    lambda part: (
        st.lists(part, max_size=3)
        | st.tuples(part)
        | st.dictionaries(TEXT | st.integers(-2, 2) | st.none(), part, max_size=3)
    ),
    max_leaves=6,
)


def some_of(**keys: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    """Some of these keys with values that mostly fit, sometimes with any value or an odd key."""
    fitting = st.fixed_dictionaries({}, optional=keys)
    odd = st.dictionaries(st.sampled_from([*keys]) | TEXT, VALUES, max_size=2)
    return st.builds(lambda one, other: one | other, fitting, st.just({}) | odd)
