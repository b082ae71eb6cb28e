"""How often ``itwinai hpo confirm`` claims what is not so, finds what is so, and what it costs.

Simulated studies whose winner is better than the default by some deviations of the noise between
seeds. Run it from the project's root:

    python -m benchmarks.confirm --studies 2000 --json confirm.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from itwinai.hpo.insight.confirming import LOOKS, sequential_gain

#: Gains in deviations of the noise.
GAINS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)


def simulate(gain: float, studies: int, seed: int) -> dict[str, Any]:
    """Confirm so many studies' winners that are better by ``gain`` deviations."""
    rng = np.random.default_rng([seed, int(10 * gain)])
    claims, reruns, covered = 0, 0, 0
    for _ in range(studies):
        candidate = rng.normal(gain, 1.0, LOOKS[-1])
        default = rng.normal(0.0, 1.0, LOOKS[-1])
        found = sequential_gain(candidate.tolist(), default.tolist(), "max")
        assert found is not None
        claims += found.verdict == "better"
        reruns += 2 * found.reruns
        covered += found.low <= gain <= found.high
    return {
        "gain": gain,
        "says_better": claims / studies,
        "reruns": reruns / studies,
        "interval_covers": covered / studies,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [simulate(gain, arguments.studies, arguments.seed) for gain in GAINS]
    for row in rows:
        print("  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps({"studies": arguments.studies, "rows": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
