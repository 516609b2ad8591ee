"""Whose message comes next: that of the stream that has had least."""

from __future__ import annotations

from collections.abc import Callable

from telemetry_bus.protocol.messages import Jobs
from telemetry_bus.writer.fair_queue import FairQueue


def message(stream: str, first: int = 1, size: int = 1000) -> Jobs:
    return Jobs(stream.encode().ljust(16, b"."), 0, first, 1, 1, 0, b"", bytes(size))


def taken(queue: FairQueue, accepts: Callable[[bytes], bool] = lambda stream: True) -> list[tuple[str, int]]:
    """Everything, in order."""
    found = []
    while (next_one := queue.take(accepts)) is not None:
        found.append((next_one.stream.decode().rstrip("."), next_one.first))
    return found


def test_a_stream_with_little_goes_first() -> None:
    """It came last, behind six that have each sent three messages of a full size; none of their order is lost."""
    queue = FairQueue()
    for first in (1, 2, 3):
        for stream in "abcdef":
            queue.put(message(stream, first, 128 * 1024))
    queue.put(message("quiet", 1, 50))
    order = taken(queue)
    assert ("quiet", 1) == order[0]
    for stream in "abcdef":
        assert [1, 2, 3] == [first for name, first in order if name == stream]
    assert 0 == queue.bytes


def test_a_stream_that_was_silent_has_no_credit() -> None:
    """It goes on beside the others, and not with all that it could have sent before."""
    queue = FairQueue()
    for first in range(1, 100):
        queue.put(message("a", first))
        assert 1 == len(taken(queue))
    for first in range(1, 5):
        queue.put(message("b", first))
        queue.put(message("a", 100 + first))
    order = [name for name, _ in taken(queue)]
    assert [1, 1, 1, 1] == [order[place : place + 2].count("a") for place in (0, 2, 4, 6)]


def test_messages_of_streams_that_are_not_accepted_wait() -> None:
    """They keep their place; one that is accepted goes past them."""
    queue = FairQueue()
    for first in (1, 2):
        queue.put(message("slow", first, 10))
    queue.put(message("other", 1, 5000))
    assert [("other", 1)] == taken(queue, lambda stream: not stream.startswith(b"slow"))
    assert queue.holds(b"slow".ljust(16, b"."))
    assert [("slow", 1), ("slow", 2)] == taken(queue)
    assert not queue.holds(b"slow".ljust(16, b"."))


def test_streams_that_are_gone_are_forgotten() -> None:
    """However many there were."""
    queue = FairQueue()
    for number in range(5000):
        queue.put(message(f"s{number}"))
        assert 1 == len(taken(queue))
    assert len(queue._clocks) <= 1002
