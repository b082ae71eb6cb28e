"""Optuna's dashboard over a study's record: for this machine alone, and to be read only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import JournalStorage

from itwinai.errors import MissingPackageError
from itwinai.hpo.record import LiveRecord, load_study

#: What a page is looked at with.
_READING = ("GET", "HEAD")

_LOOPBACK = "127.0.0.1"

_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def dashboard(folder: Path, port: int = 0) -> WSGIServer:
    """Make the server of a dashboard, which reads the record anew every ten seconds.

    It listens on the loopback interface, where other users of this machine can read, too. What
    would change the study is refused.

    Args:
        folder: The study's folder.
        port: Where it listens; 0: a free port, which is in its ``server_port``.

    Raises:
        MissingPackageError: If optuna-dashboard is not installed.
        StudyError: If there is no record, or it is not one of ours.
        OSError: If the port is taken.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise MissingPackageError(
            "the dashboard needs another package: pip install 'itwinai[dashboard]'"
        ) from None
    record = load_study(folder).record
    application = wsgi(JournalStorage(LiveRecord(record)))
    answer = _read_only(application)
    return make_server(_LOOPBACK, port, answer, server_class=_Server, handler_class=_Silent)


def _read_only(application: _Application) -> _Application:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in _READING:
            return application(environ, start)
        start("405 Method Not Allowed", [("Content-Type", "text/plain"), ("Allow", "GET, HEAD")])
        return [b"this dashboard only reads the study's record"]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each connection in a thread: browsers open some to say nothing in them yet."""

    daemon_threads = True


class _Silent(WSGIRequestHandler):
    """Says nothing of each request."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""
