"""The ledger: the last committed sequence of each stream, in the target database itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from .dialects import Connection

_LAST = "SELECT last_sequence FROM telemetry_bus_ledger WHERE stream = ?"
#: Never backwards: a late message must not make room for jobs that are committed already.
_RECORD = """INSERT INTO telemetry_bus_ledger (stream, last_sequence, updated_at) VALUES (?, ?, ?)
    ON CONFLICT (stream) DO UPDATE SET last_sequence = excluded.last_sequence, updated_at = excluded.updated_at
    WHERE excluded.last_sequence > telemetry_bus_ledger.last_sequence"""
_OLD = "SELECT stream FROM telemetry_bus_ledger WHERE updated_at < ?"
#: Of no stream: theirs have sixteen bytes.
_PROBE = b"probe"
_DELETE = "DELETE FROM telemetry_bus_ledger WHERE stream = ?"


def timestamp(age_s: float = 0.0) -> str:
    """The time of day in UTC, `age_s` seconds ago, in the form that the tables of the bus use."""
    return (datetime.now(UTC) - timedelta(seconds=age_s)).strftime("%Y-%m-%d %H:%M:%S.%f")


class Ledger:
    """The rows of `telemetry_bus_ledger`. Runs inside the transaction that stands, where there is one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def last(self, streams: Iterable[bytes]) -> dict[bytes, int]:
        """The last committed sequence of each stream; 0 for one that is not there."""
        found = {stream: self._connection.own(_LAST, (stream,)) for stream in streams}
        return {stream: rows[0][0] if rows else 0 for stream, rows in found.items()}

    def record(self, sequences: Mapping[bytes, int]) -> None:
        """Each stream's last sequence is now at least this."""
        now = timestamp()
        for stream, sequence in sequences.items():
            self._connection.own(_RECORD, (stream, sequence, now))

    def probe(self) -> None:
        """Write a row that means nothing, to see whether that can be done."""
        self._connection.own(_RECORD, (_PROBE, 0, timestamp()))

    def forget_probe(self) -> None:
        self._connection.own(_DELETE, (_PROBE,))

    def prune(self, keep: Collection[bytes], older_than_s: float) -> int:
        """Delete rows that did not change for `older_than_s` seconds and are not to be kept; their number."""
        old = [stream for (stream,) in self._connection.own(_OLD, (timestamp(older_than_s),))]
        gone = [stream for stream in old if stream not in keep]
        for stream in gone:
            self._connection.own(_DELETE, (stream,))
        return len(gone)
