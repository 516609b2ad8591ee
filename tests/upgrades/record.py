"""Records what this version of the bus leaves behind, so that later versions can be tried with it.

`python tests/upgrades/record.py` makes `recorded/VERSION/`; with a folder as its argument it makes it there.

    NAME.journal.gz       journals of producers that died
    conversation.jsonl.gz what a producer said in a whole life, message by message
    database.sql.gz       a database with ledger and dead letters
    expected.json         the rows that must come of each

Deterministic: stream ids, process id, the database's name and times are made up, each message is the largest that it
can be, and errors are left out. It uses `TelemetryStore`, and what is said on the sockets.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import scenes  # type: ignore[import-not-found]  # they lie beside this script
from peer import Peer  # type: ignore[import-not-found]

from telemetry_bus import JobFailed, TelemetryStore
from telemetry_bus.backends import journaled
from telemetry_bus.config import MIN_JOURNAL_BYTES, Database, parse_database
from telemetry_bus.encoding.records import STREAM_BYTES
from telemetry_bus.jobs import Failure
from telemetry_bus.protocol.messages import VERSION, Ack
from telemetry_bus.runtime.folder import BusFolder

RECORDED = Path(__file__).with_name("recorded")
#: The database's name in what is recorded. Whoever plays a conversation puts the real one in its place.
IDENTITY = "sqlite:////recorded/telemetry.db"
_PID = 4242
_TIME = "2026-01-01 00:00:00.000000"
#: So many are acknowledged, and the ring has room for a third of the next.
_LAPS = 3


def main() -> None:
    if sys.argv[1:2] == ["--scene"]:
        _produce(sys.argv[2], Path(sys.argv[3]))
        return
    target = Path(sys.argv[1]) if sys.argv[1:] else RECORDED / str(VERSION)
    if target.exists():
        sys.exit(f"{target} is there: what a version was like does not change. Raise the version first.")
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        files: dict[str, str] = {}
        for number, scene in enumerate(("rows", "values", "inline", "wrapped", "conversation", "database")):
            (folder := Path(scratch, str(number))).mkdir()
            if scene == "database":  # the writer of that time has adopted a journal
                journals = folder / "telemetry.db.bus" / "journals"
                journals.mkdir(parents=True, mode=0o700)
                journal = gzip.decompress((made / "rows.journal.gz").read_bytes())
                (journals / files["rows"]).write_bytes(journal)
            subprocess.run([sys.executable, __file__, "--scene", scene, str(folder)], check=True)
            for path in (folder / "telemetry.db.bus" / "journals").glob("*.journal"):
                _pack(made / f"{scene}.journal.gz", path.read_bytes())
                files[scene] = path.name
            for path in (*folder.glob("*.jsonl"), *folder.glob("*.sql")):
                _pack(made / f"{path.name}.gz", path.read_bytes())
        (folder := Path(scratch, "expected")).mkdir()
        (made / "expected.json").write_text(_a_row_a_line(_expected(folder, files)) + "\n")
        shutil.copytree(made, target)


def _a_row_a_line(expected: dict[str, Any]) -> str:
    """JSON to be read."""
    text = json.dumps(expected, indent=1)
    return re.sub(r"\n {5,}|\n {4}(?=\])", " ", text)


def _pack(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data, 9, mtime=0))


def _id(scene: str, length: int) -> bytes:
    return hashlib.sha256(scene.encode()).digest()[:length]


# One scene, in a process of its own


def _produce(scene: str, folder: Path) -> None:
    """Play a scene, and die as a killed process does."""
    logging.getLogger("telemetry_bus").addHandler(logging.NullHandler())  # some jobs are meant to fail
    os.environ["TELEMETRY_BUS_SPAWN"] = "0"
    for name in ("TELEMETRY_DEBUG", "TELEMETRY_BUS_DIR", "TELEMETRY_BUS_MODE"):
        os.environ.pop(name, None)
    os.urandom = lambda length: _id(scene, length)
    journaled.new_secret, journaled.stream_of = bytes, lambda secret: _id(scene, STREAM_BYTES)  # type: ignore[attr-defined]
    os.getpid = lambda: _PID
    Database.identity = property(lambda self: IDENTITY)  # type: ignore[assignment,method-assign]
    play = {"wrapped": _wrapped, "conversation": _conversation, "database": _database}.get(scene)
    if play is not None:
        play(folder / "telemetry.db")
    else:
        getattr(scenes, scene)(_store(folder / "telemetry.db"))
    os._exit(0)


def _store(path: Path, **options: Any) -> TelemetryStore:
    return TelemetryStore(path, journal_bytes=MIN_JOURNAL_BYTES, **options)


@contextmanager
def _peer(path: Path) -> Iterator[Peer]:
    with closing(Peer(BusFolder.of(parse_database(path)))) as peer:
        yield peer


def _wrapped(path: Path) -> None:
    """A ring whose last jobs lie over its end: what came before was acknowledged, step by step."""
    with _peer(path) as peer:
        store = _store(path)
        for number in range(_LAPS):
            scenes.lap(store, number)
            peer.take(store.stats().submitted)
            peer.acknowledge_and_hold(lambda: store.stats().writer.answering)
            store.flush()
    scenes.lap(store, _LAPS)


def _conversation(path: Path) -> None:
    with _peer(path) as peer:
        store = _store(path)
        scenes.talk(store)
        peer.take(store.stats().submitted)
        peer.acknowledge([Failure(b"", 3, "IntegrityError", "recorded", None)])
        scenes.more_talk(store)
        peer.take(store.stats().submitted)
        peer.acknowledge()
        store.shutdown(wait=True)
        peer.part()
        lines = [
            json.dumps({"to": place, "last": last, "frames": [base64.b64encode(frame).decode() for frame in frames]})
            for place, frames, last in peer.heard
        ]
    path.with_name("conversation.jsonl").write_text("\n".join(lines) + "\n")


def _database(path: Path) -> None:
    (left,) = (path.with_name("telemetry.db.bus") / "journals").iterdir()
    with TelemetryStore(path, mode="thread") as store:
        scenes.letters(store)
        store.flush()
        while left.exists():
            time.sleep(0.01)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE telemetry_bus_ledger SET updated_at = ?", (_TIME,))
        # A column with a default, which a writer adds where it is missing, changes no form: earlier versions go on.
        connection.execute("ALTER TABLE telemetry_bus_ledger DROP COLUMN ended")
        connection.execute("UPDATE telemetry_bus_dead_letters SET failed_at = ?, error = 'recorded'", (_TIME,))
        path.with_name("database.sql").write_text("\n".join(connection.iterdump()) + "\n")


# What must come of it: the same jobs in mode sync


def _expected(folder: Path, files: dict[str, str]) -> dict[str, Any]:
    with _sync(folder / "journals.db") as store:
        for scene in (scenes.rows, scenes.values, scenes.inline):
            scene(store)
        scenes.lap(store, _LAPS)
    with _sync(folder / "conversation.db") as store:
        scenes.talk(store)
        scenes.more_talk(store)
    with _sync(folder / "database.db") as store:
        scenes.rows(store)
        for sql in scenes.table("missing"):
            store.execute(sql)
        with suppress(JobFailed):  # the last one
            scenes.letters(store)
    with _sync(folder / "lap.db") as store:
        scenes.lap(store, 0)
        jobs = store.stats().submitted
    return {
        "version": VERSION,
        "identity": IDENTITY,
        "committed": 2 + [field.name for field in fields(Ack)].index("committed"),  # where an answer has it
        "journals": {"files": files, "rows": _rows(folder / "journals.db"), "gone": _LAPS * jobs},
        "conversation": {"rows": _rows(folder / "conversation.db"), "failed": [3]},
        "database": {"rows": _rows(folder / "database.db")},
    }


@contextmanager
def _sync(path: Path) -> Iterator[TelemetryStore]:
    with TelemetryStore(path, mode="sync") as store:
        yield store


def _rows(path: Path) -> dict[str, list[list[Any]]]:
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        return {
            name: [[_plain(value) for value in row] for row in connection.execute(f"SELECT * FROM {name} ORDER BY id")]
            for (name,) in names
        }


def _plain(value: Any) -> Any:
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
