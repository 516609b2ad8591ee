"""SQL text without a database: tokens, placeholders, what a job may hold, inserts in pieces; SQLite is the oracle."""

from __future__ import annotations

import pickle
import sqlite3
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_bus.errors import BadDefinition, JobError, NotRecordable, ParameterCount
from telemetry_bus.sql.shapes import InsertShape, calls, insert_shape, names_bus_table
from telemetry_bus.sql.statements import Prepared, bind, check_definition, prepare, reads
from telemetry_bus.sql.tokens import tokenize

#: Pieces that matter to a tokenizer, so that random texts meet its rules often.
FRAGMENTS = (
    "'",
    '"',
    "`",
    "[",
    "]",
    "''",
    "--",
    "\n",
    "/*",
    "*/",
    "?",
    "?1",
    ":a",
    "@a",
    "$a",
    "$a::b(c)",
    "::",
    ":",
    "x'00'",
    "1.5e3",
    "1e",
    "0x1F",
    "0xg",
    ".5",
    "\0",
    "\v",
    "\ufeff",
    "é",
    "(",
    ")",
    ";",
    ",",
    "->>",
    "SELECT",
    "END",
    " ",
)
TEXTS = st.text() | st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3)).map("".join)


@given(TEXTS)
def test_tokens_joined_are_the_text(sql: str) -> None:
    """Nothing is lost, doubled or refused, and every token knows where it stands."""
    found = tokenize(sql)
    assert sql == "".join(token.text for token in found)
    assert [(token.text, sql[token.start : token.end]) for token in found] == [(t.text, t.text) for t in found]


@given(TEXTS)
def test_no_text_raises_anything_but_an_error_of_the_bus(sql: str) -> None:
    """Whatever a caller passes, the questions are answered or refused with a typed error."""
    for ask in (prepare, check_definition, reads, insert_shape, calls, names_bus_table):
        with suppress(JobError):
            ask(sql)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("DELETE FROM t WHERE a = '?'", 0),
        ("DELETE FROM t WHERE a = 'it''s ?'", 0),
        ('DELETE FROM t WHERE "?" = ?', 1),
        ("DELETE FROM t WHERE `?` = ?", 1),
        ("DELETE FROM t WHERE [?] = ?", 1),
        ("DELETE FROM t -- ?\n WHERE a = ?", 1),
        ("DELETE FROM t /* ? ' */ WHERE a = ?", 1),
        ("DELETE FROM t /* it never ends ?", 0),
        ("DELETE FROM t WHERE a = 'it never ends ?", 0),
        ("DELETE FROM t WHERE a = x'3F' AND b = ?", 1),
        ("DELETE FROM t WHERE a ->> '$.x' = ? AND b -> ? = c", 2),
        ("DELETE FROM t WHERE a = ?::int AND b = c::text", 1),
        ("DELETE FROM t WHERE \u00e9t\u00e9 = ?", 1),
        ("\ufeffDELETE FROM t WHERE a = ?", 1),
        ("DELETE FROM t WHERE a = 5$a", 0),  # SQLite takes the whole for a malformed number
        ("DELETE FROM t", 0),
        ("DELETE FROM t;  -- ?", 0),
    ],
)
def test_placeholders_are_counted_where_they_are_placeholders(sql: str, expected: int) -> None:
    """Not in strings, quoted names, comments and casts; and the text is left as it is."""
    prepared = prepare(sql)
    assert expected == prepared.placeholders
    assert prepared.order is None
    assert sql == prepared.sql


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("UPDATE t SET a = :a, b = @b, c = $c", Prepared("UPDATE t SET a = ?, b = ?, c = ?", 3, ("a", "b", "c"))),
        ("UPDATE t SET a = :a, b=:a--:a\n", Prepared("UPDATE t SET a = ?, b=?--:a\n", 2, ("a", "a"))),
        ("UPDATE t SET a = ?2, b = ?1, c = ?02", Prepared("UPDATE t SET a = ?, b = ?, c = ?", 3, (1, 0, 1))),
        ("UPDATE t SET a = ':x', b = :x", Prepared("UPDATE t SET a = ':x', b = ?", 1, ("x",))),
        ("UPDATE t SET a = :a::int", Prepared("UPDATE t SET a = ?::int", 1, ("a",))),
        ("UPDATE t SET a = $a::b(c)", Prepared("UPDATE t SET a = ?", 1, ("a::b(c)",))),
        ("UPDATE t SET a = b::text || :\u00e9", Prepared("UPDATE t SET a = b::text || ?", 1, ("\u00e9",))),
        ("UPDATE t SET a = :1", Prepared("UPDATE t SET a = ?", 1, ("1",))),
    ],
)
def test_other_placeholders_become_positional(sql: str, expected: Prepared) -> None:
    """Each says where its value comes from; the rest of the text stays byte for byte."""
    assert expected == prepare(sql)


