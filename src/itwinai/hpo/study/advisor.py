"""What a model of whole learning curves says: what to try next, and which trial to use."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from itwinai.hpo.search import Algorithm
from itwinai.hpo.study.memory import Memory

#: Of so many of the best trials a model may recommend another one than the one with the best value.
_CANDIDATES = 5


def candidates_of(algorithm: Algorithm) -> int:
    """How many of the best trials may be the one that is recommended in the end."""
    return 1 if algorithm.proposer is None else _CANDIDATES


class Advisor:
    """Shows the study's trials to its search algorithm's model, if that has one.

    Args:
        algorithm: Who proposes.
        memory: The trials.
    """

    def __init__(self, algorithm: Algorithm, memory: Memory) -> None:
        self._model = algorithm.proposer
        self._memory = memory

    def proposal(self) -> dict[str, Any] | None:
        """Values of the next trial; None where the sampler proposes."""
        if self._model is None:
            return None
        return self._model.propose(list(self._memory.observations().values()))

    def recommendation(self, usable: Collection[int]) -> int | None:
        """Number of the completed trial that the model would use, if it has a view.

        Args:
            usable: Trials that have kept their checkpoints: one of them, if any is completed.
        """
        if self._model is None:
            return None
        known = self._memory.observations()
        numbers, observations = list(known), list(known.values())
        own = [i for i, seen in enumerate(observations) if seen.finished and numbers[i] >= 0]
        own = [i for i in own if numbers[i] in usable] or own
        best = sorted(own, key=lambda index: observations[index].curve[-1])[:_CANDIDATES]
        index = self._model.recommend(observations, best)
        return None if index is None else numbers[index]
