"""``python -m itwinai.hpo.engine.membership``: wait until enough nodes have joined a cluster.

A program of its own, so that the one that waits needs no Ray and can give up.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import ray

from itwinai.io.files import write_text

_INTERVAL_S = 0.2


def main(arguments: Sequence[str]) -> None:
    """Connect once there is an address, and return when enough nodes are alive."""
    parser = argparse.ArgumentParser(description="Wait for the nodes of a Ray cluster.")
    parser.add_argument("address", type=Path, help="file that will hold the address of the head")
    parser.add_argument("members", type=Path, help="file to keep the names of the nodes in")
    parser.add_argument("nodes", type=int, help="how many nodes to wait for")
    options = parser.parse_args(arguments)
    while not options.address.exists():
        time.sleep(_INTERVAL_S)
    address = options.address.read_text()
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    names: list[str] = []
    while len(names) < options.nodes:
        now = sorted(str(node["NodeName"]) for node in ray.nodes() if node["Alive"])
        if now != names:
            names = now
            write_text(options.members, json.dumps(names))
        time.sleep(_INTERVAL_S)


if __name__ == "__main__":
    main(sys.argv[1:])
