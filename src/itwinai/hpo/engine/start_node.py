"""``python -m itwinai.hpo.engine.start_node FILE OPTIONS``: ``ray start``, once there is a head.

FILE will hold the head's address. Ray takes seconds to load, which a node does meanwhile.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ray.scripts.scripts import main as ray_command


def main(file: str, options: Sequence[str]) -> None:
    """Join the cluster whose head's address will be in a file."""
    while not Path(file).exists():
        time.sleep(0.1)
    sys.argv = ["ray", "start", f"--address={Path(file).read_text()}", *options]
    ray_command()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
