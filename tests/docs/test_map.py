"""The map of the architecture page, held against the tree."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePath

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "itwinai"
PAGE = ROOT / "docs" / "architecture.md"


def section(heading: str) -> str:
    """A section of the page, up to the next heading of its rank."""
    return PAGE.read_text().split(f"\n{heading}\n")[1].split("\n## ")[0]


def named_in(section: str) -> Counter[str]:
    """The folders of the table's first column with their files, and the faces below the table."""
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    named: Counter[str] = Counter()
    for folder, *cells in rows[2:]:
        where = PurePath(folder.strip("`"))
        named[f"{where}/"] += 1
        named.update(str(where / file) for file in re.findall(r"`([\w/]+\.py)`", " ".join(cells)))
    named.update(faces_in(section))
    return named


def faces_in(section: str) -> list[str]:
    """The faces that the paragraph about them names."""
    return re.findall(r"`itwinai/([\w/]+(?:\.py|/))`", section)


def there_are() -> set[str]:
    """The folders and files of the package; a folder stands for its ``__init__.py``."""
    files = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    folders = {f"{path.parent}/" for path in files}
    return folders | {str(path) for path in files if path.name != "__init__.py"}


def test_every_folder_and_file_is_on_the_map_once() -> None:
    named = named_in(section("## The map"))
    assert there_are() - set(named) == set()  # missing on the map
    assert set(named) - there_are() == set()  # gone from the tree
    assert {name for name, times in named.items() if times > 1} == set()


def test_a_map_that_is_wrong_is_noticed() -> None:
    text = (
        "| in | what | files |\n| --- | --- | --- |\n| `a/` | x | `b.py`, `c.py` (`d`), `b.py` |\n"
    )
    named = named_in(f"{text}\nA face is: `itwinai/e.py`, `itwinai/f/`.\n")
    assert named == {"a/": 1, "a/b.py": 2, "a/c.py": 1, "e.py": 1, "f/": 1}


def test_a_face_says_so_in_its_first_line() -> None:
    faces = faces_in(section("## The map"))
    assert faces
    for face in (face for face in faces if face.endswith(".py")):
        first = (PACKAGE / face).read_text().splitlines()[0]
        assert first.startswith('"""Face of ')
        assert "0.4" in first
