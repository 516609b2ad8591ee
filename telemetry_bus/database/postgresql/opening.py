"""Opens a session for writing: who it is, what it must be told, and the end of sessions that a dead writer has left."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg.rows import tuple_row

from ...config import Database
from ...runtime.files import make_private, open_inside
from ...runtime.postgresql import parameters
from ..dialects import Settings

#: What the writer's session asks of libpq, unless the URL says otherwise. Without `tcp_user_timeout` a link that is cut
#: while data is on its way holds the writer for a quarter of an hour.
_CONNECTING = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "target_session_attrs": "read-write",
}
#: Said at the beginning of each transaction, so that it also holds behind a pooler: there a session is another client's
#: in the next moment.
_EACH = (
    "TimeZone = 'UTC'",
    "DateStyle = 'ISO'",
    "bytea_output = 'hex'",
    "standard_conforming_strings = on",
    "client_min_messages = 'warning'",
    "idle_in_transaction_session_timeout = '30s'",
    "tcp_user_timeout = '20s'",
)
#: How long to wait for the end of sessions of the same name.
_END_LIMIT_S = 5.0
_LOOK_AGAIN_S = 0.01
_OTHERS = """SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND usename = current_user
    AND pid <> pg_backend_pid() AND state <> 'idle'"""
_TERMINATE = "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS them(pid)"

logger = logging.getLogger("telemetry_bus.writer")

Session = psycopg.Connection[tuple[object, ...]]


def connect(database: Database, settings: Settings) -> Session:
    """A session in autocommit. Raises `psycopg.Error`.

    Nothing is ever prepared: with pipelines and transactions that fail, a prepared statement can be known here and not
    there, for ever.
    """
    name = session_name(settings.place)
    session: Session = psycopg.connect(
        psycopg.conninfo.make_conninfo("", **{**_CONNECTING, **parameters(database), "application_name": name}),
        autocommit=True,
        prepare_threshold=None,
        cursor_factory=psycopg.RawCursor,
        row_factory=tuple_row,
    )
    if settings.place is not None:
        _end_others(session, name)
    return session


def beginning(settings: Settings) -> str:
    """The text that begins a transaction."""
    durable = "on" if settings.durability == "full" else "off"
    wait = max(1, round(settings.busy_timeout * 1000))
    said = (*_EACH, f"synchronous_commit = {durable}", f"lock_timeout = {wait}")
    return "; ".join(["BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", *(f"SET LOCAL {one}" for one in said)])


def session_name(place: Path | None) -> str:
    """What the writer of a bus folder calls its sessions: the same for each that comes after it, and for no other.

    Neither host name nor path tells two containers apart, so the folder has a random number; it may have been copied
    with the machine, so that alone does not do either.
    """
    if place is None:
        return "telemetry-bus"
    parts = (_folder_number(place), socket.gethostname(), os.path.realpath(place))
    return f"telemetry-bus {hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"


def _folder_number(place: Path) -> str:
    path = place / "writer.session"
    try:
        with suppress(FileExistsError), open(make_private(path), "w") as file:
            file.write(os.urandom(16).hex())
        with open(open_inside(path, os.O_RDONLY)) as file:
            return file.read()
    except OSError as error:
        logger.warning("cannot keep %s: sessions that a dead writer leaves end by themselves only: %s", path, error)
        return os.urandom(16).hex()


def _end_others(session: Session, name: str) -> None:
    """End what an earlier writer of this folder may have in flight, and wait until it is gone, for a while.

    Not every server has these functions, and not every role may use them. The fence does without.
    """
    end = time.monotonic() + _END_LIMIT_S
    try:
        while time.monotonic() < end:
            others = [pid for (pid,) in session.execute(_OTHERS, (name,))]
            if not others:
                return
            session.execute(_TERMINATE, (others,))
            time.sleep(_LOOK_AGAIN_S)
        logger.warning("sessions of an earlier writer do not end: %s", others)
    except psycopg.Error as error:
        if session.closed:
            raise
        logger.debug("sessions of an earlier writer are not looked for: %s", error)
