"""Reads the files that W&B writes offline, record by record, with wandb's own message types.

Such a file is a log of LevelDB's format: a header, then blocks of 32 KiB with pieces of records.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FILE_HEADER, _BLOCK, _PIECE_HEADER = 7, 32768, 7
_LAST_PIECES = (1, 4)  # whole records, and the last ones of several


@dataclass
class OfflineRun:
    """What one file tells of its run."""

    id: str = ""
    name: str = ""
    group: str = ""
    project: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    exit_code: int | None = None


def runs_in(savedir: Path) -> list[OfflineRun]:
    """Read all runs, the oldest first."""
    import wandb

    wandb.teardown()  # waits for its service, which writes on after the end of a run
    files = sorted(savedir.glob("wandb/offline-run-*/run-*.wandb"), key=lambda f: f.parent.name)
    return [read_run(file) for file in files]


def read_run(file: Path) -> OfflineRun:
    from wandb.proto.wandb_internal_pb2 import Record

    run = OfflineRun()
    for content in _records(file.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            said = record.run
            run.id, run.name, run.project = said.run_id, said.display_name, said.project
            run.group, run.tags = said.run_group, list(said.tags)
            run.config |= _items(said.config.update)
        elif kind == "config":
            run.config |= _items(record.config.update)
        elif kind == "history":
            items = _items(record.history.item)
            run.history.append({k: v for k, v in items.items() if not k.startswith("_")})
        elif kind == "summary":
            run.summary |= _items(record.summary.update)
        elif kind == "artifact":
            run.artifacts.append(record.artifact.name)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _items(items: Any) -> dict[str, Any]:
    return {
        item.key or ".".join(item.nested_key): json.loads(item.value_json)
        for item in items
        if item.key != "_wandb"
    }


def _records(data: bytes) -> Iterator[bytes]:
    assert data[:4] == b":W&B"
    at, record = _FILE_HEADER, b""
    while at + _PIECE_HEADER <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _PIECE_HEADER:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + _PIECE_HEADER])
        at += _PIECE_HEADER
        record += data[at : at + length]
        at += length
        if kind in _LAST_PIECES:
            yield record
            record = b""
