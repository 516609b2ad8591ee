"""From records to rows: in jobs that also move the position in the file, so that each record is taken exactly once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TextIO

from ...errors import ConfigError, JobFailed, JobTooLarge, UnsupportedValue
from ...jobs import Job, Statement
from ...store import TelemetryStore
from . import ledger
from .columns import Columns, Misfit
from .ledger import Taken
from .records import Input, Reader, Record

#: Records of a job: beyond this a job gains nothing, and the first of them decide about the types of the columns.
CHUNK_RECORDS = 10_000
_CHUNK_BYTES = 1 << 20


class Rejected:
    """Where rejected records are kept: a file of JSON lines, made with the first of them. None: they are counted."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.first: str | None = None
        self._file: TextIO | None = None

    def forget_after(self, lines: int) -> None:
        """What was written down and is not taken, because a job failed or the process was killed: it comes again."""
        self.close()
        if self.path is None or not self.path.exists():
            return
        kept = []
        for text in self.path.read_text().splitlines(keepends=True):
            with suppress(ValueError, TypeError, KeyError):  # the last line of a process that was killed
                if json.loads(text)["line"] <= lines:
                    kept.append(text)
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.write_text("".join(kept))
        os.replace(fresh, self.path)

    def add(self, record: Record) -> None:
        self.first = self.first or f"line {record.line}: {record.reason}"
        if self.path is None:
            return
        if self._file is None:
            self._file = self.path.open("a")
        text = record.text.decode(errors="backslashreplace").rstrip("\r\n")
        print(json.dumps({"line": record.line, "reason": record.reason, "text": text}), file=self._file)

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class Loader:
    """Takes the records of one input into a table."""

    def __init__(
        self,
        store: TelemetryStore,
        columns: Columns,
        input: Input,
        reader: Reader,
        rejected: Rejected,
        taken: Taken | None,
        purge: Callable[[JobFailed], None],
    ) -> None:
        """`taken` is None for an input that is no file. `purge` deletes the dead letter of a job that failed: its
        records are tried one by one, and rejected."""
        self._store = store
        self._columns = columns
        self._input = input
        self._reader = reader
        self._rejected = rejected
        self._taken = taken
        self._purge = purge
        self._limit = CHUNK_RECORDS
        self._begun = taken is not None and taken.mark is not None
        self.records = 0
        self.rejected = 0

    def run(self, advance: Callable[[int], None], stopped: Callable[[], bool]) -> None:
        """Up to the end of the input, or until `stopped`; `advance` is told the position. Raises `FlushTimeout`: what
        was submitted is safe then, and taken later."""
        records = self._records()
        while not stopped() and (chunk := self._chunk(records)):
            if self._take(chunk):
                advance(self._input.position)
                self._limit = min(CHUNK_RECORDS, 2 * self._limit)
            else:
                self._limit = max(1, len(chunk) // 2)
                records = self._records() if self._taken else chain(chunk, records)

    def _records(self) -> Iterator[Record]:
        if self._taken is None:
            return self._reader(self._input, None)
        self._input.rewind()
        return self._reader(self._input, self._taken.mark)

    def _chunk(self, records: Iterator[Record]) -> list[Record]:
        chunk: list[Record] = []
        size = 0
        for record in islice(records, self._limit):
            chunk.append(record)
            size += len(record.text)
            if size > _CHUNK_BYTES:
                break
        return chunk

    def _take(self, chunk: list[Record]) -> bool:
        """Whether all of them are decided; False: one of several cannot be stored, and none is.

        Raises `ConfigError` when most of an input's first lines are no records: it is of another format.
        """
        unread = [record for record in chunk if record.values is None]
        if not self._begun and 2 * len(unread) > len(chunk):
            raise ConfigError(
                f"most of its first lines are no records; line {unread[0].line}: {unread[0].reason}",
                operation="ingest",
                hint="one JSON object on each line, or --format csv with a header; jq -c '.[]' makes lines of an array",
            )
        self._begun = True
        rows, bad = rows_of(self._columns, chunk)
        try:
            self._put(rows, bad)
        except (JobFailed, JobTooLarge, UnsupportedValue) as error:
            if isinstance(error, JobFailed):
                self._purge(error)
            self._rejected.forget_after(chunk[0].line - 1)
            if len(chunk) > 1:
                return False
            self._put([], [chunk[0]._replace(values=None, reason=error.message)])
        return True

    def _put(self, rows: list[tuple[str, tuple[object, ...]]], bad: list[Record]) -> None:
        """Commit these rows and the position behind them."""
        statements = [
            Statement(sql, tuple(row for _, row in group)) for sql, group in groupby(rows, key=lambda pair: pair[0])
        ]
        ensure, end = self._columns.ensure, self._input.mark()
        if self._taken is not None:
            ensure = (ledger.definition(self._store.dialect), *ensure)
            statements.append(self._taken.move(end, len(rows), len(bad)))
        for record in bad:
            self._rejected.add(record)
        self._rejected.flush()
        if statements:
            self._store.submit(Job(tuple(statements), ensure))
            self._store.flush(raise_on_failure=True)
        if self._taken is not None:
            self._taken.moved(end, len(rows), len(bad))
        self.records += len(rows)
        self.rejected += len(bad)


def tried(columns: Columns, records: Iterator[Record], rejected: Rejected) -> tuple[int, int]:
    """How many records can be taken by their form, and how many cannot, as `rows_of`."""
    taken = count = 0
    while chunk := [*islice(records, CHUNK_RECORDS)]:
        rows, bad = rows_of(columns, chunk)
        taken += len(rows)
        count += len(bad)
        for record in bad:
            rejected.add(record)
    return taken, count


def rows_of(columns: Columns, chunk: Sequence[Record]) -> tuple[list[tuple[str, tuple[object, ...]]], list[Record]]:
    """Statements with their rows, and the records that have none; the columns are learned."""
    columns.learn(record.values for record in chunk if record.values is not None)
    rows, bad = [], []
    for record in chunk:
        if record.values is None:
            bad.append(record)
            continue
        try:
            plan = columns.plan(tuple(record.values))
            rows.append((plan.sql, plan.row(record.values.values())))
        except Misfit as misfit:
            bad.append(record._replace(values=None, reason=str(misfit)))
    return rows, bad
