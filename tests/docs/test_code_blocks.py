"""The documentation says what is true: its code runs, its commands and links lead somewhere."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from page_program import RUN, SHOWN, Command, blocks_of, commands_of, programs_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md"]
EXAMPLE = ROOT / "examples" / "digits"
PROGRAM = Path(__file__).with_name("page_program.py")

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")
_CODE = re.compile(r"^```.*?^```", re.M | re.S)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


#: Pages that take long to run.
LONG = (
    *("command-line", "from-lightning", "from-optuna", "from-ray-tune", "from-transformers"),
    *("without-pytorch", "hpo-from-scratch", "from-a-plain-pytorch-script", "first-study"),
    *("from-torch-trainer-to-ray-torch-trainer", "any-function"),
    *("report", "diagnosis", "planning", "index"),
)

#: What a page needs that the tests' environment has not: it takes hundreds of megabytes.
EXTRA = {"from-transformers": "transformers"}


def _run_pages() -> list[Any]:
    """The pages; some take long, and what they show has tests of its own."""
    long = {f"docs/{name}.md" for name in LONG}
    exhaustive = [pytest.mark.exhaustive]
    return [
        pytest.param(p, id=named(p), marks=exhaustive if named(p) in long else []) for p in PAGES
    ]


@pytest.mark.parametrize("page", _run_pages())
def test_all_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    if page.stem in EXTRA:
        pytest.importorskip(EXTRA[page.stem])
    folder = tmp_path / "digits"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("studies", "__pycache__"))
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(page)],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.parametrize("page", TEXTS, ids=named)
def test_every_block_says_what_it_is(page: Path) -> None:
    unknown = [(b.line, b.language) for b in blocks_of(page) if b.language not in RUN | SHOWN]
    assert not unknown, f"lines and languages that no test runs: {unknown}"


@pytest.mark.parametrize("page", TEXTS, ids=named)
def test_commands_use_known_programs(page: Path) -> None:
    blocks = blocks_of(page)
    run = set(programs_of([block for block in blocks if block.language == "console"]))
    checked = set(programs_of([block for block in blocks if block.language == "bash"]))
    assert run <= {"itwinai", "python", "ls"}
    assert checked <= {
        *("cd", "git", "make", "pip", "python3", "source"),
        *(".venv/bin/pre-commit", ".venv/bin/python"),
    }


@pytest.mark.parametrize("page", TEXTS, ids=named)
def test_make_targets_and_extras_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = page.read_text()
    targets = set(re.findall(r"`make ([a-z-]+)", text))
    targets |= {c.text.split()[1] for c in bash_commands(page) if c.text.startswith("make ")}
    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, re.M))
    extras = ",".join(re.findall(r"(?:itwinai|\.)\[([a-z,]+)\]", text))
    assert {*extras.split(","), ""} - {""} <= set(project["optional-dependencies"])
    for index in re.findall(r"--index-url (\S+)", text):
        assert f"TORCH_INDEX ?= {index}" in makefile


def test_the_readme_names_all_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "README.md").read_text()
    assert [name for name in project["optional-dependencies"] if f"`{name}`" not in text] == []


def test_the_readme_shows_the_difference_between_training_and_study() -> None:
    train, study = ((EXAMPLE / f"{name}.yaml").read_text() for name in ("train", "study"))
    real = difflib.unified_diff(
        train.splitlines(), study.splitlines(), "train.yaml", "study.yaml", lineterm="", n=1
    )
    (block,) = (b for b in blocks_of(ROOT / "README.md") if b.language == "diff")
    assert block.text.splitlines() == list(real)
    changed = [line for line in block.text.splitlines()[2:] if line[0] in "+-"]
    assert len(changed) <= 12


@pytest.mark.parametrize("page", TEXTS, ids=named)
def test_links_lead_to_something(page: Path) -> None:
    text = _CODE.sub("", page.read_text())
    links = ["".join(groups) for groups in _LINK.findall(text)]
    dead = [link for link in links if "://" not in link and not leads_somewhere(page, link)]
    assert not dead


@pytest.mark.parametrize("page", TEXTS, ids=named)
def test_files_that_are_named_exist(page: Path) -> None:
    named_files = re.findall(
        r"`((?:src|tests|docs|examples|benchmarks)/[\w./-]+)`", page.read_text()
    )
    assert [name for name in named_files if not (ROOT / name).exists()] == []


def test_every_page_is_on_the_map() -> None:
    text = (ROOT / "README.md").read_text()
    pages = [named(page) for page in TEXTS[1:]]
    assert [page for page in pages if f"({page})" not in text] == []


def test_the_architecture_page_follows_the_code() -> None:
    from itwinai.hpo.engine.cluster import _QUIET_AND_LOCAL
    from itwinai.hpo.trial import TrialState

    text = (ROOT / "docs" / "architecture.md").read_text()
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    contracts = [contract["name"] for contract in tools["importlinter"]["contracts"]]
    source = ROOT / "src" / "itwinai"
    folders = [
        f"{path.relative_to(source)}/" for path in source.glob("**/") if any(path.glob("*.py"))
    ]
    facts = [
        *contracts,
        *(f"`{name}`" for name in [*_QUIET_AND_LOCAL, "RAY_TMPDIR", "RAY_AUTH_TOKEN_PATH"]),
        *(f"`{state.value}`" for state in TrialState),
        *(folder for folder in folders if folder != "./"),
    ]
    assert [fact for fact in facts if fact not in text] == []


def test_the_error_of_a_name_that_is_never_read_is_the_real_one() -> None:
    # Shown without code that raises it, because that takes a study.
    from itwinai.hpo.errors import UnusedParameterError
    from itwinai.reporting import NullReporter
    from itwinai.torch.ray.program import ReadingCheck
    from itwinai.torch.trainer import TorchTrainer

    trainer = TorchTrainer({"clip": 1.0, "clipp": 1.0}, epochs=1)
    with pytest.raises(UnusedParameterError) as raised:
        ReadingCheck(NullReporter(), trainer, ["clipp"]).report({})
    text = (ROOT / "docs" / "from-torch-trainer-to-ray-torch-trainer.md").read_text()
    assert f"UnusedParameterError: {raised.value}\n" in text


def test_contributing_fits_on_one_screen() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 45


def leads_somewhere(page: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    if not target.exists():
        return False
    return not anchor or anchor in anchors_of(target)


def anchors_of(page: Path) -> set[str]:
    """Names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", _CODE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def bash_commands(page: Path) -> list[Command]:
    return [c for b in blocks_of(page) if b.language == "bash" for c in commands_of(b)]


