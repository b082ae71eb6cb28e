"""Temporary folders go with their processes, or with the next one after a kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from itwinai.io.files import temporary_folder

HOLDER = """
import sys
from pathlib import Path
from itwinai.io.files import temporary_folder
with temporary_folder(Path(sys.argv[1]), "work_") as folder:
    (folder / "token").write_text("secret")
    print(folder, flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(place: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A folder that another process has."""
    command = [sys.executable, "-c", HOLDER, str(place)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield Path(process.stdout.readline().strip()), process


def test_a_killed_processs_folder_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "work_link").symlink_to(tmp_path)
    with held(tmp_path) as (living, _), held(tmp_path) as (dead, process):
        process.kill()
        process.wait()
        assert (dead / "token").exists()
        with temporary_folder(tmp_path, "work_") as own:
            assert own.is_dir()
            assert not dead.exists()
            assert (living / "token").exists()
    assert not own.exists()
    assert not living.exists()
    assert (tmp_path / "work_link").is_symlink()
