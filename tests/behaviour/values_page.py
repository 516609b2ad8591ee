"""What becomes of values: each put through every path into a row and read back in every way; makes the page of it."""

from __future__ import annotations

import array
import dataclasses
import enum
import logging
import math
import re
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy
import pandas
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, Table, select, text

from producers.extraction import ComprehensiveExtractionTelemetry, ExtractionMetrics
from telemetry_bus import TelemetryError, TelemetryStore
from telemetry_bus.handlers import TelemetryHandler

PAGE = Path(__file__).parents[2] / "docs" / "values.md"
_BEGIN, _END = "<!-- drawn by scripts/draw-values -->\n", "<!-- end of what is drawn -->\n"


class Colour(enum.Enum):
    RED = "red"
    THREE = 3


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    pass


@dataclasses.dataclass
class Page:
    url: str


class Shown(NamedTuple):
    """A value as the page names it, and the type of the column that is of its own kind."""

    code: str
    kind: str


NAMES: dict[str, Any] = {
    **{each.__name__: each for each in (Colour, Level, Name, Page, Decimal, date, datetime, time, timedelta, timezone)},
    "UTC": UTC,
    "UUID": uuid.UUID,
    "Path": PurePosixPath,
    "np": numpy,
    "pd": pandas,
    "inf": math.inf,
    "nan": math.nan,
    "array": array.array,
}
KINDS: dict[str, Any] = {
    "Integer": Integer(),
    "Float": sqlalchemy.Float(),
    "Numeric(10, 2)": sqlalchemy.Numeric(10, 2),
    "Boolean": sqlalchemy.Boolean(),
    "String": sqlalchemy.String(),
    "LargeBinary": sqlalchemy.LargeBinary(),
    "DateTime": sqlalchemy.DateTime(),
    "Date": sqlalchemy.Date(),
    "Time": sqlalchemy.Time(),
    "Interval": sqlalchemy.Interval(),
    "Uuid": sqlalchemy.Uuid(),
    "Enum(Colour)": sqlalchemy.Enum(Colour),
    "JSON": sqlalchemy.JSON(),
}
VALUES = [
    Shown("None", "String"),
    Shown("True", "Boolean"),
    Shown("7", "Integer"),
    Shown("2**63", "Integer"),
    Shown("2**63", "Float"),
    Shown("0.5", "Float"),
    Shown("inf", "Float"),
    Shown("nan", "Float"),
    Shown("Decimal('1.10')", "Numeric(10, 2)"),
    Shown("Decimal('NaN')", "Numeric(10, 2)"),
    Shown("'text'", "String"),
    Shown("Name('text')", "String"),
    Shown(r"'a\0b'", "String"),
    Shown(r"'a\ud800'", "String"),
    Shown("b'ab'", "LargeBinary"),
    Shown("bytearray(b'ab')", "LargeBinary"),
    Shown("memoryview(b'ab')", "LargeBinary"),
    Shown("array('B', b'ab')", "LargeBinary"),
    Shown("datetime(2026, 3, 1, 12)", "DateTime"),
    Shown("datetime(2026, 3, 1, 12, tzinfo=UTC)", "DateTime"),
    Shown("datetime(2026, 3, 1, 12, 0, 0, 5, timezone(timedelta(hours=2)))", "DateTime"),
    Shown("datetime(2026, 3, 1, 12)", "Date"),
    Shown("date(2026, 3, 1)", "Date"),
    Shown("date(2026, 3, 1)", "DateTime"),
    Shown("time(12, 30)", "Time"),
    Shown("timedelta(minutes=5)", "Interval"),
    Shown("1772366400", "DateTime"),
    Shown("'2026-03-01T12:00:00Z'", "DateTime"),
    Shown("UUID(int=1)", "Uuid"),
    Shown("Colour.RED", "Enum(Colour)"),
    Shown("Colour.THREE", "Enum(Colour)"),
    Shown("Level.HIGH", "Integer"),
    Shown("[1, 'a']", "JSON"),
    Shown("{'a': None}", "JSON"),
    Shown("None", "JSON"),
    Shown("(1, 2)", "JSON"),
    Shown("{1, 2}", "JSON"),
    Shown("np.int64(7)", "Integer"),
    Shown("np.float32(0.5)", "Float"),
    Shown("np.bool_(True)", "Boolean"),
    Shown("np.datetime64('2026-03-01T12:00')", "DateTime"),
    Shown("np.datetime64('NaT')", "DateTime"),
    Shown("np.array([1, 2])", "JSON"),
    Shown("pd.Timestamp('2026-03-01 12:00', tz='Asia/Tokyo')", "DateTime"),
    Shown("pd.Timestamp('2026-03-01 12:00:00.123456789')", "DateTime"),
    Shown("pd.NaT", "DateTime"),
    Shown("pd.NA", "Float"),
    Shown("pd.Timedelta('5min')", "Interval"),
    Shown("Path('/a')", "String"),
    Shown("Page('/a')", "JSON"),
    Shown("1j", "Float"),
]
REFUSED = "refused"
_ADDRESS = re.compile("0x[0-9a-f]+")


