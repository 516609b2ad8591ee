"""The ledger: the last committed sequence of each stream, in the target database itself; and the fence that it is.

Every batch moves the ledger by compare and swap: from exactly the sequence behind which the batch begins to its last
one. What another writer has committed meanwhile, or a restored backup has taken back, makes the swap miss, and the
batch's transaction is rolled back. So it does not matter who else believes to be the writer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from ..errors import LedgerMoved
from ..jobs import Run
from .dialects import Connection

_LAST = "SELECT last_sequence FROM telemetry_bus_ledger WHERE stream = ?"
#: The two halves of the swap, for streams that have a row and for those that have none: each changes one row or misses.
_ADVANCE = """UPDATE telemetry_bus_ledger SET last_sequence = ?, updated_at = ?, ended = 0
    WHERE stream = ? AND last_sequence = ?"""
_BEGIN = """INSERT INTO telemetry_bus_ledger (last_sequence, updated_at, stream) VALUES (?, ?, ?)
    ON CONFLICT (stream) DO NOTHING"""
#: Never backwards: a late message must not make room for jobs that are committed already.
_RAISE = """INSERT INTO telemetry_bus_ledger (stream, last_sequence, updated_at) VALUES (?, ?, ?)
    ON CONFLICT (stream) DO UPDATE SET last_sequence = excluded.last_sequence, updated_at = excluded.updated_at
    WHERE excluded.last_sequence > telemetry_bus_ledger.last_sequence"""
_END = "UPDATE telemetry_bus_ledger SET ended = 1, updated_at = ? WHERE stream = ?"
_OLD = "SELECT stream FROM telemetry_bus_ledger WHERE ended = 1 AND updated_at < ?"
#: Of no stream: theirs have sixteen bytes.
_PROBE = b"probe"
_DELETE = "DELETE FROM telemetry_bus_ledger WHERE stream = ?"


def timestamp(age_s: float = 0.0) -> str:
    """The time of day in UTC, `age_s` seconds ago, in the form that the tables of the bus use."""
    return (datetime.now(UTC) - timedelta(seconds=age_s)).strftime("%Y-%m-%d %H:%M:%S.%f")


def moves(runs: Iterable[Run]) -> dict[bytes, tuple[int, int]]:
    """For `Ledger.advance`, from the runs of a batch."""
    found: dict[bytes, tuple[int, int]] = {}
    for run in runs:
        add_move(found, run.stream, run.first, run.first + len(run.payloads) - 1)
    return found


def add_move(moves: dict[bytes, tuple[int, int]], stream: bytes, first: int, last: int) -> None:
    """Another part of a batch, behind those that `moves` has."""
    moves[stream] = (moves[stream][0] if stream in moves else first - 1, last)


class Ledger:
    """The rows of `telemetry_bus_ledger`. Runs inside the transaction that stands, where there is one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def last(self, streams: Iterable[bytes]) -> dict[bytes, int]:
        """The last committed sequence of each stream; 0 for one that is not there."""
        found = {stream: self._connection.own(_LAST, (stream,)) for stream in streams}
        return {stream: rows[0][0] if rows else 0 for stream, rows in found.items()}

    def advance(self, moves: Mapping[bytes, tuple[int, int]]) -> None:
        """Each stream from the sequence that it must stand at to its new one; both halves of one statement per batch.

        Raises `LedgerMoved` when some stream stands elsewhere: the transaction must be rolled back.
        """
        now = timestamp()
        known = [(last, now, stream, first) for stream, (first, last) in moves.items() if first]
        fresh = [(last, now, stream) for stream, (first, last) in moves.items() if not first]
        changed = self._connection.own_many(_ADVANCE, known) if known else 0
        changed += self._connection.own_many(_BEGIN, fresh) if fresh else 0
        if changed != len(moves):
            raise LedgerMoved(
                f"{len(moves) - changed} of {len(moves)} streams do not stand in the ledger where the batch begins",
                operation="write",
                hint="another writer has written, or the database was restored",
            )

    def raise_to(self, stream: bytes, sequence: int) -> None:
        """The stream's last sequence is now at least this."""
        self._connection.own(_RAISE, (stream, sequence, timestamp()))

    def probe(self) -> None:
        """Write a row that means nothing, to see whether that can be done."""
        self.raise_to(_PROBE, 0)

    def forget_probe(self) -> None:
        self._connection.own(_DELETE, (_PROBE,))

    def end(self, streams: Iterable[bytes]) -> None:
        """These streams are over: everything in them is settled, and their journals are deleted."""
        now = timestamp()
        self._connection.own_many(_END, [(now, stream) for stream in streams])

    def prune(self, keep: Collection[bytes], older_than_s: float, limit: int) -> int:
        """Delete rows of streams that have been over for `older_than_s` seconds and are not to be kept, at most
        `limit`; their number.

        Age alone proves nothing: the journal of a stream may lie in another bus folder, or come back with one.
        """
        old = [stream for (stream,) in self._connection.own(_OLD, (timestamp(older_than_s),))]
        gone = [stream for stream in old if stream not in keep][:limit]
        return self._connection.own_many(_DELETE, [(stream,) for stream in gone]) if gone else 0
