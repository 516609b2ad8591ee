"""Definitions run once, and drift is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetry_bus.database import schema
from telemetry_bus.database.dialects import TableFacts
from telemetry_bus.database.sqlite.connection import SqliteConnection

from ..writing import EVENT, EVENTS, INSERT_EVENT, Stream, execute, opened, rows, template


@pytest.fixture
def defined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The definitions in the order of their execution."""
    executed: list[str] = []
    define = SqliteConnection.define

    def record(connection: SqliteConnection, sql: str) -> None:
        executed.append(sql)
        define(connection, sql)

    monkeypatch.setattr(SqliteConnection, "define", record)
    return executed


def test_a_definition_is_executed_once(tmp_path: Path, defined: list[str]) -> None:
    """Whatever job or stream brings it again."""
    other = template("UPDATE events SET size = 0", ensure=(EVENTS,))
    a, b = Stream("a"), Stream("b")
    with opened(tmp_path) as writer:
        writer.apply([a.run(EVENT, ["x", 1]), b.run(EVENT, ["y", 1]), a.run(other, [])])
        writer.apply([a.run(other, []), b.run(EVENT, ["z", 1])])
        assert [EVENTS] == defined
        assert 1 == writer.snapshot().ddl_cached


def test_a_definition_counts_only_when_it_is_committed(
    tmp_path: Path, defined: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The transaction that executed it was rolled back: it is executed again, before anybody misses it."""
    caplog.set_level("DEBUG", "telemetry_bus.writer")

    def stop(name: str) -> None:
        if name == "before-commit":
            raise KeyboardInterrupt

    runs = [Stream().run(EVENT, ["x", 1])]
    with opened(tmp_path) as writer:
        writer.failpoint = stop
        with pytest.raises(KeyboardInterrupt):
            writer.apply(runs)
        assert 0 == writer.snapshot().ddl_cached
        del writer.failpoint
        assert [] == writer.apply(runs)
        assert [EVENTS, EVENTS] == defined
    assert "replaying" not in caplog.text


def test_a_definition_of_a_bad_job_goes_with_it(tmp_path: Path) -> None:
    """The job is whole: what it defined is undone with it, and made by the next that needs it."""
    stream = Stream()
    with opened(tmp_path) as writer:
        writer.apply([stream.run(EVENT, [None, 1])])
        assert [] == rows(tmp_path, "SELECT name FROM sqlite_master WHERE name = 'events'")
        assert [] == writer.apply([stream.run(EVENT, ["x", 1])])


@pytest.mark.parametrize(
    "again",
    [
        "CREATE TABLE events (other)",
        "CREATE INDEX by_size ON events (size)",
        "CREATE VIEW seen AS SELECT 1",
        "ALTER TABLE events ADD COLUMN size INTEGER",
    ],
)
def test_what_is_there_counts_as_done(tmp_path: Path, again: str) -> None:
    """A schema evolves by adding to the list."""
    execute(tmp_path, EVENTS, "CREATE INDEX by_size ON events (size)", "CREATE VIEW seen AS SELECT 1")
    with opened(tmp_path) as writer:
        assert [] == writer.apply([Stream().run(template(INSERT_EVENT, ensure=(again,)), ["x", 1])])


def test_definitions_take_their_place_in_the_order_of_jobs(tmp_path: Path) -> None:
    """Rows that were sent before a trigger was defined do not fire it."""
    trigger = """CREATE TRIGGER IF NOT EXISTS counting AFTER INSERT ON events BEGIN
        INSERT INTO counted VALUES (new.name); END"""
    counting = template(INSERT_EVENT, ensure=(EVENTS, "CREATE TABLE IF NOT EXISTS counted (name)", trigger))
    stream = Stream()
    with opened(tmp_path) as writer:
        assert [] == writer.apply([stream.run(EVENT, ["x", 1], ["y", 2]), stream.run(counting, ["z", 3])])
        assert [("z",)] == rows(tmp_path, "SELECT name FROM counted")


def test_the_cache_of_definitions_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes a table per day does not fill the memory."""
    monkeypatch.setattr(schema, "MAX_DEFINITIONS", 3)
    stream = Stream()
    with opened(tmp_path) as writer:
        for day in range(10):
            sql = f"INSERT INTO day_{day} VALUES (?)"
            writer.apply([stream.run(template(sql, ensure=(f"CREATE TABLE IF NOT EXISTS day_{day} (a)",)), [1])])
        assert 3 == writer.snapshot().ddl_cached


class TestDrift:
    """`CREATE TABLE IF NOT EXISTS` found a table that is not the one it describes."""

    @pytest.mark.parametrize(
        ("found", "drift"),
        [
            ("CREATE TABLE events (ID integer primary key, Name text, size INTEGER)", ()),
            ("CREATE TABLE events (id INTEGER PRIMARY KEY, name VARCHAR(9), size BIGINT)", ()),
            ("CREATE TABLE events (id INTEGER PRIMARY KEY, name TEXT)", ("events: missing size",)),
            ("CREATE TABLE events (id INTEGER PRIMARY KEY, name TEXT, size INTEGER, kind, at)", ()),
            ("CREATE TABLE events (id INTEGER PRIMARY KEY, name, size TEXT)",
             ("events: name is untyped, defined as TEXT; size is TEXT, defined as INTEGER",)),
        ],
    )  # fmt: skip
    def test_the_difference_is_told(
        self, tmp_path: Path, found: str, drift: tuple[str, ...], caplog: pytest.LogCaptureFixture
    ) -> None:
        """In the snapshot as long as it is so, in the log once."""
        execute(tmp_path, found)
        stream = Stream()
        with opened(tmp_path) as writer:
            for name in "xyz":
                ensure = (EVENTS, f"CREATE TABLE IF NOT EXISTS {name} (a)")
                names_only = template("INSERT INTO events (name) VALUES (?)", ensure=ensure)
                assert [] == writer.apply([stream.run(names_only, [name])])
            assert drift == writer.snapshot().drift
        assert len(drift) == caplog.text.count("schema drift")

    def test_a_column_that_the_list_adds_is_no_drift(self, tmp_path: Path) -> None:
        """The whole list is compared, not the CREATE alone."""
        ensure = (EVENTS, "CREATE INDEX IF NOT EXISTS i ON elsewhere (a)", "ALTER TABLE events ADD COLUMN kind TEXT")
        execute(tmp_path, "CREATE TABLE elsewhere (a)", EVENTS, ensure[2])
        with opened(tmp_path) as writer:
            assert [] == writer.apply([Stream().run(template(INSERT_EVENT, ensure=ensure), ["x", 1])])
            assert () == writer.snapshot().drift

    def test_definitions_of_a_bad_job_are_not_compared(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing of a refused job is tried out, although a neighbour has a definition in common with it."""
        monkeypatch.chdir(tmp_path)
        stream = Stream()
        bad = template(INSERT_EVENT, ensure=(EVENTS, "ATTACH 'elsewhere.db' AS elsewhere"))
        other = template("INSERT INTO other VALUES (?)", ensure=("CREATE TABLE IF NOT EXISTS other (a)",))
        with opened(tmp_path) as writer:
            runs = [stream.run(other, [1]), stream.run(bad, ["x", 1]), stream.run(EVENT, ["y", 2])]
            assert [2] == [failure.sequence for failure in writer.apply(runs)]
        assert not (tmp_path / "elsewhere.db").exists()

    def test_a_table_that_was_mended_is_no_drift_any_more(self, tmp_path: Path) -> None:
        """When its definition is next executed."""
        execute(tmp_path, "CREATE TABLE events (id INTEGER PRIMARY KEY, name TEXT)")
        stream = Stream()
        with opened(tmp_path) as writer:
            writer.apply([stream.run(template("DELETE FROM events", ensure=(EVENTS,)), [])])
            assert ("events: missing size",) == writer.snapshot().drift
            execute(tmp_path, "DROP TABLE events")
            assert [] == writer.apply([stream.run(EVENT, ["x", 1])])
            assert () == writer.snapshot().drift


def test_facts_about_tables(tmp_path: Path) -> None:
    """What decides about lanes: kind, triggers, foreign keys, conflict clauses; names without regard to case."""
    execute(
        tmp_path,
        "CREATE TABLE Parents (id INTEGER PRIMARY KEY)",
        "CREATE TABLE kids (parent REFERENCES PARENTS, other REFERENCES kids)",
        "CREATE TABLE replacing (k UNIQUE ON CONFLICT REPLACE)",
        "CREATE TABLE watched (a)",
        "CREATE TRIGGER t AFTER INSERT ON Watched BEGIN SELECT 1; END",
        "CREATE VIEW seen AS SELECT * FROM watched",
        "CREATE VIRTUAL TABLE f USING fts5 (body)",
    )
    with opened(tmp_path, ledger=False) as writer:
        facts = writer._connection.tables()
        plain = TableFacts(ordinary=True, triggers=False, referenced=False, rewrites=False, parents=frozenset())
        assert TableFacts(True, False, True, False, frozenset()) == facts["parents"]
        assert TableFacts(True, False, True, False, frozenset({"parents", "kids"})) == facts["kids"]
        assert TableFacts(True, False, False, True, frozenset()) == facts["replacing"]
        assert TableFacts(True, True, False, False, frozenset()) == facts["watched"]
        assert (False, False) == (facts["seen"].ordinary, facts["f"].ordinary)
        assert plain == facts["f_data"]


def test_definitions_do_not_read_the_whole_schema_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of many new tables reads all tables once, and of each definition what it adds."""
    reads = []
    tables = SqliteConnection.tables

    def counted(connection: SqliteConnection) -> object:
        reads.append(connection)
        return tables(connection)

    monkeypatch.setattr(SqliteConnection, "tables", counted)
    stream = Stream()
    runs = [
        stream.run(template(f"INSERT INTO t{n} VALUES (?)", ensure=(f"CREATE TABLE IF NOT EXISTS t{n} (a)",)), [n])
        for n in range(200)
    ]
    with opened(tmp_path) as writer:
        assert [] == writer.apply(runs)
        assert 1 == writer.snapshot().batches
        assert len(reads) < 5


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE IF NOT EXISTS child (a INTEGER REFERENCES events (id))",
        "CREATE TABLE parents (a PRIMARY KEY, up REFERENCES parents)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER tr AFTER INSERT ON events BEGIN SELECT 1; END",
        "CREATE TABLE orphans_to_be (a)",
        "CREATE TABLE copies AS SELECT * FROM events",
        "CREATE VIRTUAL TABLE words USING fts5 (w)",
        "CREATE INDEX i ON events (size)",
        "CREATE TABLE serial (id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE loose (a UNIQUE ON CONFLICT REPLACE)",
        "ALTER TABLE events ADD COLUMN more REFERENCES late (a)",
        "/* */ CREATE TABLE commented (a)",
    ],
)
def test_what_a_definition_adds_is_what_all_tables_tell(tmp_path: Path, sql: str) -> None:
    """The facts, added to or read again, are the same; a child may have been there before its parent."""
    with opened(tmp_path) as writer:
        writer.apply([Stream().run(EVENT, ["x", 1])])
        execute(tmp_path, "CREATE TABLE early (a REFERENCES orphans_to_be (a))")
        facts, connection = writer._applier.schema, writer._connection
        connection.begin()
        facts.touch()
        facts.tables()
        facts.define(sql, (sql,))
        added = facts.tables()
        assert connection.tables() == added
        connection.rollback()