@pytest.mark.parametrize(
    "placeholders", ["?, :a", "?, ?1", "?1, :a", "?0, ?1", "?99999", "?" + "9" * 5000], ids=lambda text: text[:9]
)
def test_placeholders_that_make_no_sense_are_refused(placeholders: str) -> None:
    """Different styles in one statement, and numbers that SQLite does not have."""
    with pytest.raises(JobError, match="placeholder"):
        prepare(f"INSERT INTO t VALUES ({placeholders})")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "select 1",
        " -- first\n/* second */ SELECT 1",
        "\ufeffSELECT 1",
        "VALUES (1)",
        "EXPLAIN DELETE FROM t",
        "PRAGMA user_version = 1",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "WITH a(x) AS (SELECT 1), b AS (VALUES (2)) SELECT * FROM a, b",
        "WITH RECURSIVE replace AS (SELECT 1) SELECT * FROM replace",
        "SELECT 1; SELECT 2",
    ],
)
def test_a_read_is_refused(sql: str) -> None:
    """A job only writes, and the error says what to do."""
    with pytest.raises(NotRecordable) as caught:
        prepare(sql)
    assert ("submit", sql) == (caught.value.operation, caught.value.subject)
    assert "store.connection()" in caught.value.hint
    assert reads(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN",
        "begin immediate",
        "COMMIT;",
        "END",
        "ROLLBACK TO x",
        "SAVEPOINT x",
        "RELEASE x",
        "ATTACH 'x' AS y",
        "DETACH y",
        "VACUUM",
        "INSERT OR ROLLBACK INTO t VALUES (?)",
        "UPDATE OR /* */ ROLLBACK t SET a = 1",
        "WITH a AS (SELECT 1) INSERT OR ROLLBACK INTO t SELECT * FROM a",
    ],
)
def test_steering_the_transaction_is_refused(sql: str) -> None:
    """A job stands in a transaction that is not its own."""
    with pytest.raises(NotRecordable) as caught:
        prepare(sql)
    assert "each job is one transaction already" == caught.value.hint
    assert not reads(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t SELECT * FROM u",
        "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
        "WITH a AS (SELECT 1) UPDATE t SET x = (SELECT 1)",
        "WITH a AS (SELECT ')') DELETE FROM t",
        "WITH replace AS (SELECT 1) DELETE FROM t",
        "WITH a AS (WITH b AS (SELECT 1) SELECT * FROM b) DELETE FROM t",
        "DELETE t OR ROLLBACK",
        "INSRT foo",
        "INSERT INTO t VALUES ('; COMMIT')",
        "CREATE TABLE t (a)",
        "DROP TABLE t",
        "INSERT INTO t VALUES (1);",
        "INSERT INTO t VALUES (1) ; /* x */ -- y",
        "DELETE FROM t WHERE a = '\0'",
        "UPDATE OR IGNORE t SET rollback = 1",
        "\u017felect 1",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT OR ROLLBACK INTO u VALUES (1); END",
    ],
)
def test_anything_else_passes(sql: str) -> None:
    """Writes, definitions, and what only the database can judge. Keywords are ASCII: a long s is none."""
    assert sql == prepare(sql).sql
    assert not reads(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        " \n",
        "-- nothing",
        "/* nothing",
        ";",
        "INSERT INTO t VALUES (1); DELETE FROM t",
        ";DELETE FROM t",
        "DELETE FROM t;;",
        "DELETE FROM t; COMMIT",
    ],
)
def test_not_one_statement_is_refused(sql: str) -> None:
    """Neither none nor two; an empty one counts."""
    with pytest.raises(JobError) as caught:
        prepare(sql)
    assert "one statement a call" == caught.value.hint


@pytest.mark.parametrize("sql", [b"DELETE FROM t", None, 5])
def test_sql_is_text(sql: Any) -> None:
    """Something else is the caller's mistake, told as one."""
    with pytest.raises(JobError, match="SQL"):
        prepare(sql)


