"""Sending, afterwards, what a training's loggers could not send to their services."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from itwinai.confidential import HIDDEN, without_user
from itwinai.errors import ConfigurationError, text_of
from itwinai.loggers.mlflow import URI_VARIABLE, import_mlflow
from itwinai.loggers.sending import Service, described, send_some
from itwinai.loggers.spool import UNSENT, Spool, SpoolError, spools_in

_USER_VARIABLE = "MLFLOW_TRACKING_USERNAME"


@dataclass
class Synced:
    """What became of one spool.

    Attributes:
        folder: The spool.
        service: What it was to be sent to; empty if the spool cannot be read.
        sent: What the service has now that it had not before.
        refused: Why the service did not take some of it, which is lost.
        left: What the spool still holds.
        why: Why it was not sent; empty if all was, and the spool is deleted.
    """

    folder: Path
    service: str = ""
    sent: str = ""
    refused: list[str] = field(default_factory=list)
    left: str = ""
    why: str = ""


def sync(folder: Path) -> Iterator[Synced]:
    """Send what spools hold, the oldest first, and delete those of which all is sent.

    A service that does not answer is asked once.

    Args:
        folder: A logger's ``savedir``, the folder ``unsent`` in it, or a single spool.

    Yields:
        What became of each spool.

    Raises:
        ConfigurationError: If there is no such folder.
        MissingPackageError: If the package of a service is not installed.
    """
    away: dict[str, str] = {}
    for one in _spools(folder):
        synced = Synced(one)
        try:
            with closing(Spool(one)) as spool:
                _send(spool, synced, away)
        except SpoolError as error:
            synced.why = str(error)
        yield synced


def _spools(folder: Path) -> list[Path]:
    if not folder.is_dir() and not (folder.name == UNSENT and folder.parent.is_dir()):
        raise ConfigurationError(
            f"{folder}: there is no such folder. Give a logger's savedir, or the folder "
            f"'{UNSENT}' in it."
        )
    return spools_in(folder) or spools_in(folder / UNSENT)


def _send(spool: Spool, synced: Synced, away: dict[str, str]) -> None:
    service = _service_of(spool)
    synced.service, before = service.name, described(spool)
    synced.why = away.get(service.name, "")
    try:
        while not synced.why and spool.untaken():
            synced.refused += map(text_of, send_some(spool, service))
        if not synced.why:
            service.finish()
    except SpoolError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a service answers, or does not
        synced.why = text_of(error)
        if not isinstance(error, LookupError):
            away[service.name] = synced.why
    synced.left = described(spool)
    if not synced.why:
        synced.sent = before
        spool.delete()


def _service_of(spool: Spool) -> Service:
    service = spool.first().get("service")
    if service != "mlflow":
        raise SpoolError(f"{spool.folder}: is for {service!r}, which itwinai does not know")
    import_mlflow()
    from itwinai.loggers.mlflow_server import ServerRun

    return ServerRun(spool, _address_of(spool), afterwards=True)


def _address_of(spool: Spool) -> str:
    """The server that a spool is for, with user and password as the environment gives them."""
    kept, whole = str(spool.first().get("uri")), os.environ.get(URI_VARIABLE, "")
    if f"//{HIDDEN}@" not in kept:
        return kept
    if without_user(whole) == kept:
        return whole
    if _USER_VARIABLE in os.environ:  # from where mlflow takes it by itself
        return kept.replace(f"{HIDDEN}@", "", 1)
    raise SpoolError(
        f"{spool.folder}: user and password of {kept} are not kept in files. Set {URI_VARIABLE} to "
        f"the whole address, or {_USER_VARIABLE} and MLFLOW_TRACKING_PASSWORD"
    )
