"""What the bus reads out of SQL text against what SQLite itself reports of it while it prepares it.

Statements are made by SQLite's own grammar (https://www.sqlite.org/lang.html), and SQLite's authorizer tells which
tables, functions and actions it found in them (https://www.sqlite.org/c3ref/c_alter_table.html). Nothing is executed.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from telemetry_bus.errors import JobError
from telemetry_bus.sql.shapes import calls, insert_shape
from telemetry_bus.sql.statements import check_definition, prepare

SCHEMA = """
CREATE TABLE t (a, b, c);
CREATE TABLE "odd name" (a PRIMARY KEY, b, c);
CREATE TABLE keyed (a INTEGER PRIMARY KEY, b TEXT DEFAULT 'x', c, UNIQUE (b));
CREATE TABLE "select" (a, b, c);
CREATE VIEW seen AS SELECT a, b, c FROM t;
"""

#: Actions that change data or a schema. What has none of these only reads, or steers.
WRITES = frozenset(
    {
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_INDEX,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_ALTER_TABLE,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_DROP_INDEX,
        sqlite3.SQLITE_DROP_VIEW,
        sqlite3.SQLITE_DROP_TRIGGER,
        sqlite3.SQLITE_REINDEX,
        sqlite3.SQLITE_ANALYZE,
    }
)
TEMPORARY = frozenset(
    {
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
    }
)


#: The driver begins no transaction on it, and keeps no statement, so that SQLite looks at each.
CONNECTION = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
CONNECTION.executescript(SCHEMA)


class Report(NamedTuple):
    """What SQLite says of a statement: its number of values, and each action with the names that belong to it."""

    placeholders: int
    actions: list[tuple[int, str | None, str | None, str | None]]

    def kinds(self) -> set[int]:
        return {action for action, *_ in self.actions}

    def functions(self) -> set[str]:
        return {(name or "").lower() for action, _, name, _ in self.actions if action == sqlite3.SQLITE_FUNCTION}

    def targets(self) -> set[str]:
        return {(table or "").lower() for action, table, _, _ in self.actions if action == sqlite3.SQLITE_INSERT}


def sqlite_says(sql: str) -> Report | None:
    """None for a text that SQLite does not take for one statement."""
    actions: list[tuple[int, str | None, str | None, str | None]] = []

    def note(action: int, first: str | None, second: str | None, schema: str | None, source: str | None) -> int:
        if source is None:  # the statement itself, and not a view that it reads
            actions.append((action, first, second, schema))
        return sqlite3.SQLITE_OK

    CONNECTION.set_authorizer(note)
    try:
        CONNECTION.execute(sql, [None] * 200)  # it is prepared, and then refused for the number of its values
    except sqlite3.ProgrammingError as error:
        found = re.search(r"statement uses (\d+), and there are 200", str(error))
        return Report(int(found[1]), actions) if found else None
    except (sqlite3.Error, sqlite3.Warning):
        return None
    raise AssertionError("no statement of this test has two hundred placeholders")


# The grammar

Draw = Callable[[st.SearchStrategy[str]], str]

TABLES = st.sampled_from(["t", "T", '"odd name"', "[odd name]", "`keyed`", "keyed", '"select"', "main.t", "'t'"])
COLUMNS = st.sampled_from(["a", "b", '"c"', "[a]", "`b`", "C"])
LITERALS = st.sampled_from(["1", "-1", "+2.5", "0x1F", "1e3", ".5", "'x'", "'it''s'", "x'3f'", "NULL", "TRUE", "''"])
FUNCTIONS = st.sampled_from(["max", "COALESCE", "hex", '"abs"', "[lower]", "last_insert_rowid", "changes", "substr"])


def _join(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(part) if isinstance(part, str) else part for part in parts)).map(" ".join)


def _listed(part: st.SearchStrategy[str], most: int = 3) -> st.SearchStrategy[str]:
    return st.lists(part, min_size=1, max_size=most).map(", ".join)


def _maybe(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    return st.just("") | _join(*parts)


EXPRESSIONS: st.SearchStrategy[str] = st.recursive(
    st.just("?") | LITERALS | COLUMNS,
    lambda inner: st.one_of(
        _join("(", inner, ")"),
        _join(inner, st.sampled_from(["+", "||", "=", "IS NOT", "AND", "->>", "<<", "COLLATE nocase ="]), inner),
        _join(FUNCTIONS, "(", _listed(inner), ")"),
        _join("CASE WHEN", inner, "THEN", inner, "ELSE", inner, "END"),
        _join("CAST (", inner, "AS INTEGER )"),
        _join(inner, "IN (", _listed(inner), ")"),
        _join(inner, "IN", TABLES),
        _join("( SELECT", inner, "FROM", TABLES, ")"),
        _join("EXISTS ( SELECT 1 FROM", TABLES, "WHERE", inner, ")"),
        _join("(", inner, ",", inner, ") = (", inner, ",", inner, ")"),
        _join(inner, "BETWEEN", inner, "AND", inner),
        _join(inner, "LIKE", inner, "ESCAPE '!'"),
        _join("-", inner),
        _join("NOT", inner),
        _join("count(*) FILTER ( WHERE", inner, ")"),
        _join("row_number() OVER ( ORDER BY", inner, ")"),
    ),
    max_leaves=5,
)
SELECTS = _join(
    "SELECT", _listed(EXPRESSIONS), "FROM", TABLES | st.just("seen"), _maybe("WHERE", EXPRESSIONS), _maybe("LIMIT ?")
)
WITH = _maybe(st.sampled_from(["WITH w AS (", "WITH RECURSIVE w (x) AS NOT MATERIALIZED ("]), SELECTS, ")")
SET = _join("SET", _listed(_join(COLUMNS, "=", EXPRESSIONS), 2))
CONFLICT = _join(
    "ON CONFLICT",
    _maybe("(", COLUMNS, _maybe("COLLATE nocase"), ")", _maybe("WHERE", EXPRESSIONS)),
    st.just("DO NOTHING") | _join("DO UPDATE", SET, _maybe("WHERE", EXPRESSIONS)),
)
ROW = _join("(", _listed(st.just("?") | st.just("?") | LITERALS | EXPRESSIONS), ")")
#: Mostly inserts of one row of values, with what may follow them.
LANES = _join(
    st.sampled_from(
        ["INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE", "REPLACE", "INSERT OR FAIL", "insert Or abort"]
    ),
    "INTO",
    TABLES,
    _maybe("AS z"),
    _maybe("( a , b )") | _join("(", _listed(COLUMNS), ")"),
    "VALUES",
    st.just("( ? , ? )") | _join("(", _listed(st.just("?") | LITERALS), ")") | ROW,
    _maybe(
        "ON CONFLICT",
        _maybe("(", COLUMNS, ")"),
        st.just("DO NOTHING") | _join("DO UPDATE SET", COLUMNS, "=", LITERALS | st.just("excluded.b") | EXPRESSIONS),
    ),
)
RETURNING = _maybe("RETURNING", _listed(EXPRESSIONS | st.just("*"), 2))
INSERTS = _join(
    WITH,
    st.sampled_from(
        ["INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE", "REPLACE", "INSERT OR FAIL", "insert Or abort"]
    ),
    "INTO",
    TABLES,
    _maybe("AS z"),
    _maybe("(", _listed(COLUMNS), ")"),
    st.one_of(
        _join("VALUES", ROW),
        _join("VALUES", ROW),
        _join("VALUES", ROW, ",", ROW),
        SELECTS,
        st.just("DEFAULT VALUES"),
    ),
    _maybe(CONFLICT),
    RETURNING,
)
UPDATES = _join(
    WITH,
    st.sampled_from(["UPDATE", "UPDATE OR IGNORE"]),
    TABLES,
    SET,
    _maybe("FROM seen"),
    _maybe("WHERE", EXPRESSIONS),
    RETURNING,
)
DELETES = _join(WITH, "DELETE FROM", TABLES, _maybe("WHERE", EXPRESSIONS), RETURNING)
DEFINITIONS = st.one_of(
    _join(
        "CREATE",
        st.sampled_from(["TABLE", "TABLE IF NOT EXISTS", "TEMP TABLE", "TABLE temp.", "TABLE main."]),
        st.sampled_from(["made", '"made it"']),
        st.one_of(
            _join("(", _listed(_join(COLUMNS, _maybe("DEFAULT (", EXPRESSIONS, ")"))), ")"),
            _join("AS", SELECTS),
        ),
    ),
    _join(
        "CREATE", st.sampled_from(["INDEX", "UNIQUE INDEX IF NOT EXISTS"]), "i ON", TABLES, "(", _listed(COLUMNS), ")"
    ),
    _join("CREATE", st.sampled_from(["VIEW", "TEMPORARY VIEW", "VIEW IF NOT EXISTS"]), "v AS", SELECTS),
    _join(
        "CREATE TRIGGER",
        st.sampled_from(["g BEFORE INSERT ON t", "IF NOT EXISTS g AFTER UPDATE OF a ON keyed"]),
        _maybe("WHEN", EXPRESSIONS),
        "BEGIN",
        st.sampled_from(["INSERT INTO t (a) VALUES (1)", "DELETE FROM t", "SELECT CASE WHEN 1 THEN 2 END"]),
        "; END",
    ),
    _join("ALTER TABLE", TABLES, st.sampled_from(["ADD", "ADD COLUMN", "RENAME TO made --", "DROP COLUMN"]), "extra"),
    _join("DROP", st.sampled_from(["TABLE", "TABLE IF EXISTS", "VIEW IF EXISTS", "INDEX IF EXISTS"]), TABLES),
)
OTHERS = st.sampled_from(
    ["BEGIN", "COMMIT", "SAVEPOINT s", "PRAGMA user_version", "REINDEX", "ANALYZE", "VALUES (1, ?)", "EXPLAIN SELECT 1"]
)
NOISE = st.sampled_from(["", " ", "\n", " /* ? ; ' */ ", ' -- ? ; "\n', "\t"])
STATEMENTS = _join(NOISE, st.one_of(INSERTS, INSERTS, UPDATES, DELETES, SELECTS, DEFINITIONS, OTHERS), NOISE)


@pytest.mark.slow
@settings(max_examples=800)
@given(STATEMENTS)
@example("WITH w AS (SELECT 1) INSERT INTO t SELECT * FROM w")
@example("INSERT INTO t (a) VALUES (?) ON CONFLICT DO NOTHING")
def test_what_a_statement_does(sql: str) -> None:
    """A statement that SQLite takes is accepted when it writes and refused when it does not; its placeholders are
    counted as SQLite counts them, and every function that SQLite finds is known to be called."""
    report = sqlite_says(sql)
    assume(report is not None)
    assert report is not None
    writes = not WRITES.isdisjoint(report.kinds())
    event("writes" if writes else "reads or steers")
    try:
        prepared = prepare(sql)
    except JobError:
        assert not writes
        return
    assert writes or not report.actions  # DROP … IF EXISTS of what is not there
    assert report.placeholders == prepared.placeholders
    operators = {"->>", "->", "like", "glob"}  # functions of these names are called by operators
    if sqlite3.SQLITE_ALTER_TABLE not in report.kinds():  # which calls functions of SQLite's own
        assert report.functions() - operators <= calls(sql)


@pytest.mark.slow
@settings(max_examples=700)
@given(_join(NOISE, LANES, NOISE))
@example("INSERT INTO keyed (b) VALUES (?) ON CONFLICT (b) DO UPDATE SET c = (SELECT 1 FROM t)")
@example("INSERT INTO keyed (b) VALUES (?) ON CONFLICT (b) DO UPDATE SET c = excluded.b IN t")
@example("INSERT INTO keyed (b) VALUES (?) ON CONFLICT (b) DO UPDATE SET c = ?")
@example("INSERT INTO keyed (b) VALUES (?) ON CONFLICT (b) DO UPDATE SET c = (VALUES (1)) RETURNING a")
def test_what_takes_a_lane(sql: str) -> None:
    """An insert with a shape writes into that one table and reads none but it, and two of its rows in one statement
    are still one such insert for SQLite."""
    shape = insert_shape(sql)
    assume(shape is not None)
    assert shape is not None
    report = sqlite_says(sql)
    assume(report is not None)
    assert report is not None
    event("upsert" if shape.tail else "plain")
    assert {shape.table.lower()} == report.targets()
    assert sqlite3.SQLITE_SELECT not in report.kinds()
    read = {(table or "").lower() for action, table, *_ in report.actions if action == sqlite3.SQLITE_READ}
    assert read <= {shape.table.lower()}
    assert report.placeholders == shape.parameters
    rewrites = not {sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}.isdisjoint(report.kinds())
    assert shape.rewrites or not rewrites
    both = sqlite_says(f"{shape.head}{shape.group},{shape.group}{shape.tail}")
    assert both is not None
    assert 2 * shape.parameters == both.placeholders
    assert report.targets() == both.targets()


@pytest.mark.slow
@settings(max_examples=300)
@given(_join(NOISE, st.one_of(DEFINITIONS, DEFINITIONS, LANES, SELECTS), NOISE))
@example("INSERT INTO t (a) VALUES (1)")
@example("DELETE FROM t")
def test_what_is_a_definition(sql: str) -> None:
    """What `ensure=` accepts changes the schema, is not temporary, and no values are bound to it."""
    report = sqlite_says(sql)
    assume(report is not None)
    assert report is not None
    try:
        check_definition(sql)
    except JobError:
        event("refused")
        return
    event("accepted")
    assert report.placeholders == 0
    assert TEMPORARY.isdisjoint(report.kinds())
    assert not any(schema == "temp" for *_, schema in report.actions)
    data = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
    tables = {(table or "").lower() for action, table, *_ in report.actions if action in data}
    assert all(table.startswith("sqlite_") or " as " in sql.lower() or "drop" in sql.lower() for table in tables)