#: Whole statements, among them triggers with CASE … END, with names like keywords, with `;` in every disguise.
STATEMENTS = (
    "DELETE FROM t WHERE a = ';'",
    "DELETE FROM [;] /* ; */ -- ;\n WHERE `;` = 1",
    "CREATE TRIGGER r AFTER INSERT ON t BEGIN UPDATE t SET a = CASE WHEN 1 THEN 2 END; DELETE FROM t; END",
    "create temp trigger r after insert on t when case when 1 then 1 end begin select 1; /* ; */ end",
    "CREATE TEMPORARY TRIGGER \"end\" AFTER INSERT ON t BEGIN SELECT CASE 1 WHEN 1 THEN 'END;' END AS x; END -- ;",
    "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END",
    'CREATE TABLE trigger (begin, "end")',
)


@pytest.mark.parametrize("sql", STATEMENTS)
def test_statements_end_where_sqlite_says(sql: str) -> None:
    """At every `;` of the text: another statement may not follow exactly where `sqlite3.complete_statement` says so."""
    text = f"{sql}\n;"
    for position in (position for position, character in enumerate(text) if character == ";"):
        piece = text[: position + 1]
        if sqlite3.complete_statement(piece):
            with pytest.raises(JobError, match="more than one"):
                prepare(f"{piece} DELETE FROM u")
        else:
            prepare(piece)
    assert 0 == prepare(text).placeholders


@given(st.sampled_from(STATEMENTS), st.sampled_from(STATEMENTS), st.sampled_from(["", " ", "\n", "/**/", "-- x\n"]))
def test_two_statements_are_never_one(first: str, second: str, between: str) -> None:
    """A text with a whole statement behind a whole statement is refused, whatever they are."""
    with pytest.raises(JobError):
        prepare(f"{first}\n;{between}{second}")


# Values


@pytest.mark.parametrize("row", [(1, 2), [1, 2], [None, "x"]])
def test_a_row_for_plain_placeholders_is_not_copied(row: Sequence[Any]) -> None:
    """The very object: this is done for every row."""
    assert bind(prepare("INSERT INTO t VALUES (?, ?)"), row) is row


@pytest.mark.parametrize(
    ("placeholders", "params", "expected"),
    [
        (":a, :b, :a", {"a": 1, "b": 2, "c": 3}, [1, 2, 1]),
        (":a", OrderedDict(a=None), [None]),
        ("?2, ?1, ?2", (1, 2), [2, 1, 2]),
        ("?3", [1, 2, 3], [3]),
        ("?, ?", range(2), [0, 1]),
    ],
)
def test_values_go_to_their_placeholders(placeholders: str, params: object, expected: list[Any]) -> None:
    """By name with keys to spare, by number with gaps, and from any sequence."""
    assert expected == list(bind(prepare(f"INSERT INTO t VALUES ({placeholders})"), params))


@pytest.mark.parametrize(
    ("placeholders", "params", "told"),
    [
        ("?, ?", (1,), ["2", "1"]),
        ("?", (1, 2, 3), ["1", "3"]),
        ("1", (5,), ["0", "1"]),
        ("?", "x", ["1", "str"]),
        ("?", b"x", ["1", "bytes"]),
        ("?", {"a": 1}, ["1", "dict"]),
        ("?", {1}, ["1", "set"]),
        ("?", 7, ["1", "int"]),
        ("?", None, ["1", "NoneType"]),
        ("?2", (1,), ["2", "1"]),
        ("?1", (1, 2), ["1", "2"]),
        ("?1", "x", ["1", "str"]),
        (":a, :b, :c", {"b": 1}, ["a", "c"]),
        (":a", (1,), ["tuple"]),
        (":a", {"A": 1}, ["a"]),
    ],
)
def test_values_that_do_not_fit_are_refused(placeholders: str, params: object, told: list[str]) -> None:
    """The error tells what was expected and what was given, or which names have no value."""
    prepared = prepare(f"INSERT INTO t VALUES ({placeholders})")
    with pytest.raises(ParameterCount) as caught:
        bind(prepared, params)
    assert ("submit", prepared.sql) == (caught.value.operation, caught.value.subject)
    assert [] == [text for text in told if text not in caught.value.message]
    assert caught.value.hint


