"""Messages that have arrived and wait for their batch, in an order that is fair to all streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush

from ..protocol.messages import Jobs
from ..protocol.writer import TOTAL_WINDOW_BYTES

#: What waits here is read ahead of its batch, so that a stream with little to say need not wait behind what others sent
#: before: all that the windows of a hundred streams let them send. The rest waits in the sockets.
LIMIT_BYTES = 2 * TOTAL_WINDOW_BYTES
#: Streams that are remembered although nothing of them waits.
_REMEMBERED = 1000


class FairQueue:
    """Start-time fair queueing, by bytes: each stream has a clock that runs ahead with what it sends, and the message
    whose clock is behind all others goes first. Messages of one stream keep their order.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._heap: list[tuple[int, int, Jobs]] = []
        self._clocks: dict[bytes, int] = {}
        self._waiting: Counter[bytes] = Counter()
        self._now = 0
        self._count = 0

    def holds(self, stream: bytes) -> bool:
        """Whether a message of the stream waits."""
        return stream in self._waiting

    def put(self, message: Jobs) -> None:
        clock = max(self._now, self._clocks.get(message.stream, 0)) + len(message.records)
        self._clocks[message.stream] = clock
        self._count += 1
        heappush(self._heap, (clock, self._count, message))
        self._waiting[message.stream] += 1
        self.bytes += len(message.records)

    def take(self, accepts: Callable[[bytes], bool]) -> Jobs | None:
        """The next message of a stream that is accepted; None when none of them has any."""
        aside = []
        while self._heap and not accepts(self._heap[0][2].stream):
            aside.append(heappop(self._heap))
        found = heappop(self._heap) if self._heap else None
        for entry in aside:
            heappush(self._heap, entry)
        return None if found is None else self._taken(*found)

    def _taken(self, clock: int, _: int, message: Jobs) -> Jobs:
        self._now = max(self._now, clock - len(message.records))
        self.bytes -= len(message.records)
        self._waiting[message.stream] -= 1
        if not self._waiting[message.stream]:
            del self._waiting[message.stream]
        if not self._heap:
            self._clocks.clear()  # no stream waits, and none is owed anything
        if len(self._clocks) > _REMEMBERED + len(self._waiting):
            self._clocks = {stream: clock for stream, clock in self._clocks.items() if clock > self._now}
        return message
