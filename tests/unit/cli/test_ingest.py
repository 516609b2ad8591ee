"""What `telemetry-bus ingest` makes of bytes: records, columns, and how far a file was taken."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_bus import BadDefinition, ConfigError, DatabaseFault
from telemetry_bus.cli.ingest import ledger, tables
from telemetry_bus.cli.ingest.columns import Columns, Misfit
from telemetry_bus.cli.ingest.files import opened
from telemetry_bus.cli.ingest.loading import Rejected
from telemetry_bus.cli.ingest.records import MAX_RECORD_BYTES, Input, Mark, Record, csv_rows, json_lines
from telemetry_bus.config import parse_database

MEMORY = parse_database(":memory:")


def values(reader: Any, data: bytes) -> list[Any]:
    """Each record's values, or why it has none."""
    return [record.reason or record.values for record in reader(Input(io.BytesIO(data)), None)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a": 1}\n{"a": "x"}', [{"a": 1}, {"a": "x"}]),
        (b'\xef\xbb\xbf{"a": 1}\r\n\r\n \n{"a": 2}\r\n', [{"a": 1}, {"a": 2}]),
        (b'{"a": "\xc3\xa4\x00\\u0000"}\n', ["no JSON: Invalid control character at: line 1 column 9 (char 8)"]),
        (b"[1]\n", ["no JSON object but list"]),
        (b"1\nnull\n", ["no JSON object but int", "no JSON object but NoneType"]),
        (b'{"a": NaN}\n', ["no JSON: NaN is no number of JSON"]),
        (b"", []),
    ],
)
def test_json_lines(data: bytes, expected: list[Any]) -> None:
    assert expected == values(json_lines, data)


@pytest.mark.parametrize("data", [b'{"a": "\xff"}\n', b"{bad\n", b"[" * 100_000 + b"\n", b'{"a": 1} {"b": 2}\n'])
def test_no_json(data: bytes) -> None:
    """The records around it are taken."""
    found = values(json_lines, b'{"a": 1}\n' + data + b'{"a": 2}\n')
    assert ({"a": 1}, {"a": 2}) == (found[0], found[2])
    assert "no JSON: " in found[1]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a,b\n1,x\n,\n", [{"a": "1", "b": "x"}, {"a": None, "b": None}]),
        (b'a,b\r\n"1\r\n2","x ""y"""\r\n', [{"a": "1\r\n2", "b": 'x "y"'}]),
        (b"\xef\xbb\xbfa , b\n\n1,2", [{"a": "1", "b": "2"}]),
        (b"a\n1,2\n3\n", ["2 cells, and the header has 1", {"a": "3"}]),
        (b'a\n"1\n2\n', ["a quotation that does not end"]),
        (b'a\n"1"2\n3\n', ["no CSV: ',' expected after '\"'", {"a": "3"}]),
        (b"a\n", []),
        (b"", []),
    ],
)
def test_csv(data: bytes, expected: list[Any]) -> None:
    assert expected == values(csv_rows, data)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"a,,c\n", "column 2"), (b"a,b,a\n", "names a twice"), (b"\xff\xfea\x00", "UTF-16"), (b'a"b,\xff\n', "no CSV")],
)
def test_a_header_that_names_no_columns(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        values(csv_rows, data)


@pytest.mark.parametrize(("reader", "head"), [(json_lines, b""), (csv_rows, b"a\n")])
def test_a_record_that_is_too_long(reader: Any, head: bytes) -> None:
    """It is rejected, and what comes after it is read."""
    long = b'{"a": "' + b"x" * (2 * MAX_RECORD_BYTES) + b'"}\n'
    last = b'{"a": 1}\n' if reader is json_lines else b"1\n"
    first, second = reader(Input(io.BytesIO(head + long + last)), None)
    assert ("longer than 4 MiB", None) == (first.reason, first.values)
    assert second.values in ({"a": 1}, {"a": "1"})
    assert len(head.splitlines()) + 2 == second.line


DATA = {
    "jsonl": (json_lines, b'{"a": 1}\n\n{"a": 2}\n{bad\n{"a": 4}\n{"a": 5}'),
    "csv": (csv_rows, b'a\n1\n\n"2\n2"\n3,3\n4\n5'),
}


@pytest.mark.parametrize("kind", DATA)
def test_reading_begins_behind_any_record(kind: str) -> None:
    """With the same records, lines and digest as in one go."""
    reader, data = DATA[kind]
    whole = Input(io.BytesIO(data))
    marks: list[Mark] = []
    records: list[Record] = []
    for record in reader(whole, None):
        records.append(record)
        marks.append(whole.mark())
    for count, mark in enumerate(marks, 1):
        again = Input(io.BytesIO(data))
        assert records[count:] == [*reader(again, mark)]
        assert marks[-1].hash.digest() == again.mark().hash.digest()
        found = again.mark_at(mark.position, mark.lines)
        assert found is not None
        assert (mark[:3], mark.hash.digest()) == (found[:3], found.hash.digest())


@pytest.mark.parametrize("kind", DATA)
def test_an_input_that_grows(kind: str) -> None:
    """Whatever part of it is there at a look, each record is read once, when it is complete."""
    reader, data = DATA[kind]
    data += b"\n"
    expected = values(reader, data)
    for step in range(1, len(data)):
        found: list[Any] = []
        stream = io.BytesIO()
        input, mark = Input(stream, grows=True), None
        for end in (*range(0, len(data), step), len(data)):
            at = stream.tell()
            stream.seek(0)
            stream.write(data[:end])
            stream.seek(at)
            input.rewind()
            for record in reader(input, mark):
                found.append(record.reason or record.values)
                mark = input.mark()
        assert expected == found


def test_columns_are_as_narrow_as_what_they_hold() -> None:
    columns = Columns("t", {})
    columns.learn(
        [{"i": 1, "r": 1, "b": True, "m": 1, "n": None}, {"i": None, "r": 0.5, "b": False, "m": "x", "s": "5"}]
    )
    (text,) = columns.ensure
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(text)
        found = dict(connection.execute("SELECT name, type FROM pragma_table_info('t')").fetchall())
    assert {"i": "INTEGER", "r": "REAL", "b": "BOOLEAN", "m": "TEXT", "n": "TEXT", "s": "TEXT"} == found


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2", "9223372036854775807"], "INTEGER"),
        (["1", "0.5"], "REAL"),
        (["007"], "TEXT"),
        (["1.10"], "TEXT"),
        (["+1"], "TEXT"),
        (["1", "9223372036854775808"], "TEXT"),
        (["1e5"], "TEXT"),
        (["nan"], "TEXT"),
        (["1", "x"], "TEXT"),
        ([" 1"], "TEXT"),
        (["\N{ARABIC-INDIC DIGIT ONE}"], "TEXT"),
    ],
)
def test_texts_are_numbers_only_when_nothing_is_lost(cells: list[str], kind: str) -> None:
    columns = Columns("t", {}, untyped=True)
    columns.learn([{"a": cell} for cell in cells])
    assert f'"a" {kind}' in columns.ensure[0]
    plan = columns.plan(("a",))
    assert cells == [str(*plan.row([cell])) for cell in cells]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INTEGER", "007"),
        ("REAL", "1.10"),
        ("INTEGER", 2**63),
        ("REAL", 2**53 + 1),
        ("INTEGER", " 1 "),
        ("REAL", "1e3"),
    ],
)
def test_what_a_column_would_change_is_a_misfit(kind: str, value: object) -> None:
    with pytest.raises(Misfit):
        Columns("t", {"a": kind}).plan(("a",)).row([value])


