"""What the bus says of SQL text against what SQLite says of it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from telemetry_bus.errors import JobError, NotRecordable
from telemetry_bus.sql.shapes import names_bus_table
from telemetry_bus.sql.statements import prepare, reads

#: Between two tokens there may stand any of these.
SPACE = st.lists(
    st.sampled_from([" ", "\n", "\t", "/* ? ' \" */", "-- ? :a '\n", "/**/", "/* -- */", "--\n", "\r\n", "\f"]),
    min_size=1,
    max_size=3,
).map(lambda parts: " " + "".join(parts))

#: Expressions with and without a placeholder, and what looks like one and is none.
EXPRESSIONS = st.sampled_from(
    [
        "?",
        "?",
        "?",
        "1",
        "-?",
        "(?)",
        "'?'",
        "'it''s ?'",
        "''",
        "'--'",
        "x'3F'",
        "NULL",
        '"?"',
        "[?]",
        "`?`",
        "'/*'",
        "1.5e3",
        "0x1F",
        "? + ?",
        "max(?, 2)",
        "CASE WHEN ? THEN 'a?' ELSE ? END",
        "? IS NULL",
        "?||'?'",
        ".5",
        "5.",
        "?/*?*/",
        "? -- ?\n",
        "'\n?'",
        '"a""?"',
        "?*-1",
        "?<>?",
        "cast(? AS TEXT)",
        "e\u0301",
        "1e",
        "$",
        "?a",
        "5?",
    ]
)


def sqlite_counts(sql: str) -> int | None:
    """How many values SQLite wants for a statement; None when it does not take it for one."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute('CREATE TABLE t (a, "?", "a""?")')
        try:
            connection.execute(sql, [None] * 40)
        except sqlite3.ProgrammingError as error:
            found = re.search(r"statement uses (\d+), and there are 40", str(error))
            return int(found[1]) if found else None
        except sqlite3.Error:
            return None
    raise AssertionError("no statement of this test has forty placeholders")


@pytest.mark.slow
@settings(max_examples=250)
@given(st.lists(st.tuples(SPACE, EXPRESSIONS), min_size=1, max_size=6), SPACE)
def test_placeholders_are_those_of_sqlite(parts: list[tuple[str, str]], end: str) -> None:
    """As many as SQLite counts, in whatever strings, names, comments and blobs they stand or do not stand."""
    values = ",".join(space + expression for space, expression in parts)
    sql = f"UPDATE t SET a = coalesce(NULL,{values}) {end}"
    expected = sqlite_counts(sql)
    assume(expected is not None)
    assert expected == prepare(sql).placeholders


STEERING = (
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "END TRANSACTION",
    "ROLLBACK",
    "SAVEPOINT s",
    "RELEASE s",
    "ROLLBACK TO s",
    "ATTACH ':memory:' AS other",
    "DETACH other",
    "PRAGMA synchronous=OFF",
    "VACUUM",
    "SELECT 1",
    "VALUES (1)",
    "WITH w AS (SELECT 1) SELECT * FROM w",
    "EXPLAIN DELETE FROM t",
    "SELECT load_extension('x')",
)


@settings(max_examples=80)
@given(st.sampled_from(STEERING), st.data())
def test_what_reads_or_steers_is_never_recorded(sql: str, data: st.DataObject) -> None:
    """However it is written: upper or lower case, with comments and space around and between, with a semicolon."""
    words = [data.draw(st.sampled_from([word, word.lower(), word.title()])) for word in sql.split(" ")]
    noise = st.sampled_from([""]) | SPACE
    text = data.draw(noise) + data.draw(SPACE).join(words) + data.draw(st.sampled_from(["", ";", " ;--"]))
    with pytest.raises(JobError) as refused:
        prepare(text)
    assert isinstance(refused.value, NotRecordable)
    first = sql.split(" ")[0]
    assert (first in ("SELECT", "VALUES", "EXPLAIN", "PRAGMA", "WITH")) == reads(text)


QUOTES = st.sampled_from([("", ""), ('"', '"'), ("`", "`"), ("[", "]")])
USES = (
    "DELETE FROM {}",
    "UPDATE {} SET updated_at = 0",
    "INSERT INTO {} DEFAULT VALUES",
    "DROP TABLE {}",
    "ALTER TABLE {} ADD COLUMN x",
    "CREATE TRIGGER g AFTER INSERT ON {} BEGIN SELECT 1; END",
    "CREATE VIEW v AS SELECT * FROM {}",
    "INSERT INTO t SELECT 1 FROM main.{}",
    "CREATE INDEX i ON {} (updated_at)",
    "WITH w AS (SELECT * FROM {}) INSERT INTO t SELECT 1 FROM w",
)


@settings(max_examples=80)
@given(st.sampled_from(USES), QUOTES, st.sampled_from(["ledger", "dead_letters", "anything"]), st.data())
def test_tables_of_the_bus_are_known_in_every_quoting(
    use: str, quotes: tuple[str, str], table: str, data: st.DataObject
) -> None:
    """In any case of letters, in any quotes, behind any comment."""
    name = "".join(data.draw(st.sampled_from([c, c.upper()])) for c in f"telemetry_bus_{table}")
    assert names_bus_table(use.format(data.draw(SPACE) + quotes[0] + name + quotes[1]) + data.draw(SPACE))


@settings(max_examples=80)
@given(st.sampled_from(USES), st.sampled_from(["'", "--", "/*"]))
def test_a_table_with_another_name_is_not_the_bus_own(use: str, opening: str) -> None:
    """Also when comments and strings name one of the bus."""
    closing_mark = {"'": "'", "--": "\n", "/*": "*/"}[opening]
    assert not names_bus_table(use.format("mine") + f" {opening}telemetry_bus_ledger{closing_mark}")
