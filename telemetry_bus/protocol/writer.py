"""The writer's half of the protocol: which jobs of which stream come next, and what to tell their producers.

It applies nothing: it gathers the runs that are next in line (`pending`) until its caller says that they are
decided. The ledger says what was decided before this writer began.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from ..config import Database
from ..encoding.records import Definitions, read_runs
from ..errors import ProtocolError
from ..jobs import Failure, Run
from .messages import Ack, Bye, Confirm, Control, Hello, Jobs, Refusal, Resend, Welcome

#: Bytes sent and not acknowledged: of all streams together, and the limits of one stream's share.
TOTAL_WINDOW_BYTES = 16 * 1024 * 1024
MIN_WINDOW_BYTES = 256 * 1024
MAX_WINDOW_BYTES = 2 * 1024 * 1024
#: An acknowledgement carries at most so many failures; the rest follow when these are confirmed.
MAX_FAILURES = 16
#: A failure's text and its SQL are cut to this in an acknowledgement, so that it stays below `MAX_CONTROL_BYTES`;
#: the dead letter has all of it.
MAX_FAILURE_CHARS = 8 * 1024
MAX_FAILURE_SQL_CHARS = 4 * 1024
#: A stream that has been silent so long is forgotten; the ledger remembers it.
FORGET_AFTER_S = 600.0

Route = TypeVar("Route", bound=Hashable)


class Ledger(Protocol):
    """What the database knows of streams. All of it may raise `DatabaseFault`."""

    def last_sequences(self, streams: Collection[bytes]) -> dict[bytes, int]: ...
    def raise_watermark(self, stream: bytes, sequence: int) -> None: ...
    def failures_after(self, stream: bytes, sequence: int, limit: int = ...) -> list[Failure]: ...


@dataclass(slots=True)
class _Stream(Generic[Route]):
    """One stream as the writer sees it: jobs up to `received` are decided or pending, up to `committed` decided."""

    received: int
    committed: int
    definitions: Definitions = field(default_factory=Definitions)
    rewind_answered: int = -1
    route: Route | None = None
    confirmed: int = 0
    failed: bool = False  # there may be dead letters above `confirmed`
    welcome: bool = False  # its producer must be told of the epoch
    waited: bool = False  # a process may be waiting for the next acknowledgement
    seen: float = 0.0


class WriterProtocol(Generic[Route]):
    """All streams as the writer sees them. `Route` is whatever its caller needs to answer a producer."""

    def __init__(self, epoch: bytes, pid: int, database: Database, ledger: Ledger) -> None:
        self.epoch = epoch
        self.pid = pid
        self.pending: list[Run] = []
        self.pending_jobs = 0
        self.pending_bytes = 0
        self.duplicates = 0
        self.resends = 0
        self.jobs_gone = 0
        #: A stream whose journal is being read: it is not forgotten meanwhile. None when it must be read once more.
        self.adopting: bytes | None = None
        self.ended: set[bytes] = set()  # streams that are over; the ledger has not been told yet
        self._database = database
        self._ledger = ledger
        self._streams: dict[bytes, _Stream[Route]] = {}
        self._touched: dict[bytes, None] = {}  # streams that are owed an acknowledgement, in order
        self._replies: deque[tuple[Route, Control]] = deque()

    def jobs(self, message: Jobs, now: float) -> None:
        """Take the jobs that are next in line; drop duplicates; ask once for what is missing.

        Raises `ProtocolError` when the message is malformed, `DatabaseFault` when the ledger cannot be read; the
        message counts as lost then.
        """
        stream = self._stream(message.stream, now)
        stream.waited = stream.waited or not message.patient
        defined = message.definitions_first <= len(stream.definitions) + 1
        if defined:  # also with jobs that are known: what follows them may need these
            stream.definitions.extend(message.definitions_first, message.definitions_count, message.definitions)
        last = message.first + message.count - 1
        if last <= stream.received:
            self.duplicates += message.count
            stream.waited = True  # its producer has missed an acknowledgement
            self._touched[message.stream] = None
            return
        if not defined or message.first > stream.received + 1:
            self._ask_resend(stream, message)
            return
        skip = stream.received + 1 - message.first
        try:
            runs = read_runs(message.stream, message.first, message.count, message.records, stream.definitions, skip)
        except KeyError:
            self._ask_resend(stream, message)
            return
        self.duplicates += skip
        stream.received = last
        self.pending += runs
        self.pending_jobs += message.count - skip
        self.pending_bytes += len(message.records)

    def control(self, route: Route, message: Control, now: float, *, unread: bool = False) -> None:
        """Take a producer's word. `unread`: jobs of its stream may have come that were not given to `jobs` yet.

        Raises `DatabaseFault` when the ledger cannot be read.
        """
        match message:
            case Hello():
                self._hello(route, message, now, unread)
            case Confirm(stream=name, sequence=sequence):
                if stream := self._streams.get(name):
                    stream.confirmed = max(stream.confirmed, sequence)
                    self._touched[name] = None
            case Bye(stream=name):
                self.end(name)
            case _:
                raise ProtocolError(f"a producer does not say {message.kind!r}", operation="control")

    def warn(self, route: Route, stream: bytes, text: str) -> None:
        """Tell a producer why its jobs have to wait."""
        self._replies.append((route, Refusal(stream, text, fatal=False)))

    def portion(self, jobs: int, streams: Collection[bytes] | None = None) -> list[Run]:
        """The pending jobs that come next, at most about so many, of all streams or of `streams`.

        The stream that came first gets half of the room, so that none waits for ever; the rest is for those with the
        fewest jobs: most are done with then, and few have to be told of each batch.
        """
        pending = self.pending if streams is None else [run for run in self.pending if run.stream in streams]
        sizes: Counter[bytes] = Counter()
        for run in pending:
            sizes[run.stream] += len(run.payloads)
        first = next(iter(sizes), b"")
        half = max(1, jobs // 2)
        room = max(min(1, len(sizes) - 1), jobs - min(half, sizes[first]))  # a job at least, if there is another
        left = {first: half}
        for name in sorted(sizes.keys() - {first}, key=sizes.__getitem__):
            left[name] = min(sizes[name], room)
            room -= left[name]
        left[first] += room

        chosen = []
        for run in pending:
            taken = run.payloads[: left[run.stream]]
            left[run.stream] -= len(taken)
            if taken:
                chosen.append(run._replace(payloads=taken))
        return chosen

    def decided(self, failures: Sequence[Failure], runs: Sequence[Run], rest: Sequence[Run] = ()) -> None:
        """Of what is pending, the jobs of `runs` are committed, without `rest`; `failures` are dead letters."""
        committed = {run.stream: run.first + len(run.payloads) - 1 for run in runs}
        committed.update((run.stream, run.first - 1) for run in reversed(rest))
        for name, last in committed.items():
            stream = self._streams[name]
            stream.committed = max(stream.committed, last)
            self._touched[name] = None
        for failure in failures:
            self._streams[failure.stream].failed = True
        before = self.pending_jobs
        if runs is self.pending and not rest:
            self._drop_pending()
            return
        self.pending = [
            left for run in self.pending if (left := _behind(run, committed.get(run.stream, 0))) is not None
        ]
        self.pending_jobs = sum(len(run.payloads) for run in self.pending)
        self.pending_bytes = self.pending_bytes * self.pending_jobs // before if before else 0

    def _drop_pending(self) -> None:
        self.pending, self.pending_jobs, self.pending_bytes = [], 0, 0

    def call(self) -> None:
        """Have all producers told how their streams stand, and so asked for what they gather."""
        for name, stream in self._streams.items():
            stream.welcome = True
            self._touched[name] = None

    def replies(self, *, lazy: bool = False) -> Iterator[tuple[Route, Control]]:
        """What to tell whom now; when `lazy`, no acknowledgement that no process waits for.

        May raise `DatabaseFault`; what was not told is told the next time.
        """
        while self._replies:
            yield self._replies.popleft()
        for name in list(self._touched):
            stream = self._streams.get(name)
            if lazy and stream and not (stream.waited or stream.welcome or stream.failed):
                continue
            if stream and stream.route is not None:
                yield stream.route, self._state(name, stream, Welcome if stream.welcome else Ack)
                stream.welcome = False
                stream.waited = stream.waited and stream.committed < stream.received
            del self._touched[name]

    def settled(self, stream: bytes) -> bool:
        """Whether every job of a stream that was taken is decided; so it is for a stream that was forgotten."""
        known = self._streams.get(stream)
        return known is None or known.committed == known.received

    def received(self, stream: bytes) -> int:
        """The last job of a stream that is decided or pending; 0 for one that this writer has not seen."""
        known = self._streams.get(stream)
        return known.received if known else 0

    def route(self, stream: bytes) -> Route | None:
        """Where a stream's producer is answered; None for one that has not spoken."""
        known = self._streams.get(stream)
        return known.route if known else None

    def watermark(self, name: bytes, trimmed: int, now: float) -> int:
        """A producer or its journal says that jobs up to `trimmed` were acknowledged: see that the ledger agrees.

        Returns how many jobs are gone: the ledger stands behind, so the database was deleted, replaced or
        restored. It is set to the watermark, or the stream could never go on.
        """
        stream = self._stream(name, now)
        if trimmed <= stream.committed or stream.received != stream.committed:
            return 0
        last = self._ledger.last_sequences([name])[name]  # another writer may have been here
        gone = max(0, trimmed - last)
        if gone:
            self._ledger.raise_watermark(name, trimmed)
        stream.received = stream.committed = max(trimmed, last)
        stream.failed = True
        self.jobs_gone += gone
        return gone

    def look_again(self) -> dict[bytes, int]:
        """Compare what is known with the ledger: after a fault, when a batch met the fence, when others have written.

        Where the ledger went forward another writer has committed, which the next batch or watermark finds. Where it
        went back the database was deleted, replaced or restored: begin again, as the next writer would, with another
        epoch and from what the ledger says. Producers go back to that and send what they still have; what they no
        longer have they tell with their watermark. Returns by how many jobs which streams went back.
        """
        ledger = self._ledger.last_sequences(list(self._streams))
        behind = {name: stream.committed - ledger[name] for name, stream in self._streams.items()}
        behind = {name: jobs for name, jobs in behind.items() if jobs > 0}
        if behind:
            self._begin_again(ledger)
        return behind

    def _begin_again(self, ledger: Mapping[bytes, int]) -> None:
        self.epoch = ((int.from_bytes(self.epoch, "big") + 1) % (1 << 64)).to_bytes(8, "big")
        self._drop_pending()
        self.adopting = None
        known, self._streams = self._streams, {}
        for name, stream in known.items():
            if stream.route is not None:
                self._streams[name] = _Stream(
                    ledger[name],
                    ledger[name],
                    route=stream.route,
                    confirmed=stream.confirmed,
                    failed=True,
                    welcome=True,
                    seen=stream.seen,
                )
        self._touched = dict.fromkeys(self._streams)

    def end(self, name: bytes) -> None:
        """A stream is over: everything in it is settled, and its journal deleted."""
        self.ended.add(name)
        self.forget(name)

    def forget(self, name: bytes) -> None:
        """Drop what is known of a stream, unless some of it is pending or being adopted. The ledger keeps its row."""
        stream = self._streams.get(name)
        if stream and stream.received == stream.committed and name != self.adopting:
            del self._streams[name]
            self._touched.pop(name, None)

    def expire(self, now: float) -> None:
        """Forget streams that have been silent for long."""
        for name in [name for name, stream in self._streams.items() if now - stream.seen > FORGET_AFTER_S]:
            self.forget(name)

    def _stream(self, name: bytes, now: float) -> _Stream[Route]:
        stream = self._streams.get(name)
        if stream is None:
            last = self._ledger.last_sequences([name]).get(name, 0)
            stream = self._streams[name] = _Stream(last, last)
        stream.seen = now
        return stream

    def _hello(self, route: Route, message: Hello, now: float, unread: bool) -> None:
        if not self._database.is_called(message.database):
            text = f"this writer owns {self._database.name_now}, not {message.database}"
            self._replies.append((route, Refusal(message.stream, text, fatal=True)))
            return
        gone = self.watermark(message.stream, message.trimmed, now)
        stream = self._stream(message.stream, now)
        known = stream.route is not None
        if not known:
            stream.failed = True  # an earlier writer may have left dead letters of it
            stream.confirmed = max(stream.confirmed, message.trimmed)
        stream.route = route
        stream.waited = stream.waited or stream.committed < stream.received
        if gone:
            self.warn(route, message.stream, _gone(gone))
        # A Welcome says what has arrived, and what is missing in it is sent again; an Ack only what is committed.
        kind = Ack if unread and known else Welcome
        self._replies.append((route, self._state(message.stream, stream, kind)))

    def _state(self, name: bytes, stream: _Stream[Route], kind: type[Ack]) -> Ack:
        committed = stream.committed
        failures: list[Failure] = []
        if stream.failed:
            failures = self._ledger.failures_after(name, stream.confirmed, MAX_FAILURES + 1)
            stream.failed = bool(failures)
            if len(failures) > MAX_FAILURES:
                committed = min(committed, failures.pop().sequence - 1)
        return kind(
            name, self.epoch, self.pid, stream.received, committed, self._window(), [_cut(each) for each in failures]
        )

    def _window(self) -> int:
        return max(MIN_WINDOW_BYTES, min(MAX_WINDOW_BYTES, TOTAL_WINDOW_BYTES // max(1, len(self._streams))))

    def _ask_resend(self, stream: _Stream[Route], message: Jobs) -> None:
        if stream.route is not None and message.rewind > stream.rewind_answered:
            stream.rewind_answered = message.rewind
            self.resends += 1
            resend = Resend(message.stream, self.epoch, stream.received + 1, message.rewind)
            self._replies.append((stream.route, resend))


def _cut(failure: Failure) -> Failure:
    """As much of it as fits into an acknowledgement."""
    return failure._replace(
        error=failure.error[:MAX_FAILURE_CHARS],
        statement=failure.statement and failure.statement[:MAX_FAILURE_SQL_CHARS],
    )


def _behind(run: Run, committed: int) -> Run | None:
    """What of a run stands behind the last committed job."""
    if run.first > committed:
        return run
    return (
        run._replace(first=committed + 1, payloads=run.payloads[committed + 1 - run.first :])
        if run.last > committed
        else None
    )


def _gone(jobs: int) -> str:
    return f"{jobs} jobs that were acknowledged are not in the database: it was deleted, replaced or restored"