@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()), min_size=1))
def test_what_is_taken_is_stored_as_it_was(items: list[Any]) -> None:
    """In a column of texts everything else is its JSON."""
    columns = Columns("t", {})
    columns.learn([{"a": item} for item in items])
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(columns.ensure[0])
        for item in items:
            try:
                plan = columns.plan(("a",))
                row = plan.row([item])
                connection.execute(plan.sql, row)
            except (Misfit, UnicodeEncodeError):
                continue
            (found,) = connection.execute("SELECT a FROM t ORDER BY rowid DESC LIMIT 1").fetchone()
            assert found == (json.dumps(item) if isinstance(found, str) and not isinstance(item, str) else item)


@pytest.mark.parametrize(
    ("record", "reason"),
    [({}, "no columns"), ({"": 1}, "without a name"), ({"a": 1, "A": 2}, "two names"), ({"ä": 1, "Ä": 2}, None)],
)
def test_names_of_columns(record: dict[str, object], reason: str | None) -> None:
    """They are compared as SQLite does."""
    columns = Columns("t", {})
    columns.learn([record])
    if reason is None:
        columns.plan(tuple(record))
    else:
        with pytest.raises(Misfit, match=reason):
            columns.plan(tuple(record))


def test_columns_that_come_later() -> None:
    columns = Columns('a "t"', {"a": "INTEGER"})
    columns.learn([{"a": 1}])
    assert not columns.ensure
    columns.learn([{"A": 1, 'b"': 2.5}])
    assert ('ALTER TABLE "a ""t""" ADD COLUMN "b""" REAL',) == columns.ensure