def test_only_names_without_a_value_are_told() -> None:
    """The one that was given is not among them."""
    with pytest.raises(ParameterCount, match=r"for first, third \["):
        bind(prepare("INSERT INTO t VALUES (:first, :second, :third, :first)"), {"second": 2})


class _Generous(dict[str, int]):
    def __missing__(self, name: str) -> int:
        return 42


def test_a_mapping_may_make_its_values() -> None:
    """As in sqlite3, which asks the mapping and not its keys."""
    assert [42] == list(bind(prepare("INSERT INTO t VALUES (:a)"), _Generous()))


NAMED = st.sampled_from([":a", "@a", "$a", ":b", "$b::c", "$b::c(d)", ":\u00e9", "':a'", "1"])
NAMED_VALUES = {"a": 1, "b": "two", "b::c": 3.5, "b::c(d)": b"four", "\u00e9": None}
NUMBERED = st.sampled_from(["?1", "?2", "?3", "?01", "'?1'", "x'01'", "-1"])


def _run(sql: str, params: Any) -> list[Any]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a, b, c)")
        connection.execute(sql, params)
        return connection.execute("SELECT * FROM t").fetchall()


@given(
    st.tuples(NAMED, NAMED, NAMED).map(lambda three: (three, NAMED_VALUES))
    | st.tuples(NUMBERED, NUMBERED, st.just("?3")).map(lambda three: (three, (10, 20, 30))),
    st.sampled_from([" ", "/* :a ?1 ' */", "-- :a ?1 '\n"]),
)
def test_rewriting_placeholders_does_not_change_what_is_written(
    case: tuple[tuple[str, str, str], Mapping[str, Any] | tuple[int, ...]], between: str
) -> None:
    """SQLite writes the same with its own placeholders and with ours."""
    expressions, params = case
    sql = f"INSERT INTO t{between}VALUES ({f',{between}'.join(expressions)})"
    prepared = prepare(sql)
    assert _run(sql, params) == _run(prepared.sql, bind(prepared, () if prepared.order is None else params))


# Definitions


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE t (a)",
        "create unique index if not exists i on t (a);",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM u; END",
        "CREATE TABLE temp (a)",
        "ALTER TABLE t ADD COLUMN a",
        "alter table main.t add a integer default '?'",
        'ALTER TABLE "ADD" ADD a',
        "DROP TABLE IF EXISTS t",
        "DROP INDEX IF /* */ EXISTS i",
        "ALTER TABLE t ADD COLUMN IF NOT EXISTS a",
        "CREATE TABLE t (a) -- ;",
    ],
)
def test_a_definition_passes(ddl: str) -> None:
    """What can be executed again and again."""
    check_definition(ddl)


@pytest.mark.parametrize(
    "ddl",
    [
        "DROP TABLE t",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t DROP COLUMN a",
        "ALTER TABLE t RENAME a TO add",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a)",
        "ALTER TABLE t",
        "INSERT INTO t VALUES ('IF NOT EXISTS')",
        "DELETE FROM t WHERE NOT EXISTS (SELECT 1)",
        "DROP TABLE t -- IF EXISTS",
        'DROP TABLE "IF" "EXISTS"',
        "CREATE TEMP TABLE t (a)",
        "create temporary view v as select 1",
        "CREATE TABLE temp.t (a)",
        'CREATE TABLE IF NOT EXISTS "temp".t (a)',
        "CREATE TABLE t (a DEFAULT ?)",
        "CREATE TABLE :t (a)",
        "CREATE TABLE t (a); CREATE TABLE u (a)",
        "",
        "-- CREATE TABLE t (a)",
        "PRAGMA if not exists",
        "VACUUM IF EXISTS",
        "ATTACH IF EXISTS 'x' AS y",
        "EXPLAIN CREATE TABLE t (a)",
        "WITH a AS (SELECT 1) SELECT if exists",
        "TABLE",
    ],
)
def test_anything_else_is_no_definition(ddl: str) -> None:
    """What changes data, cannot be repeated, takes values, or lives in one connection only."""
    for _ in range(2):  # the second answer is remembered
        with pytest.raises(BadDefinition) as caught:
            check_definition(ddl)
        assert ("submit", ddl) == (caught.value.operation, caught.value.subject)
        assert caught.value.hint


@pytest.mark.parametrize("ddl", [None, b"CREATE TABLE t (a)", ["CREATE TABLE t (a)"]])
def test_a_definition_is_text(ddl: Any) -> None:
    """Also what cannot be hashed is refused with a typed error."""
    with pytest.raises(BadDefinition):
        check_definition(ddl)


