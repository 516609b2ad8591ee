"""A COMMIT whose answer never comes: it may count, or not, or count later; each row is there once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.config import Database, parse_database
from telemetry_bus.database import Writer
from telemetry_bus.errors import DatabaseFault, LedgerMoved

from ...support.clock import DEADLINE_S
from ...support.commit_proxy import CommitProxy, Fate
from ...support.postgresql import Server
from ..writing import Stream, template

psycopg = pytest.importorskip("psycopg")
pytestmark = [pytest.mark.postgresql, pytest.mark.integration]

TABLE = "CREATE TABLE IF NOT EXISTS events (stream TEXT, n INTEGER)"
EVENT = template("INSERT INTO events VALUES (?, ?)", ensure=(TABLE,))
FATES: list[Fate] = ["lose", "cut", "hold"]


class Batches:
    """Batches of one stream, as the intake has them applied: whatever fails, it looks at the ledger and goes on."""

    def __init__(self, open_writer: Callable[[], Writer]) -> None:
        self._open = open_writer
        self.writer = open_writer()
        self.stream = Stream()
        self.faults = 0

    def commit(self, rows: int) -> None:
        """One batch; afterwards the ledger has it."""
        run = self.stream.run(EVENT, *(["a", self.stream.last + n] for n in range(1, rows + 1)))
        while True:
            try:
                done = self.writer.last_sequences([run.stream])[run.stream] - run.first + 1
                if done < rows:
                    self.writer.apply([run._replace(first=run.first + done, payloads=run.payloads[done:])])
                return
            except (DatabaseFault, LedgerMoved):
                self.faults += 1
                assert self.faults < 100

    def replace_writer(self) -> None:
        """As after SIGKILL: what the old one has open is never closed by it."""
        self.writer = self._open()


@pytest.fixture
def proxy(postgresql_server: Server) -> Iterator[CommitProxy]:
    with closing(CommitProxy(postgresql_server.port)) as proxy:
        yield proxy


@pytest.fixture
def through(postgresql: str, postgresql_server: Server, proxy: CommitProxy) -> Database:
    """The database through the proxy."""
    return parse_database(postgresql.replace(str(postgresql_server.port), str(proxy.port)))


@pytest.fixture(params=[True, False], ids=["ends-sessions", "fence-alone"])
def batches(request: pytest.FixtureRequest, through: Database, tmp_path: Path) -> Iterator[Batches]:
    """With and without the right to end the sessions of its own name."""
    attempts = tmp_path / "attempts" if request.param else None
    made: list[Writer] = []

    def open_writer() -> Writer:
        made.append(Writer(through, busy_timeout=DEADLINE_S, attempts=attempts))
        return made[-1]

    yield Batches(open_writer)
    for writer in made:
        writer.close()


def counted(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as reader:
        found: list[tuple[Any, ...]] = reader.execute(
            "SELECT count(*), count(DISTINCT n), max(n) FROM events"
        ).fetchall()
        return found


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("known", [True, False], ids=["known-stream", "new-stream"])
@pytest.mark.parametrize("replaced", [False, True], ids=["same-writer", "next-writer"])
def test_each_row_is_there_once(
    batches: Batches, proxy: CommitProxy, postgresql: str, fate: Fate, known: bool, replaced: bool
) -> None:
    """Whatever becomes of a COMMIT, and whether its writer goes on or another one does."""
    if known:
        batches.commit(3)
    else:
        batches.writer.apply([Stream("other").run(EVENT, ["other", 0])])
    before = counted(postgresql)[0][0]
    proxy.arm(fate)
    run = batches.stream.run(EVENT, ["a", 11], ["a", 12])
    with pytest.raises(DatabaseFault):
        batches.writer.apply([run])
    assert proxy.met.wait(DEADLINE_S)
    if replaced:
        batches.replace_writer()
    batches.stream.last = run.first - 1
    with _released_when_waited_for(proxy, postgresql):
        batches.commit(2)
    batches.commit(4)
    with psycopg.connect(postgresql) as reader:
        ledger = reader.execute(
            "SELECT last_sequence FROM telemetry_bus_ledger WHERE stream = %s", (batches.stream.id,)
        ).fetchone()
    assert (batches.stream.last,) == ledger
    assert before + 6 == counted(postgresql)[0][0]
    assert before + 6 == counted(postgresql)[0][1]


@contextmanager
def _released_when_waited_for(proxy: CommitProxy, url: str) -> Iterator[None]:
    """A transaction that is held before its COMMIT is committed once another one waits for its locks: too late for the
    other one to have seen it, and too early for its rows."""
    over = threading.Event()

    def release() -> None:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        with psycopg.connect(url, autocommit=True) as look:
            while not over.wait(0.01):
                if look.execute(waiting).fetchone() != (0,):
                    proxy.release()

    thread = threading.Thread(target=release)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_failed_transaction_is_not_taken_for_a_committed_one(postgresql: str) -> None:
    """The server answers ROLLBACK to its COMMIT, without any error."""
    from telemetry_bus.database.dialects import Settings
    from telemetry_bus.database.postgresql.connection import PostgresDialect

    connection = PostgresDialect().open(parse_database(postgresql), Settings())
    with closing(connection.driver):
        connection.begin()
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.run("INSERT INTO nowhere VALUES (1)", ())
        with pytest.raises(psycopg.Error):
            connection.commit()