@pytest.mark.parametrize(
    "definition",
    ["CREATE TABLE addresses (address TEXT, Address TEXT)", "CREATE VIRTUAL TABLE taken USING fts5 (body)"],
)
def test_a_definition_that_fails_does_not_count_as_done(tmp_path: Path, definition: str) -> None:
    """The database's reason is told, and not that there is no such table."""
    execute(tmp_path, "CREATE TABLE taken_data (a)")
    stream = Stream()
    with opened(tmp_path) as writer:
        job = template("INSERT INTO events (name, size) VALUES (?, ?)", ensure=(EVENTS, definition))
        (failure,) = writer.apply([stream.run(job, ["x", 1])])
        assert "no such table" not in failure.error
        assert "duplicate column name" in failure.error or "taken_data" in failure.error


def test_drift_is_never_of_sqlites_own_tables(tmp_path: Path) -> None:
    """AUTOINCREMENT and ANALYZE bring some, in the scratch database too."""
    ddl = "CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, a)"
    execute(tmp_path, "CREATE TABLE counted (id INTEGER PRIMARY KEY, a)")
    stream = Stream()
    with opened(tmp_path) as writer:
        assert [] == writer.apply([stream.run(template("INSERT INTO counted (a) VALUES (?)", ensure=(ddl,)), ["x"])])
        assert () == writer.snapshot().drift