# Inserts


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("INSERT INTO t VALUES (?, ?)", ("t", "INSERT INTO t VALUES ", "(?, ?)", "", 2, False)),
        ("insert into t(a)values(?);", ("t", "insert into t(a)values", "(?)", "", 1, False)),
        ("REPLACE INTO t VALUES (?)", ("t", "REPLACE INTO t VALUES ", "(?)", "", 1, True)),
        ("INSERT OR REPLACE INTO t VALUES (1)", ("t", "INSERT OR REPLACE INTO t VALUES ", "(1)", "", 0, True)),
        ("INSERT OR IGNORE INTO t VALUES (?)", ("t", "INSERT OR IGNORE INTO t VALUES ", "(?)", "", 1, False)),
        ("INSERT OR ABORT INTO t VALUES (?)", ("t", "INSERT OR ABORT INTO t VALUES ", "(?)", "", 1, False)),
        (
            'INSERT INTO "a""b" AS x ("c", [d], \'e\') VALUES (?, -1, +.5)',
            ('a"b', 'INSERT INTO "a""b" AS x ("c", [d], \'e\') VALUES ', "(?, -1, +.5)", "", 1, False),
        ),
        (
            "INSERT INTO MAIN.[t] VALUES /* ( */ ('?)', x'00', NULL, true, False, CURRENT_TIMESTAMP, 0x1F, ?) -- x",
            (
                "t",
                "INSERT INTO MAIN.[t] VALUES /* ( */ ",
                "('?)', x'00', NULL, true, False, CURRENT_TIMESTAMP, 0x1F, ?)",
                "",
                1,
                False,
            ),
        ),
        (
            "INSERT INTO 't' VALUES (?, -- first\n ?) -- then\n ON CONFLICT DO NOTHING -- last",
            ("t", "INSERT INTO 't' VALUES ", "(?, -- first\n ?)", " -- then\n ON CONFLICT DO NOTHING", 2, False),
        ),
        (
            "INSERT INTO t VALUES (?) ON CONFLICT (a) DO UPDATE SET a = max(a, excluded.a) WHERE a IN (1) ; ",
            (
                "t",
                "INSERT INTO t VALUES ",
                "(?)",
                " ON CONFLICT (a) DO UPDATE SET a = max(a, excluded.a) WHERE a IN (1)",
                1,
                True,
            ),
        ),
    ],
)
def test_the_shape_of_an_insert(sql: str, expected: tuple[str, str, str, str, int, bool]) -> None:
    """Cut at the group; the parts keep their comments, what follows the statement is dropped."""
    assert InsertShape(*expected) == insert_shape(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT OR ROLLBACK INTO t VALUES (?)",
        "INSERT OR FAIL INTO t VALUES (?)",
        "INSERT INTO t SELECT ?",
        "INSERT INTO t DEFAULT VALUES",
        "WITH a AS (SELECT 1) INSERT INTO t VALUES (?)",
        "UPDATE t SET a = ?",
        "INTO t VALUES (?)",
        "INSERT t VALUES (?)",
        "INSERT INTO temp.t VALUES (?)",
        "INSERT INTO other.t VALUES (?)",
        "INSERT INTO t VALUES (?), (?)",
        "INSERT INTO t VALUES ()",
        "INSERT INTO t VALUES (?,)",
        "INSERT INTO t VALUES (? ?)",
        "INSERT INTO t VALUES (?",
        "INSERT INTO t VALUES",
        "INSERT INTO t VALUES (?) x",
        "INSERT INTO t VALUES (?) RETURNING a",
        "INSERT INTO t VALUES (? + 1)",
        "INSERT INTO t VALUES (lower(?))",
        "INSERT INTO t VALUES (-'a')",
        "INSERT INTO t VALUES ((?))",
        'INSERT INTO t VALUES ("a")',
        "INSERT INTO t VALUES (a)",
        "INSERT INTO t VALUES (-?)",
        "INSERT INTO t VALUES (1x)",
        "INSERT INTO t VALUES ((SELECT 1))",
        "INSERT INTO t VALUES (:a)",
        "INSERT INTO t VALUES (?1)",
        "INSERT INTO t (1) VALUES (?)",
        "INSERT INTO 5 VALUES (?)",
        "INSERT INTO t AS 1 VALUES (?)",
        "INSERT INTO t () VALUES (?)",
        "INSERT INTO t (a,) VALUES (?)",
        "INSERT INTO t (lower(a)) VALUES (?)",
        "INSERT INTO t VALUES (?) ON CONFLICT",
        "INSERT INTO t VALUES (?) ON CONFLICT (a)",
        "INSERT INTO t VALUES (?) ON CONFLICT DO UPDATE SET a = ?",
        "INSERT INTO t VALUES (?) ON CONFLICT DO UPDATE SET a = (SELECT 1)",
        "INSERT INTO t VALUES (?) ON CONFLICT DO UPDATE SET a = (VALUES (1))",
        "INSERT INTO t VALUES (?) ON CONFLICT DO UPDATE SET a = 1 WHERE a IN u",
        "INSERT INTO t VALUES (?) ON CONFLICT DO NOTHING RETURNING a",
        "INSERT INTO t VALUES (?); DELETE FROM t",
        ";INSERT INTO t VALUES (?)",
        "",
    ],
)
def test_what_cannot_be_joined_has_no_shape(sql: str) -> None:
    """It would mean something else with many rows, look at another table, or is no insert at all."""
    assert insert_shape(sql) is None


