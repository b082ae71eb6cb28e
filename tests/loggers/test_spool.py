"""A spool: calls in a file, in order, until they are taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from itwinai.loggers.spool import Spool, SpoolError, SpoolInUseError, spools_in

FIRST = {"call": "run", "name": "one"}


def call(number: int, **more: Any) -> dict[str, Any]:
    return {"call": "metric", "step": number, **more}


def drained(spool: Spool) -> list[Any]:
    found = []
    while some := spool.untaken():
        found += [one for one, _ in some]
        spool.take(some[-1][1])
    return found


def test_calls_come_in_order_and_once_also_after_another_opening(tmp_path: Path) -> None:
    spool = Spool.made(tmp_path / "unsent", FIRST)
    calls = [FIRST, *(call(number, text="x" * 100) for number in range(3000))]
    for one in calls[1:]:
        spool.append(one)
    some = spool.untaken()
    assert 1 < len(some) < len(calls)  # memory never holds them all
    spool.take(some[9][1])
    spool.close()
    again = Spool(spool.folder)
    assert again.first() == FIRST
    assert list(again.all_untaken()) == calls[10:]
    assert list(again.all()) == calls
    assert drained(again) == calls[10:]
    assert drained(again) == []
    again.append(call(-1))
    assert drained(again) == [call(-1)]
    again.delete()
    again.close()
    assert not (tmp_path / "unsent").exists()


def test_a_call_of_any_length_and_characters(tmp_path: Path) -> None:
    spool = Spool.made(tmp_path / "unsent", FIRST)
    odd = "\n\r\x0b\u2028\x00\ud800é" + "y" * 500_000
    spool.append(call(1, text=odd))
    spool.append(call(2, value=float("inf")))
    assert drained(spool) == [FIRST, call(1, text=odd), call(2, value=float("inf"))]
    spool.close()


def test_a_torn_line_is_no_call(tmp_path: Path) -> None:
    spool = Spool.made(tmp_path / "unsent", FIRST)
    with open(spool.folder / "calls.jsonl", "a") as file:
        file.write('{"call": "met')
    assert drained(spool) == [FIRST]
    spool.close()


FULL = """
import resource, signal, sys
from pathlib import Path
from itwinai.loggers.spool import Spool

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool.made(Path(sys.argv[1]), {"call": "run"})
spool.append({"call": "metric", "step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for text in ("x" * 5000, "y" * 5000):
    try:
        spool.append({"call": "metric", "text": text})
    except OSError:
        print("full")
spool.append({"call": "metric", "step": 2})
print([call.get("step") for call in spool.all()])
"""


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "unsent")], capture_output=True, text=True
    )
    assert done.stdout == "full\nfull\n[None, 1, 2]\n", done.stderr


def test_who_has_it_has_it_alone(tmp_path: Path) -> None:
    spool = Spool.made(tmp_path / "unsent", FIRST)
    with pytest.raises(SpoolInUseError, match="a process that still runs"):
        Spool(spool.folder)
    reader, writer = os.pipe()
    forked = os.fork()
    if forked == 0:  # as a loader's worker, which has the spool's file as long as it lives
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    spool.close()
    Spool(spool.folder).close()
    os.close(writer)
    os.waitpid(forked, 0)
    os.close(reader)


def test_files_are_copies_that_vanish_when_they_are_taken(tmp_path: Path) -> None:
    spool = Spool.made(tmp_path / "unsent", FIRST)
    source = tmp_path / "model"
    source.mkdir()
    (source / "a.bin").write_text("a")
    names = [spool.keep(source / "a.bin"), spool.keep(source), spool.keep(source / "a.bin")]
    (source / "a.bin").write_text("changed")
    files = [spool.kept(name) for name in names]
    assert [file.name for file in files] == ["a.bin", "model", "a.bin"]
    assert files[0].read_text() == (files[1] / "a.bin").read_text() == "a"
    spool.forget(names[0])
    assert [file.exists() for file in files] == [False, True, True]
    for name in ("calls.jsonl", "../one", "/etc/hosts", "files", "files/.."):
        with pytest.raises(SpoolError, match="is no file of this spool"):
            spool.kept(name)
    spool.close()


def test_spools_are_found_oldest_first_and_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "unsent"
    made = [Spool.made(folder, FIRST) for _ in range(5)]
    assert spools_in(folder) == [spool.folder for spool in made]
    assert spools_in(made[0].folder) == [made[0].folder]
    assert {path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())} == {0o700}
    for spool in made:
        spool.delete()
        spool.close()
    assert spools_in(folder) == []
