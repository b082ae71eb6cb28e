"""Runs the code blocks of one documentation page, in order: ``python page_program.py PAGE``.

Each block is run as a reader would run it in one folder and one interpreter:

- ``python``: in one namespace for the whole page. Directly followed by a ``text`` block that begins
  with an error's name it must raise that error, with that text.
- ``python title="file.py"`` and ``yaml title="file.yaml"``: written to that file, which later
  blocks use; a module is imported, a pipeline is built.
- ``yaml``: read, and checked as what its keys say it is.
- ``console``: the lines after ``$`` are run, and the lines below must be in their output, where
  ``...`` stands for anything. A line ``^C`` interrupts the command once the lines above were seen.
- ``bash``: make, pip and git, which ``test_code_blocks.py`` checks without running them.

All studies of a page share one Ray, because its start takes longer than everything else.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Languages whose blocks are nothing to run: changes to a file, output and listings.
SHOWN = {"diff", "text"}
#: Languages whose blocks are run or checked.
RUN = {"bash", "console", "python", "yaml"}

#: Sections of a file for ``itwinai hpo run FILE.py:FUNCTION``.
_OF_FUNCTIONS = {"search_space", "config", "epochs", "study"}

#: Files that describe jobs, not pipelines, and the modules that read them.
_JOBS = {"slurm.yaml": "itwinai.slurm.configuration", "kubernetes.yaml": "itwinai.kubernetes"}

_FENCE = re.compile(r"^```(?P<info>.*)$")
_ERROR = re.compile(
    r"^(?:[A-Za-z_][\w.]*\.)?(?P<kind>\w+(?:Error|Interrupted)): (?P<message>.*)", re.S
)
_INTERRUPT = "^C"
_PATIENCE_S = 150


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is to be saved as, its text and first line."""

    language: str
    title: str | None
    text: str
    line: int
    #: Whether only blank lines lie between the block before and this one.
    follows_directly: bool = False


def blocks_of(page: Path) -> list[Block]:
    """Read the fenced blocks of a page."""
    blocks: list[Block] = []
    info, begin, body = None, 0, []
    between = True
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if info is None and fence:
            info, begin, body = fence["info"], number + 1, []
        elif info is not None and fence:
            language, _, rest = info.partition(" ")
            title = re.fullmatch(r'title="([^"]+)"', rest.strip())
            text = "\n".join(body) + "\n"
            blocks.append(Block(language, title and title[1], text, begin, not between))
            info, between = None, False
        elif info is not None:
            body.append(line)
        elif line.strip():
            between = True
    if info is not None:
        raise ValueError(f"{page}:{begin - 1}: this block is never closed")
    return blocks


@dataclass(frozen=True)
class Command:
    """A command of a ``console`` block and the output that the page shows."""

    text: str
    shown: tuple[str, ...]


def commands_of(block: Block) -> list[Command]:
    """Part a ``console`` block (``$``) or a ``bash`` block (each line) into commands."""
    if block.language == "bash":
        lines = (line.split("#")[0].strip() for line in block.text.splitlines())
        return [Command(line, ()) for line in lines if line]
    commands = []
    for part in re.split(r"^\$ ", block.text.replace("\\\n", ""), flags=re.M)[1:]:
        first, *shown = part.splitlines()
        commands.append(Command(first, tuple(line for line in shown if line.strip())))
    return commands


def expected_error(block: Block) -> tuple[str, str] | None:
    """Class and text of the error that a ``text`` block shows, if that is what it shows."""
    match = _ERROR.match(block.text.strip())
    return (match["kind"], match["message"]) if match else None


def shows(line: str, output: str) -> bool:
    """Whether a line of the page, in which ``...`` stands for anything, is part of the output."""
    words = [" ".join(part.split()) for part in line.strip().split("...")]
    pattern = ".*".join(re.escape(word) for word in words)
    return any(re.search(pattern, " ".join(real.split())) for real in output.splitlines())


def run_page(page: Path) -> None:
    """Run all blocks of a page in the current folder.

    Raises:
        AssertionError: If a block does not do what the page says.
    """
    sys.path.insert(0, os.getcwd())
    # What the page's code defines belongs to this program, as in a script or a notebook.
    namespace = vars(sys.modules["__main__"])
    blocks = blocks_of(page)
    for block, after in zip(blocks, [*blocks[1:], None][: len(blocks)], strict=True):
        say(f"--- {page.name}:{block.line} ({block.language})")
        began = time.monotonic()
        if block.title is not None:
            Path(block.title).write_text(block.text)
        if block.language == "python":
            error = expected_error(after) if after and _is_answer(after) else None
            _run_python(block, page, namespace, error)
        elif block.language == "yaml":
            _check_yaml(block, page)
        elif block.language == "console":
            for command in commands_of(block):
                _run_command(command, f"{page.name}:{block.line}")
        say(f"    {time.monotonic() - began:.1f} s")


