"""Makes the pictures of this folder from a real run: ``python docs/images/make_pictures.py``.

Runs the study of ``examples/digits`` on a terminal of its own (a pty), takes the live table in the
middle of the run and the end of the output, and saves both as SVG. It takes as long as the study.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "digits"
WIDTH, HEIGHT = 144, 24
COMMAND = ["itwinai", "exec-pipeline", "--config-name", "study"]
#: How rich goes back to the top of a live display before it draws it again.
REDRAW = re.compile(r"\r(?:\x1b\[2K)?(?:\x1b\[1A\x1b\[2K)+")
CONTROL = re.compile(r"\x1b\[\?25[lh]|\x1b\[\d*[ABCDJK]|\r")


def main() -> None:
    """Run the study and write the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "digits")
        shutil.copytree(EXAMPLE, work, ignore=shutil.ignore_patterns("studies", "__pycache__"))
        output = run_on_a_terminal(COMMAND, work).replace(str(work), "~/digits")
    *tables, last = REDRAW.split(output)
    running = [table for table in tables if re.search(r"1[0-4]/24 trials done", table)]
    prompt = "$ " + " ".join(COMMAND) + "\n"
    save("study-running.svg", prompt + running[-1])
    begin = re.search(r"(?:\x1b\[1m)?study  ", last)
    end = last.index("####", last.index("Confusion matrix"))
    save("study-summary.svg", last[begin.start() if begin else 0 : end])


def run_on_a_terminal(command: list[str], folder: Path) -> str:
    """Run a command on a pseudo-terminal of fixed size; return all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PATH": path, "TERM": "xterm-256color", "PYTHONWARNINGS": "ignore"},
    )
    os.close(theirs)
    chunks = []
    while True:
        try:
            chunks.append(os.read(ours, 65536))
        except OSError:  # the other end is closed
            break
    if process.wait() != 0:
        raise SystemExit(b"".join(chunks).decode())
    return b"".join(chunks).decode().replace("\r\n", "\n")


def save(name: str, output: str) -> None:
    """Write what a terminal shows as SVG."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi(CONTROL.sub("", output).strip("\n")))
    picture = console.export_svg(title="itwinai", unique_id=Path(name).stem)
    # Pictures must not load anything: any monospaced font will do.
    (HERE / name).write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.S))


if __name__ == "__main__":
    main()
