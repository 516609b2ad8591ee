"""Where producers hand in their jobs and look: any store, opened late, and never a failure into the watched work."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, func, select

from producers.columns import PlainText, added
from producers.destination import Destination, compile_query
from telemetry_bus import TelemetryStore, get_store
from telemetry_bus.tables import insert_job

LOGGER = logging.getLogger("producers.test")
NOTES = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("note", PlainText()))


class PlainStore:
    """A store of somebody else's: a callable is run on a connection of the driver."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.flushed = 0

    def submit(self, task: Callable[[Any], object], *, ensure: Any = None) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for definition in ensure or ():
                connection.execute(definition)
            task(connection)

    def flush(self) -> None:
        self.flushed += 1

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as connection:
            yield connection


class BrokenStore:
    """Refuses whatever it is asked."""

    def submit(self, task: object, *, ensure: object = None) -> None:
        raise OSError("no")

    def flush(self) -> None:
        raise OSError("no")

    def connection(self) -> Any:
        raise OSError("no")


def note(text: str) -> Any:
    return insert_job(NOTES, {"note": text})


def test_any_store_will_do(database: Path) -> None:
    """What has `submit`, `flush` and `connection` is a store; several jobs are handed in as one."""
    store = PlainStore(database)
    destination = Destination(store, logger=LOGGER)
    assert destination.offer(note("a"), note("b"))
    destination.flush()
    assert 1 == store.flushed
    assert "sqlite" == destination.dialect
    assert [{"note": "a"}, {"note": "b"}] == destination.read_dicts(select(NOTES.c.note).order_by(NOTES.c.id))


class BareStore(PlainStore):
    """The same, but it knows no definitions: its `submit` takes the task alone."""

    def submit(self, task: Callable[[Any], object]) -> None:  # type: ignore[override]
        with closing(sqlite3.connect(self.path)) as connection, connection:
            task(connection)


def test_a_store_without_definitions(database: Path) -> None:
    """Where `submit` takes the task alone, the task makes its tables itself, and again when they are gone."""
    store: Any = BareStore(database)
    destination = Destination(store, logger=LOGGER)
    destination.submit(note("a"))
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DROP TABLE notes")
    destination.submit(note("b"), note("c"))
    assert [("b",), ("c",)] == destination.read(select(NOTES.c.note).order_by(NOTES.c.id))


def test_a_column_that_came_later_without_definitions(database: Path) -> None:
    """Such a store, too, brings an old table up to date, once, and leaves a new one as it is."""
    grown = Table(
        "grown",
        MetaData(),
        Column("id", Integer, primary_key=True),
        added(Column("note", PlainText())),
    )
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE grown (id INTEGER PRIMARY KEY)")
    for _ in range(2):
        bare: Any = BareStore(database)
        destination = Destination(bare, logger=LOGGER)
        destination.submit(insert_job(grown, {"note": "a"}))
        destination.submit(insert_job(grown, {"note": "a"}))
    assert 4 * [("a",)] == destination.read(select(grown.c.note))


def test_a_store_that_tells_no_parameters_gets_definitions(database: Path) -> None:
    """A `submit` that takes anything by name, or does not say what it takes, is given `ensure`."""
    plain = PlainStore(database)

    class Forwarding(PlainStore):
        def submit(self, *values: Any, **options: Any) -> None:
            assert ["ensure"] == list(options)
            plain.submit(*values, **options)

    class Silent:
        __signature__ = "no signature"  # inspect refuses it with a TypeError

        def __call__(self, task: Any, **options: Any) -> None:
            Forwarding(database).submit(task, **options)

    silent: Any = PlainStore(database)
    silent.submit = Silent()
    for store in (Forwarding(database), silent):
        Destination(store, logger=LOGGER).submit(note("a"))
    assert 2 == len(Destination(plain, logger=LOGGER).read(select(NOTES.c.note)))


def test_the_store_is_opened_at_the_first_use(database: Path) -> None:
    """Nothing is opened before; then it is the process's shared store of that database."""
    destination = Destination(database_url=f"sqlite:///{database}", logger=LOGGER)
    assert not database.exists()
    with get_store(f"sqlite:///{database}", mode="sync") as store:
        assert destination.offer(note("a"))
        assert store is destination.store
        assert [(1,)] == destination.read(select(func.count()).select_from(NOTES))


def test_the_default_database(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without store and URL it is the database that the environment names."""
    monkeypatch.setenv("TELEMETRY_DATABASE_URL", f"sqlite:///{database}")
    destination = Destination(logger=LOGGER)
    assert isinstance(destination.store, TelemetryStore)
    assert f"sqlite:///{database}" == destination.store.database_url
    destination.store.shutdown()


def test_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is a synchronous store, in folders that are made, whatever mode is the default."""
    monkeypatch.setenv("TELEMETRY_BUS_MODE", "thread")
    destination = Destination.of_file(tmp_path / "new" / "x.db", logger=LOGGER)
    assert destination.offer(note("a"))
    with closing(sqlite3.connect(tmp_path / "new" / "x.db")) as connection:
        assert [("a",)] == connection.execute("SELECT note FROM notes").fetchall()


def test_a_failure_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """`offer` never raises: the first failure of a kind is logged with its traceback, each is counted."""
    destination = Destination(BrokenStore(), logger=LOGGER)
    assert [False, False] == [destination.offer(note("a")) for _ in range(2)]
    assert 2 == destination.failures
    messages = [(record.getMessage(), record.exc_info is not None) for record in caplog.records]
    told = "telemetry is not recorded: OSError: no"
    assert [(told, True), (told, False)] == [(message, bool(trace)) for message, trace in messages]


def test_submit_raises() -> None:
    """`submit` is for callers who want to know."""
    with pytest.raises(OSError, match="no"):
        Destination(BrokenStore(), logger=LOGGER).submit(note("a"))


def test_reading_what_is_not_there_yet(database: Path) -> None:
    """A table that nobody has written to has no rows; any other mistake is an error."""
    destination = Destination(PlainStore(database), logger=LOGGER)
    assert [] == destination.read(select(NOTES))
    destination.offer(note("a"))
    other = Table("notes", MetaData(), Column("author", PlainText()))
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        destination.read(select(other))


@pytest.mark.parametrize(("dialect", "placeholder"), [("sqlite", "?"), ("postgresql", "%s")])
def test_queries_for_both_drivers(dialect: Any, placeholder: str) -> None:
    """A query is compiled with its driver's placeholders, lists written out, values in their order."""
    query = select(NOTES.c.note).where(NOTES.c.note.in_(["a", "b"]), NOTES.c.note > "A").limit(3)
    sql, parameters = compile_query(query, dialect, "qmark" if dialect == "sqlite" else "format")
    assert ["a", "b", "A", 3] == list(parameters)[:4]
    assert f"IN ({placeholder}, {placeholder})" in sql