def test_a_shape_survives_pickling() -> None:
    """Plain frozen data, equal by value and usable as a key."""
    shape = insert_shape("INSERT INTO t VALUES (?)")
    assert shape == pickle.loads(pickle.dumps(shape))
    assert hash(shape) == hash(pickle.loads(pickle.dumps(shape)))


SPACES = st.sampled_from([" ", "\n\t", "/* ( ? ' */", "-- ) ? '\n", " /**/ "])
ENDS = st.sampled_from(["", ";", " -- end", "\n;-- end ?", " /* end"])
CONFLICTS = st.sampled_from(
    [
        "",
        "ON CONFLICT DO NOTHING",
        "ON CONFLICT (k) DO NOTHING",
        "on conflict (k) do update set v = excluded.v",
        "ON CONFLICT (k) DO UPDATE SET n = n + 1, v = 'x;--' WHERE v IN ('a', 'b') OR n > 1",
        "ON CONFLICT (k) WHERE 1 DO UPDATE SET v = v || excluded.v",
    ]
)
VALUES = st.sampled_from(["?", "?", "?", "NULL", "true", "'a'", "'it''s ?'", "-1", "+2.5", "x'6162'", "0x10"])
HEADS = st.sampled_from(["INSERT", "insert or ignore", "INSERT OR REPLACE", "REPLACE", "INSERT OR ABORT"])
TARGETS = st.sampled_from(["t", "main.t", '"t"', "[t]", "`t`", "'t'", "t AS x", "T"])
CELLS = st.sampled_from([None, 0, 1, 2, "a", "b", 1.5])


@st.composite
def inserts(draw: st.DrawFn) -> str:
    """A single-row insert into `t (k, v)`, with space, comments, quotes and clauses in every combination."""
    parts = [draw(HEADS), "INTO", draw(TARGETS), "(k, v)", "VALUES", f"({draw(VALUES)},{draw(SPACES)}{draw(VALUES)})"]
    text = "".join(part + draw(SPACES) for part in [*parts, draw(CONFLICTS)])
    return text.removesuffix("\n") + draw(ENDS) if draw(st.booleans()) else text


def _memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (k INTEGER UNIQUE, v TEXT, n INTEGER DEFAULT 0)")
    return connection


def _contents(connection: sqlite3.Connection) -> list[Any]:
    return connection.execute("SELECT rowid, k, typeof(v), v, n FROM t ORDER BY rowid").fetchall()


@given(inserts(), st.data(), st.integers(1, 5))
def test_many_rows_in_one_statement_mean_the_same(sql: str, data: st.DataObject, count: int) -> None:
    """On a real SQLite: the statement made of the parts leaves what single executions leave, or fails where they do."""
    shape = insert_shape(sql)
    assert shape is not None
    assert "t" == shape.table.lower()
    assert shape.parameters == prepare(sql).placeholders
    cells = st.lists(CELLS, min_size=shape.parameters, max_size=shape.parameters)
    rows = data.draw(st.lists(cells, min_size=count, max_size=count))
    with closing(_memory()) as one_by_one, closing(_memory()) as together:
        before = _contents(one_by_one)
        failed = False
        try:
            one_by_one.execute("BEGIN")
            for row in rows:
                one_by_one.execute(sql, row)
        except sqlite3.IntegrityError:
            failed = True
            one_by_one.execute("ROLLBACK")
        text = shape.head + ",".join([shape.group] * count) + shape.tail
        values = [value for row in rows for value in row]
        if failed:
            with pytest.raises(sqlite3.IntegrityError):
                together.execute(text, values)
            assert before == _contents(together)
        else:
            together.execute(text, values)
            assert _contents(one_by_one) == _contents(together)