def test_definitions_of_the_user(tmp_path: Path) -> None:
    """Triggers with semicolons are whole; no other columns come; CSV is stored as the types have it."""
    path = tmp_path / "t.sql"
    path.write_text(
        "CREATE TABLE t (a REAL, b TEXT);\n-- a comment;\n"
        "CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END;\n"
    )
    found = tables.definitions(path, "sqlite")
    assert 2 == len(found)
    with closing(sqlite3.connect(":memory:")) as connection:
        present = tables.columns(connection, MEMORY, "t", found)
        columns = Columns("t", present, found, untyped=True)
        columns.learn([{"c": 1}])
        with pytest.raises(Misfit, match="no column c"):
            columns.plan(("c",))
        assert ("1.10", "007") == columns.plan(("a", "b")).row(["1.10", "007"])
        with pytest.raises(BadDefinition, match="no table other"):
            tables.columns(connection, MEMORY, "other", found)


@pytest.mark.parametrize(("text", "error"), [("CREATE TABLE t (a", ConfigError), ("DROP TABLE t;", BadDefinition)])
def test_definitions_that_are_none(tmp_path: Path, text: str, error: type[Exception]) -> None:
    path = tmp_path / "t.sql"
    path.write_text(text)
    with pytest.raises(error):
        tables.definitions(path, "sqlite")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(ledger.definition("sqlite"))
        yield connection


def take(connection: sqlite3.Connection, data: bytes, path: str = "/f", end: int | None = None) -> ledger.Taken:
    """As a job of `ingest` does it, up to `end`."""
    input = Input(io.BytesIO(data))
    taken = ledger.find(connection, input, path, "t")
    mark = input.mark_at(len(data) if end is None else end, 1)
    assert mark is not None
    statement = taken.move(mark, 1, 0)
    connection.execute(statement.sql, statement.rows[0])
    taken.moved(mark, 1, 0)
    return taken


def test_a_file_goes_on_where_it_was(connection: sqlite3.Connection) -> None:
    """Under another name, too, and when it has grown; a file of another table, or another file, begins anew."""
    data = b"x" * 10_000 + b"y" * 10_000
    first = take(connection, data[:5])
    assert first.id == take(connection, data[:15_000]).id
    found = ledger.find(connection, Input(io.BytesIO(data)), "/copy", "t")
    assert (first.id, 15_000, 2) == (found.id, found.mark and found.mark.position, found.records)
    assert ledger.find(connection, Input(io.BytesIO(data)), "/f", "other").mark is None
    assert ledger.find(connection, Input(io.BytesIO(b"z" + data)), "/f", "t").mark is None


def test_a_file_that_has_changed(connection: sqlite3.Connection) -> None:
    """Behind its first bytes: under its path that is an error, and another file under another path."""
    data = b"x" * 10_000
    take(connection, data)
    changed = data[:-1] + b"y"
    for other in (changed, data[:-1]):
        with pytest.raises(DatabaseFault, match="has changed"):
            ledger.find(connection, Input(io.BytesIO(other)), "/f", "t")
        assert ledger.find(connection, Input(io.BytesIO(other)), "/g", "t").mark is None


def test_of_two_that_take_one_file_one_fails(connection: sqlite3.Connection) -> None:
    """Also as a job that is run once more."""
    data = b"x" * 100
    one = take(connection, data, end=10)
    two = ledger.find(connection, Input(io.BytesIO(data)), "/f", "t")
    input = Input(io.BytesIO(data))
    moves = [taken.move(mark, 1, 0) for taken in (one, two) if (mark := input.mark_at(20, 1))]
    connection.execute(moves[0].sql, moves[0].rows[0])
    for move in moves:
        with pytest.raises(sqlite3.IntegrityError, match="position"):
            connection.execute(move.sql, move.rows[0])
    assert [(20,)] == connection.execute("SELECT position FROM telemetry_ingested").fetchall()


def test_packed_files(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n'))
    with opened(str(path), follow=False) as stream:
        assert [{"a": 1}] == [record.values for record in json_lines(Input(stream), None)]
    with pytest.raises(ConfigError, match="does not grow"), opened(str(path), follow=True):
        pass


def test_one_file_is_taken_once_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.touch()
    with opened(str(path), follow=False), pytest.raises(ConfigError, match="another process"):
        opened(str(path), follow=False).__enter__()


def test_rejected_records_are_written_down_once(tmp_path: Path) -> None:
    """What a process that was killed had written down and not taken is forgotten, and a line that it began."""
    path = tmp_path / "f.rejected"
    for _ in range(2):
        rejected = Rejected(path)
        rejected.forget_after(1)
        for line in (1, 2) if not path.exists() or not path.read_text() else (2,):
            rejected.add(Record(line, b"bad \xff\n", None, "why"))
        rejected.close()
        with path.open("a") as file:
            file.write('{"line": 3, "rea')
    rejected.forget_after(2)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [{"line": line, "reason": "why", "text": "bad \\xff"} for line in (1, 2)] == found
    assert "line 2: why" == rejected.first