# -- the program that runs a page must not let mistakes pass --------------------------------------


def run(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    page = tmp_path / "page.md"
    page.write_text(text)
    command = [sys.executable, str(PROGRAM), str(page)]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", "AssertionError"),
        (
            "```python\nint('x')\n```\n\n```text\nValueError: no\n```\n",
            "raised ValueError: invalid",
        ),
        ("```python\nx = 1\n```\n\n```text\nValueError: no\n```\n", "raised nothing"),
        ("```python\nx = 1\n", "never closed"),
        ("```console\n$ python -c 'print(1)'\n2\n```\n", "not in the output: 2"),
        ("```console\n$ python -c 'raise SystemExit(3)'\n```\n", "SystemExit(3)'"),
        ("```yaml\nstudy: {nmae: x}\n```\n", "nmae"),
        ("```yaml\nstudy: {scheduler: {name: asha, grace: 1}}\n```\n", "asha).grace"),
        ("```yaml\nsearch_space: {x: {type: uniforn}}\n```\n", "did you mean 'uniform'"),
        ("```yaml\nanything: 1\n```\n", "nothing checks anything"),
        ('```yaml title="x.yaml"\na: 1\n```\n', "no pipeline 'training_pipeline'"),
    ],
)
def test_a_wrong_page_fails(tmp_path: Path, text: str, complaint: str) -> None:
    done = run(tmp_path, text)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_a_right_page_passes(tmp_path: Path) -> None:
    text = (
        '```python title="mine.py"\nx = 1\n```\n'
        "```python\nimport mine\nraise ValueError(f'it is {mine.x}')\n```\n\n"
        "```text\nValueError: it is 1\n```\n"
        "```console\n$ python -c 'print(\"one  two three\")'\none two ...\n```\n"
        "```console\n$ python -c 'import time; print(1, flush=True); time.sleep(60)'\n1\n^C\n"
        "error: anything\n```\n"
    )
    done = run(tmp_path, text)
    assert "not in the output: error: anything" in done.stderr
    assert "KeyboardInterrupt" in done.stdout