@given(inserts(), st.lists(CELLS, min_size=2, max_size=2))
def test_an_insert_that_does_not_rewrite_changes_no_row(sql: str, row: list[Any]) -> None:
    """`rewrites` is false only if the rows that were there stay as they were."""
    shape = insert_shape(sql)
    assert shape is not None
    with closing(_memory()) as connection:
        connection.execute("INSERT INTO t VALUES (0, 'old', 1), (1, 'old', 2), (-1, 'old', 3)")
        before = _contents(connection)
        try:
            connection.execute(sql, row[: shape.parameters])
        except sqlite3.IntegrityError:
            return
        assert shape.rewrites or before == _contents(connection)[: len(before)]


# Functions and tables


@pytest.mark.parametrize(
    ("sql", "name", "expected"),
    [
        ("INSERT INTO t VALUES (last_insert_rowid())", "last_insert_rowid", True),
        ("INSERT INTO t VALUES (Changes /* */ ())", "changes", True),
        ('INSERT INTO t VALUES ("total_changes"())', "total_changes", True),
        ("INSERT INTO t VALUES ([changes]())", "changes", True),
        ("INSERT INTO t VALUES ('changes()')", "changes", False),
        ("INSERT INTO t VALUES ('changes' ())", "changes", False),
        ("INSERT INTO t (changes) VALUES (1) -- changes()", "changes", False),
        ("INSERT INTO changes (a) VALUES (1)", "changes", False),
    ],
)
def test_functions_that_are_called(sql: str, name: str, expected: bool) -> None:
    """A name with a parenthesis behind it, however it is written; not the table that is written to."""
    assert expected == (name in calls(sql))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("DELETE FROM telemetry_bus_ledger", True),
        ("DELETE FROM main . TELEMETRY_Bus_ledger", True),
        ('DELETE FROM "telemetry_bus_ledger"', True),
        ("DELETE FROM [telemetry_bus_x", True),
        ("DELETE FROM `telemetry_bus_x`", True),
        ("DELETE FROM 'telemetry_bus_ledger'", True),
        ("CREATE TABLE t (a REFERENCES 'telemetry_bus_ledger')", True),
        ("CREATE TABLE t (a, FOREIGN KEY (a) REFERENCES /* */ [telemetry_bus_ledger] (b))", True),
        ("ALTER TABLE t RENAME TO 'telemetry_bus_t'", True),
        ("CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM u WHERE a IN telemetry_bus_ledger; END", True),
        ("CREATE VIEW v AS SELECT 1 FROM a, 'telemetry_bus_ledger'", False),
        ("CREATE TABLE t (telemetry_bus_a, b DEFAULT 'telemetry_bus_ledger')", False),
        ("ALTER TABLE t RENAME COLUMN a TO telemetry_bus_a", False),
        ("INSERT INTO t (telemetry_bus_a) SELECT u.telemetry_bus_a FROM t JOIN u ON telemetry_bus_a = b", False),
        ("UPDATE t SET telemetry_bus_a = 'telemetry_bus_ledger' WHERE telemetry_bus_a > 1", False),
        ("DELETE FROM t -- telemetry_bus_ledger", False),
        ("DELETE FROM my_telemetry_bus_ledger", False),
        ("DELETE FROM telemetry_bus", False),
        ("DELETE FROM t WHERE a = :telemetry_bus_x", False),
    ],
)
def test_names_of_the_bus_own_tables(sql: str, expected: bool) -> None:
    """Quoted in any way; SQLite takes a string for a name where one is needed. Not in comments and placeholders."""
    assert expected == names_bus_table(sql)


@pytest.mark.parametrize("ask", [prepare, insert_shape, calls, names_bus_table, reads])
def test_what_is_remembered_is_bounded(ask: Any) -> None:
    """A program that makes its SQL anew each time does not fill the memory."""
    assert 0 < ask.cache_info().maxsize <= 1024
