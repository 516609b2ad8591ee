"""What happens this second: the newest rows of a table, sent as they come (server-sent events)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from ..destination import Destination, Query
from ..reports.opening import errors_of_reading, open_store
from .pages import page, text_of

#: Between two looks, and how many rows one look sends; those that are skipped are counted.
LOOK_EVERY_S = 1.0
MOST_ROWS = 100
#: The tables whose rows have a number that grows.
_TABLES = {
    "sqlite": "SELECT m.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c"
    " WHERE m.type = 'table' AND c.name = 'id' AND c.type LIKE '%INT%'"
    " AND m.name NOT LIKE 'telemetry#_bus#_%' ESCAPE '#' ORDER BY m.name",
    "postgresql": "SELECT c.table_name FROM information_schema.columns AS c"
    " WHERE c.column_name = 'id' AND c.data_type IN ('integer', 'bigint') AND c.table_schema = current_schema()"
    " AND c.table_name NOT LIKE 'telemetry#_bus#_%' ESCAPE '#' ORDER BY c.table_name",
}

_logger = logging.getLogger(__name__)


class Live:
    """The page on the newest rows of a database."""

    def __init__(self, database: str | None) -> None:
        self._database = database

    def page(self, request: Request) -> Response:
        tables = self._tables()
        table = request.query_params.get("table") or next(iter(tables), "")
        return page("live.html", "Live", tables=tables, table=table)

    async def rows(self, request: Request) -> Response:
        """A stream of events: each has the columns, the new rows as texts, and how many were skipped."""
        table = request.query_params.get("table", "")
        if table not in await run_in_threadpool(self._tables):
            return PlainTextResponse(f"there is no table {table} with a column id\n", 404)
        after = request.headers.get("last-event-id") or ""
        return StreamingResponse(
            self._events(table, int(after) if after.isascii() and after.isdigit() else None),
            media_type="text/event-stream",
        )

    async def _events(self, table: str, after: int | None) -> AsyncIterator[str]:
        """Ends when the browser has closed the page: the server cancels it."""
        unreadable: tuple[type[Exception], ...] = (OSError, TypeError, *errors_of_reading())  # an id may be a text
        while True:
            try:
                after, event = await run_in_threadpool(self._look, table, after)
            except unreadable as error:
                _logger.debug("the live page cannot read", exc_info=True)
                event = {"why": str(error).partition("\n")[0]}
            yield f"id: {after or 0}\ndata: {json.dumps(event)}\n\n" if event else ": nothing new\n\n"
            await asyncio.sleep(LOOK_EVERY_S)

    def _look(self, table: str, after: int | None) -> tuple[int, dict[str, Any]]:
        name = '"' + table.replace('"', '""') + '"'
        with open_store(self._database) as store, Destination(store, logger=_logger).snapshot() as reading:
            ((last,),) = reading.read(Query(f"SELECT coalesce(max(id), 0) FROM {name}"))
            if after is None or last < after:  # the page begins, or the table was made anew
                after = max(0, last - MOST_ROWS)
            if last == after:
                return last, {}
            newest = f"SELECT * FROM {name} WHERE id > ? AND id <= ? ORDER BY id DESC LIMIT {MOST_ROWS}"
            cursor = reading.connection.execute(newest, (after, last))
            columns, rows = [column[0] for column in cursor.description], cursor.fetchall()
        told = [[text_of("text", value) for value in row] for row in reversed(rows)]
        return last, {"columns": columns, "rows": told, "skipped": max(0, last - after - len(rows))}

    def _tables(self) -> list[str]:
        with open_store(self._database) as store:
            destination = Destination(store, logger=_logger)
            return [name for (name,) in destination.read(Query(_TABLES[destination.dialect]))]