def drawn(mode: str) -> str:
    """The tables, made in a database of their own by a store of that mode."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values.db"
        with TelemetryStore(path, mode=mode) as store, store.engine.connect() as reader:
            return _written(store, path) + "\n" + _read(store, path, reader)


def page(old: str, mode: str = "sync") -> str:
    """The page as it is now."""
    before, _, rest = old.partition(_BEGIN)
    _, found, after = rest.partition(_END)
    assert found, f"{PAGE.name} has no place for the tables"
    return f"{before}{_BEGIN}\n{drawn(mode)}\n{_END}{after}"


def _written(store: TelemetryStore, path: Path) -> str:
    heads = "value | placeholders | column | insert, upsert | recorder: text | number | time | log: message | extra"
    rows = []
    handler = TelemetryHandler(store)
    telemetry = ComprehensiveExtractionTelemetry(store=store)
    for number, (code, kind) in enumerate(VALUES):
        value = eval(code, NAMES)
        typed = _into_its_kind(store, path, number, kind, value)
        others = [*_recorded(telemetry, path, number, value), *_logged(handler, store, path, value)]
        rows.append([f"`{code}`", _by_placeholder(store, path, value), kind, typed, *others])
    return _table(heads, rows)


def _by_placeholder(store: TelemetryStore, path: Path, value: object) -> str:
    """The same by `execute`, `executemany` and a callable, by position and by name."""
    sql, ensure = "INSERT INTO plain (v) VALUES (?)", ["CREATE TABLE IF NOT EXISTS plain (v)"]
    ways: list[Callable[[], object]] = [
        lambda: store.execute(sql, (value,), ensure=ensure),
        lambda: store.executemany(sql, [(value,)], ensure=ensure),
        lambda: store.execute("INSERT INTO plain (v) VALUES (:v)", {"v": value}, ensure=ensure),
        lambda: store.submit(lambda connection: connection.execute(sql, (value,)), ensure=ensure),
    ]
    return _all_alike(_outcome(way, lambda: _last(store, path, "plain", "v")) for way in ways)


def _into_its_kind(store: TelemetryStore, path: Path, number: int, kind: str, value: object) -> str:
    """The same by `insert`, `upsert`, and as a constant of an upsert."""
    table = _table_of(number, kind)
    ways: list[Callable[[], object]] = [
        lambda: store.insert(table, {"v": value}),
        lambda: store.upsert(table, {"id": 1, "v": value}),
        lambda: (store.insert(table, {"id": 9}), store.upsert(table, {"id": 9}, update=lambda *_: {"v": value})),
    ]
    return _all_alike(_outcome(way, lambda: _last(store, path, table.name, "v")) for way in ways)


def _recorded(telemetry: ComprehensiveExtractionTelemetry, path: Path, number: int, value: Any) -> Iterator[str]:
    """In a field of text, of a number, and of a moment. A recorder refuses nothing: what it cannot use is left out."""
    metrics = ExtractionMetrics(f"operation {number}", "article", "https://a.example/1", value)
    metrics.response_time_ms, metrics.end_time = value, value
    telemetry.record_extraction(metrics)
    for column in ("publisher", "response_time_ms", "end_time"):
        yield _last(telemetry.store, path, "extraction_telemetry_v2", column)


def _logged(handler: TelemetryHandler, store: TelemetryStore, path: Path, value: object) -> Iterator[str]:
    """As an argument of the message, and in `extra`."""
    record = logging.makeLogRecord({"name": "crawler", "levelno": 20, "msg": "%s", "args": (value,), "value": value})
    handler.emit(record)
    yield _last(store, path, "log_records", "message")
    yield _last(store, path, "log_records", "extra").replace('{"value": ', "").replace("}'", "'")


def _read(store: TelemetryStore, path: Path, reader: Any) -> str:
    """The same rows again: as they come by each way to read."""
    rows = []
    for number, (code, kind) in enumerate(VALUES):
        table = _table_of(number, kind)
        plain = text(f"SELECT v FROM {table.name} WHERE id = 1")
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute(str(plain)).fetchone() if _is_made(connection, table) else None
        if found is None:
            continue
        query = select(table.c.v).where(table.c.id == 1)
        assert found == tuple(reader.execute(plain).one()), code
        (frame,) = pandas.read_sql(query, reader)["v"]
        rows.append([f"`{code}`", kind, _shown(found[0]), _shown(reader.execute(query).scalar_one()), _shown(frame)])
    return _table("value | column | sqlite3, engine without a type | engine, by the table | pandas, by the table", rows)


def _table_of(number: int, kind: str) -> Table:
    return Table(f"typed{number}", MetaData(), Column("id", Integer, primary_key=True), Column("v", KINDS[kind]))


def _is_made(connection: sqlite3.Connection, table: Table) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table.name,)).fetchone())


def _outcome(way: Callable[[], object], look: Callable[[], str]) -> str:
    try:
        way()
    except TelemetryError as error:
        return REFUSED if type(error).__name__ == "UnsupportedValue" else type(error).__name__
    return look()


def _last(store: Any, path: Path, table: str, column: str) -> str:
    store.flush()
    sql = f"SELECT typeof({column}), {column} FROM {table} ORDER BY rowid DESC"
    with closing(sqlite3.connect(path)) as connection:
        kind, value = connection.execute(sql).fetchone()
    return "NULL" if value is None else f"{kind} `{_ADDRESS.sub('0x…', repr(value))}`"


def _all_alike(found: Iterator[str]) -> str:
    (same,) = set(found)
    return same


def _shown(value: object) -> str:
    """As Python names it, without what differs between versions."""
    if isinstance(value, numpy.generic):
        value = value.item()
    return f"`{value!r}`".replace("datetime.", "")


def _table(heads: str, rows: list[list[str]]) -> str:
    lines = [heads, " | ".join(["---"] * (heads.count("|") + 1)), *map(" | ".join, rows)]
    return "".join(f"| {line} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