def say(line: str) -> None:
    """Tell pytest, which shows it if the page fails."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _is_answer(block: Block) -> bool:
    return block.language == "text" and block.follows_directly


def _run_python(
    block: Block, page: Path, namespace: dict[str, Any], error: tuple[str, str] | None
) -> None:
    if block.title is not None:
        importlib.import_module(Path(block.title).stem)
        return
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
    if error is None:
        exec(code, namespace)
        return
    where = f"{page.name}:{block.line}"
    try:
        exec(code, namespace)
    except Exception as raised:  # noqa: BLE001 - compared with what the page says
        kind, message = type(raised).__name__, " ".join(str(raised).split())
        expected = " ".join(error[1].split())
        assert (kind, message) == (error[0], expected), f"{where}: raised {kind}: {message}"
        return
    raise AssertionError(f"{where}: raised nothing, but the page says {error[0]}")


def _check_yaml(block: Block, page: Path) -> None:
    from omegaconf import OmegaConf

    from itwinai.hpo import SearchSpace

    content = OmegaConf.to_container(OmegaConf.create(block.text))
    assert isinstance(content, dict), f"{page.name}:{block.line}: no keys"
    if block.title in _JOBS:
        importlib.import_module(_JOBS[block.title]).load(block.title)
        return
    if block.title is not None and "search_space" not in content:
        _build(block.title)
        return
    unknown = set(content) - _OF_FUNCTIONS
    assert not unknown, f"{page.name}:{block.line}: nothing checks {', '.join(unknown)}"
    any_space = {"x": {"type": "choice", "categories": [1, 2]}}
    space = SearchSpace.parse(content.get("search_space", any_space))
    if "study" in content:
        _check_study(content["study"], space)


def _check_study(study: dict[str, Any], space: Any) -> None:
    from itwinai.hpo import StudyConfiguration
    from itwinai.hpo.launch import plan_study

    plan_study(StudyConfiguration(**{"mode": "min"} | study), space, epochs=12, default=None)


def _build(name: str) -> None:
    """Compose a configuration as the command does, and build the pipeline it describes."""
    from hydra import compose, initialize_config_dir

    from itwinai.config.compose import build_pipeline

    with initialize_config_dir(os.getcwd(), version_base="1.3"):
        build_pipeline(compose(Path(name).stem))


def _run_command(command: Command, where: str) -> None:
    output = Path("output.txt")
    interrupted = _INTERRUPT in command.shown
    before = command.shown[: command.shown.index(_INTERRUPT)] if interrupted else ()
    with output.open("w") as file:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command.text}"], stdout=file, stderr=subprocess.STDOUT
        )
        if interrupted:
            _wait_for(before, output, process)
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_PATIENCE_S)
        finally:
            process.kill()
    text = output.read_text()
    say(text)
    failed = any(line.startswith("error:") for line in command.shown)
    assert (process.returncode != 0) == failed, f"{where}: {command.text}: {process.returncode}"
    for line in command.shown:
        assert line == _INTERRUPT or shows(line, text), f"{where}: not in the output: {line}"


def _wait_for(lines: tuple[str, ...], output: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not all(shows(line, output.read_text()) for line in lines):
        assert process.poll() is None, f"ended before the interrupt:\n{output.read_text()}"
        assert time.monotonic() < deadline, f"never came: {lines}\n{output.read_text()}"
        time.sleep(0.05)


def programs_of(blocks: list[Block]) -> Iterator[str]:
    """Name the program of each command."""
    for block in blocks:
        if block.language in ("bash", "console"):
            for command in commands_of(block):
                words = shlex.split(command.text)
                yield next(word for word in words if "=" not in word)


def main() -> None:
    """Run the page with one Ray for all its studies, where it has any."""
    page = Path(sys.argv[1])
    code = "".join(block.text for block in blocks_of(page) if block.language in RUN)
    if not any(study in code for study in ("RayTorchTrainer", "tune(")):
        run_page(page)
        return
    from itwinai.hpo.engine import ray_cluster

    with ray_cluster():
        import ray

        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        run_page(page)


if __name__ == "__main__":
    main()
