"""A real tracking server of MLflow on this machine, and a gate before it that can fail."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Seconds after which a test gives up; nothing depends on them otherwise.
PATIENCE_S = 60


def until(condition: Callable[[], Any], otherwise: Callable[[], str] = lambda: "in vain") -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


class Server:
    """A server whose runs outlive it.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        folder, port = self._folder, str(self.port)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port]
        command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--workers", "1"]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        with open(folder / "log.txt", "a") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        until(self._is_up, (folder / "log.txt").read_text)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log.txt").read_text()
        with suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{self.url}/health", timeout=10).close()
            return True
        return False

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Gate:
    """Stands before a server, and lets through what its ``mode`` says.

    ``pass``: everything; ``silent``: it accepts, and never answers; ``refuse``: it does not listen;
    ``500``: that is the answer; ``lose``: the server gets the request, and nobody its answer.

    Attributes:
        logins: What the requests said of who asks, "user:password" or nothing.
    """

    def __init__(self, port: int) -> None:
        self._behind = port
        self._held: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._mode = "refuse"
        self.port = 0
        self.answers = 0
        self.lost = 0
        self.logins: set[str] = set()
        self.asked = threading.Event()
        self.set("pass")
        self.url = f"http://127.0.0.1:{self.port}"

    def set(self, mode: str) -> None:
        self._mode = mode
        if mode == "refuse":
            self.close()
        elif self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        self.asked.clear()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
            self._listener.close()
            self._listener = None
        while self._held:
            self._held.pop().close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.asked.set()
        if self._mode == "silent":
            self._held.append(client)  # as long as the gate stands
            return
        with client, suppress(OSError):
            if self._mode == "500":
                client.recv(1 << 16)
                client.sendall(
                    b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
            with socket.create_connection(("127.0.0.1", self._behind)) as server:
                back = threading.Thread(target=self._pump, args=(server, client, True), daemon=True)
                back.start()
                self._pump(client, server, False)
                back.join()

    def _pump(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                # One connection may outlive a mode.
                if self._mode not in ("pass", "lose"):
                    break
                if is_answer and self._mode == "lose":
                    self.lost += 1
                    break
                self.answers += is_answer
                self.logins |= set() if is_answer else _logins_in(data)
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _logins_in(data: bytes) -> set[str]:
    """Who asks, in the heads of requests."""
    heads = re.findall(rb"^[A-Z]+ \S+ HTTP/1.1\r\n(?:.+\r\n)+", data, re.MULTILINE)
    found = [re.search(rb"^authorization: basic (\S+)", head, re.I | re.M) for head in heads]
    return {b64decode(login[1]).decode() if login else "" for login in found}
