"""How sure it is that a node is slow: rates of false alarms and of hits, by simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from itwinai.hpo.study.slowness import Pace, slowness

STUDIES = 200


def named(
    rng: np.random.Generator, nodes: int, trials: int, slow: float, spread: float, hidden: bool
) -> str | None:
    """Which node, if any, a simulated study first calls slow; node 0 is so many times as slow.

    The costs of configurations differ by a factor of ``spread``; they depend on one of three
    hyper-parameters, or, if that is hidden, on none.
    """
    paces: list[Pace] = []
    for _ in range(trials):
        node = str(rng.integers(nodes))
        point = rng.random(3)
        cost = spread ** (rng.random() if hidden else point[0])
        seconds = cost * (slow if node == "0" else 1.0) * math.exp(0.05 * rng.normal())
        paces.append(Pace(node, seconds, point))
        found = slowness(node, paces)
        if found is not None and found.ratio >= 2 and found.least >= 1.5:
            return node
    return None


def alarms(nodes: int, trials: int, slow: float, spread: float, hidden: bool) -> list[str]:
    """The nodes that studies have named."""
    rng = np.random.default_rng(7)
    found = [named(rng, nodes, trials, slow, spread, hidden) for _ in range(STUDIES)]
    return [node for node in found if node is not None]


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("nodes", [2, 4])
def test_equal_nodes_are_hardly_ever_called_slow(nodes: int, hidden: bool) -> None:
    assert len(alarms(nodes, 40, slow=1.0, spread=10, hidden=hidden)) <= 0.01 * STUDIES


@pytest.mark.parametrize(
    ("spread", "hidden", "trials", "least"),
    [(1, False, 16, 0.95), (10, False, 40, 0.95), (3, True, 40, 0.8)],
)
def test_a_slow_node_is_found(spread: float, hidden: bool, trials: int, least: float) -> None:
    found = alarms(2, trials, slow=3.0, spread=spread, hidden=hidden)
    assert set(found) == {"0"}
    assert len(found) >= least * STUDIES


def test_a_few_trials_or_another_speed_tell_nothing() -> None:
    point = np.zeros(1)
    fast, slow = Pace("a", 1.0, point), Pace("b", 4.0, point)
    assert slowness("b", [fast, fast, fast, slow, slow]) is None
    assert slowness("b", [fast, fast, slow, slow, slow]) is None
    found = slowness("b", [fast, fast, fast, slow, slow, slow])
    assert found is not None
    assert (found.ratio, found.trials, found.others, found.nodes) == (
        pytest.approx(4.0),
        3,
        3,
        1,
    )


def test_what_only_one_node_has_trained_is_not_blamed_on_it() -> None:
    """Where the hyper-parameters tell which node it was, they do not explain it away either."""
    rng = np.random.default_rng(0)
    paces = [
        Pace("ab"[index % 2], math.exp(rng.normal()), np.array([float(index % 2)]))
        for index in range(40)
    ]
    found = slowness("b", paces)
    assert found is not None
    assert found.least < 1.5
