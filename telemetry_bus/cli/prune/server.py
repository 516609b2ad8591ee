"""Old rows of a table of PostgreSQL: as `retention`, in the server's language."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ...sql.tokens import BUS_PREFIX
from .retention import Extent, Old, mistake, quoted, refuse_orphans

_TABLES = f"""SELECT relname, relkind IN ('r', 'p') FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace = current_schema()::regnamespace
    AND NOT starts_with(relname, '{BUS_PREFIX}') ORDER BY relname"""
_COLUMNS = """SELECT attname, format_type(atttypid, -1), attnum = ANY (coalesce((SELECT conkey FROM pg_constraint
    WHERE conrelid = attrelid AND contype = 'p'), '{}')) FROM pg_attribute
    WHERE attrelid = to_regclass(quote_ident(?)) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
_CHILDREN = """SELECT conrelid::regclass::text, conrelid = confrelid,
    (SELECT string_agg(format('parent.%I = child.%I', theirs.attname, ours.attname), ' AND ')
    FROM unnest(conkey, confkey) AS key (our, their)
    JOIN pg_attribute AS ours ON ours.attrelid = conrelid AND ours.attnum = our
    JOIN pg_attribute AS theirs ON theirs.attrelid = confrelid AND theirs.attnum = their)
    FROM pg_constraint WHERE contype = 'f' AND confrelid = to_regclass(quote_ident(?)) AND confdeltype IN ('a', 'r')
    ORDER BY 1"""
#: Types that are compared as they are, with a literal that is in UTC.
_MOMENTS = frozenset({"timestamp without time zone", "timestamp with time zone", "date"})
_TEXTS = frozenset({"text", "character varying", "character"})
#: A text that is a moment for certain: one that the server cannot read would end the statement.
_MOMENT = (
    r"^\d{4}-((0[13578]|1[02])-31|(0[13-9]|1[0-2])-(29|30)|02-29|(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8]))"
    r"([ T]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?( ?(Z|[-+](0\d|1[0-4])(:?[0-5]\d)?))?)?$"
)


@dataclass(frozen=True)
class OldOnServer(Old):
    """A column of texts is compared by the moments in them; in other years than leap years 29 February is 1 March."""

    is_text: bool = False

    @classmethod
    def find(cls, connection: Any, table: str, column: str, cutoff: datetime) -> OldOnServer:
        tables = dict(connection.execute(_TABLES).fetchall())
        if table not in tables:
            raise mistake(f"there is no table {table!r} to prune", table, f"tables: {', '.join(tables) or 'none'}")
        if not tables[table]:
            raise mistake(f"{table} is a view", table, "prune the table that it is made from")
        columns = {name: (kind, key) for name, kind, key in connection.execute(_COLUMNS, (table,)).fetchall()}
        if column not in columns:
            raise mistake(f"{table} has no column {column!r}", table, f"--column; columns: {', '.join(columns)}")
        kind = columns[column][0]
        if kind not in _MOMENTS | _TEXTS:
            raise mistake(f"{column} is of type {kind}, not of moments", table, "name another --column")
        key = tuple(quoted(name) for name, (_, is_key) in columns.items() if is_key) or ("ctid",)
        text = cutoff.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        return cls(table, column, key, text, kind in _TEXTS)

    @property
    def condition(self) -> str:
        return f"{self._moment} < '{self.cutoff}{'+00' if self.is_text else ''}'"

    @property
    def _moment(self) -> str:
        column = quoted(self.column)
        if not self.is_text:
            return column
        day = f"regexp_replace({column}, '^(\\d{{4}})-02-29', '\\1-03-01')"
        return f"CASE WHEN {column} ~ '{_MOMENT}' THEN CAST({day} AS timestamptz) END"

    def extent(self, connection: Any) -> Extent:
        return Extent(
            *connection.execute(
                f"SELECT count(*), count(*) FILTER (WHERE {self.condition}), "
                f"CAST(min({self._moment}) FILTER (WHERE {self.condition}) AS timestamp(0))::text, "
                f"CAST(max({self._moment}) FILTER (WHERE {self.condition}) AS timestamp(0))::text, "
                f"count(*) FILTER (WHERE {self._moment} IS NULL) FROM {quoted(self.table)}"
            ).fetchone()
        )

    def refuse_children(self, connection: Any) -> None:
        for child, itself, same in connection.execute(_CHILDREN, (self.table,)).fetchall():
            ((count,),) = connection.execute(
                f"SELECT count(*) FROM {child} AS child WHERE EXISTS "
                f"(SELECT 1 FROM {quoted(self.table)} AS parent WHERE {same} AND {self._of_parent})"
            ).fetchall()
            refuse_orphans(self.table, child, count, itself=bool(itself))
