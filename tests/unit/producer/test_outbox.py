"""A store's stream: submitting from any thread, the policies of a full journal, waiting, and interrupts."""

from __future__ import annotations

import dis
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from telemetry_bus.config import OnFull
from telemetry_bus.encoding.records import Definitions, read_runs
from telemetry_bus.encoding.values import packer
from telemetry_bus.errors import JobTooLarge, JournalFull, ReentrantSubmit, StoreClosed, UnsupportedValue
from telemetry_bus.jobs import MAX_JOB_BYTES, Failure, Job, Statement
from telemetry_bus.journal.orphan import OrphanJournal
from telemetry_bus.journal.ring import Journal
from telemetry_bus.producer import outbox as outbox_module
from telemetry_bus.producer.outbox import Outbox
from telemetry_bus.protocol.producer import Slice

from ..tracing import traced

STREAM = b"outbox of a test"
INSERT = "INSERT INTO t VALUES (?)"
RING_BYTES = 1000
#: A job that fills more than a third of the ring, and less than half.
BIG = "x" * 400


class Waking:
    """Counts wakes; a test may have more done in one."""

    def __init__(self) -> None:
        self.count = 0
        self.then: Callable[[], None] = lambda: None

    def __call__(self) -> None:
        self.count += 1
        self.then()


def make(
    on_full: OnFull = "raise",
    timeout: float = 0.0,
    *,
    folder: Path | None = None,
    ring: int = RING_BYTES,
    log_failures: bool = True,
) -> Outbox:
    journal = Journal(folder, STREAM, ring, "sqlite:////x.db")
    return Outbox(journal, Waking(), on_full=on_full, timeout=timeout, log_failures=log_failures)


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    outbox = make()
    yield outbox
    outbox.journal.close()


def values(outbox: Outbox) -> list[Any]:
    """The values of the jobs in the journal, in order, one row each."""
    if outbox.journal.end == outbox.journal.trimmed:
        return []
    message = outbox.read(Slice(outbox.journal.trimmed, None, (0, 0), 0))
    definitions = Definitions()
    definitions.extend(1, message.definitions_count, message.definitions)
    runs = read_runs(STREAM, message.first, message.count, message.records, definitions)
    assert message.first == outbox.journal.trimmed[0] + 1
    return [payload[0] for run in runs for payload in run.payloads]


def decide(outbox: Outbox, *failures: Failure) -> None:
    """Everything submitted is decided."""
    outbox.settle(outbox.journal.end, outbox.last, failures)


def test_jobs_are_numbered(outbox: Outbox) -> None:
    """Each job gets the next number, whichever way it is handed in, and the sender is woken for it."""
    assert [1, 2, 3] == [
        outbox.put_row(INSERT, ("one",), ()),
        outbox.put(Job((Statement(INSERT, (("two",),)),))),
        outbox.put_row(INSERT, ("three",), ()),
    ]
    assert ["one", "two", "three"] == values(outbox)
    assert isinstance(outbox.wake, Waking)
    assert 3 == outbox.wake.count


def test_refused_values_leave_no_trace(outbox: Outbox) -> None:
    """A value that cannot be stored costs no number, and the next job is taken."""
    with pytest.raises(UnsupportedValue):
        outbox.put_row(INSERT, (object(),), ())
    with pytest.raises(UnsupportedValue):
        outbox.put(Job((Statement(INSERT, ((2**70,),)),)))
    assert 1 == outbox.put_row(INSERT, (1,), ())
    assert [1] == values(outbox)


def test_job_that_is_too_large(outbox: Outbox) -> None:
    """More than half of a journal, or more than the limit of all jobs, is refused whatever the policy."""
    with pytest.raises(JobTooLarge, match="half a") as caught:
        outbox.put_row(INSERT, ("x" * 500,), ())
    assert INSERT == caught.value.subject
    large = make("drop", ring=4 * MAX_JOB_BYTES)
    with pytest.raises(JobTooLarge, match="at most 8388608"), closing(large.journal):
        large.put_row(INSERT, ("x" * MAX_JOB_BYTES,), ())
    assert (0, 0) == (outbox.last, large.last)


def fill(outbox: Outbox) -> int:
    outbox.put_row(INSERT, (BIG,), ())
    return outbox.put_row(INSERT, (BIG,), ())


def test_raise_when_full(outbox: Outbox) -> None:
    """The policy `raise` raises at once; nothing is submitted then, and it goes on when there is room."""
    assert 2 == fill(outbox)
    with pytest.raises(JournalFull, match="2 jobs are waiting"):
        outbox.put_row(INSERT, (BIG,), ())
    assert (2, 0) == (outbox.last, outbox.counts().dropped)
    assert 3 == outbox.put_row(INSERT, ("small",), ())
    decide(outbox)
    assert 4 == outbox.put_row(INSERT, (BIG,), ())


def test_drop_when_full() -> None:
    """The policy `drop` says 0 and counts; the numbers of jobs have no holes."""
    outbox = make("drop")
    with closing(outbox.journal):
        fill(outbox)
        assert [0, 0] == [outbox.put_row(INSERT, (BIG,), ()) for _ in range(2)]
        assert 2 == outbox.counts().dropped
        decide(outbox)
        assert 3 == outbox.put_row(INSERT, (BIG,), ())


def test_block_when_full() -> None:
    """The policy `block` waits, wakes the sender, and goes on as soon as there is room."""
    outbox = make("block", 60.0)
    assert isinstance(outbox.wake, Waking)
    with closing(outbox.journal):
        fill(outbox)
        waiting = threading.Event()
        outbox.wake.then = waiting.set
        numbers: list[int] = []
        thread = threading.Thread(target=lambda: numbers.append(outbox.put_row(INSERT, (BIG,), ())))
        thread.start()
        assert waiting.wait(60)
        decide(outbox)
        thread.join(60)
        assert [3] == numbers
        assert [BIG] == values(outbox)


def test_block_for_so_long() -> None:
    """When the time is over it is as with `raise`."""
    outbox = make("block", 0.01)
    with closing(outbox.journal):
        fill(outbox)
        with pytest.raises(JournalFull):
            outbox.put_row(INSERT, (BIG,), ())
        assert 3 == outbox.put_row(INSERT, ("small",), ())


def test_others_submit_while_one_waits() -> None:
    """A job that waits for room does not keep out one that has room."""
    outbox = make("block", 60.0)
    assert isinstance(outbox.wake, Waking)
    with closing(outbox.journal):
        fill(outbox)
        waiting = threading.Event()
        outbox.wake.then = waiting.set
        numbers: list[int] = []
        thread = threading.Thread(target=lambda: numbers.append(outbox.put_row(INSERT, (BIG,), ())))
        thread.start()
        assert waiting.wait(60)
        assert 3 == outbox.put_row(INSERT, ("small",), ())
        assert [] == numbers
        decide(outbox)
        thread.join(60)
        assert [4] == numbers


def test_closing_ends_the_waiting() -> None:
    """One that waits for room, and one that waits for the outcome, learn that the store is closed."""
    outbox = make("block", 60.0)
    assert isinstance(outbox.wake, Waking)
    with closing(outbox.journal):
        fill(outbox)
        arrived = threading.Barrier(3)

        def arrive() -> None:
            arrived.wait(60)

        outbox.wake.then = arrive
        found: list[object] = []

        def submit() -> None:
            try:
                outbox.put_row(INSERT, (BIG,), ())
            except StoreClosed as error:
                found.append(error)

        threads = [
            threading.Thread(target=submit),
            threading.Thread(target=lambda: found.append(outbox.wait(2, 60))),
        ]
        for thread in threads:
            thread.start()
        arrived.wait(60)
        outbox.close()
        for thread in threads:
            thread.join(60)
        assert {"StoreClosed", "bool"} == {type(one).__name__ for one in found}
        assert False in found
        with pytest.raises(StoreClosed):
            outbox.put(Job())


def test_submit_within_a_submit(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler or a finalizer that submits in the middle of a submit of its thread meets an error, not a
    deadlock, and the outer job is taken."""
    real = outbox.journal.append
    met: list[type] = []

    def interrupted(record: bytes) -> int:
        submits: list[Callable[[], object]] = [
            lambda: outbox.put_row(INSERT, ("inner",), ()),
            lambda: outbox.put(Job()),
        ]
        for submit in submits:
            try:
                submit()
            except ReentrantSubmit as error:
                met.append(type(error))
        return real(record)

    monkeypatch.setattr(outbox.journal, "append", interrupted)
    assert 1 == outbox.put_row(INSERT, ("outer",), ())
    assert [ReentrantSubmit, ReentrantSubmit] == met
    monkeypatch.undo()
    assert 2 == outbox.put_row(INSERT, ("after",), ())
    assert ["outer", "after"] == values(outbox)


def test_threads_that_submit_at_once() -> None:
    """Every job has a number of its own, none is lost, and each thread's are in its order."""
    outbox = make(ring=1_000_000)
    threads, each = 8, 300
    begin = threading.Barrier(threads)
    numbers: dict[int, list[int]] = {}

    def submit(name: int) -> None:
        begin.wait(60)
        numbers[name] = [outbox.put_row(INSERT, (name * each + n,), ()) for n in range(each)]

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        running = [threading.Thread(target=submit, args=(name,)) for name in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(60)
    finally:
        sys.setswitchinterval(switching)
    with closing(outbox.journal):
        assert [*range(1, threads * each + 1)] == sorted(n for mine in numbers.values() for n in mine)
        written = values_of_all(outbox)
        for name, mine in numbers.items():
            assert [name * each + n for n in range(each)] == [written[number - 1] for number in mine]


def values_of_all(outbox: Outbox) -> list[Any]:
    definitions, found, position = Definitions(), [], (0, 0)
    while position != outbox.journal.end:
        message = outbox.read(Slice(position, None, (0, 0), 0))
        position = (message.last, position[1] + len(message.records))
        definitions.extend(message.definitions_first, message.definitions_count, message.definitions)
        for run in read_runs(STREAM, message.first, message.count, message.records, definitions):
            found += [payload[0] for payload in run.payloads]
    return found


class Interrupting:
    """Raises `KeyboardInterrupt` at the n-th place where CPython may, in the bus's own code: where a function begins,
    behind a call, and where a loop goes back (see ceval.c, CHECK_EVAL_BREAKER)."""

    def __init__(self, nth: int) -> None:
        self.left = nth
        self._before: dict[FrameType, str] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if "/telemetry_bus/" not in frame.f_code.co_filename:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        if event == "exception":  # a call that raises is followed by its handler at once
            self._before[frame] = ""
        elif event == "opcode":
            before = self._before.get(frame, "")
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before.startswith(("RESUME", "CALL", "JUMP_BACKWARD")):
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("value", ["new", 2**70])
def test_interrupt_at_every_point_of_a_submit(value: object, tmp_path: Path) -> None:
    """Wherever an interrupt meets a submit, also of a refused value or of one that defines new SQL: the job is there
    whole or not at all, later submits work, and what a killed process would leave is the same."""
    for nth in range(1, 400):
        (folder := tmp_path / str(nth)).mkdir()
        outbox = make(folder=folder)
        outbox.put_row("INSERT INTO before VALUES (?)", ("before",), ())
        interrupted = refused = False
        try:
            with traced(Interrupting(nth)):
                outbox.put_row(INSERT, (value,), ("CREATE TABLE t (a)",))
        except KeyboardInterrupt:
            interrupted = True
        except UnsupportedValue:
            refused = True
        last = outbox.put_row("INSERT INTO after VALUES (?)", ("after",), ())
        again = outbox.put_row(INSERT, ("again",), ())
        found = values(outbox)
        assert found in (["before", "after", "again"], ["before", "new", "after", "again"])
        assert [last, again] == [len(found) - 1, len(found)]
        assert interrupted or refused or "new" in found
        outbox.journal.close()
        assert outbox.journal.path is not None
        orphan = OrphanJournal.claim(outbox.journal.path)
        assert orphan is not None
        with closing(orphan):
            definitions = Definitions()
            definitions.extend(1, orphan.definitions_count, orphan.definitions)
            ((_, count, records),) = orphan.chunks()
            runs = read_runs(STREAM, 1, count, records, definitions)
            assert found == [payload[0] for run in runs for payload in run.payloads]
            expected = ["INSERT INTO before VALUES (?)", INSERT, "INSERT INTO after VALUES (?)", INSERT]
            if "new" not in found:
                del expected[1]
            assert expected == [run.template.statements[0][0] for run in runs for _ in run.payloads]
            assert orphan.damage is None
        if not interrupted:
            assert nth > 25, "nothing was interrupted"
            return
    pytest.fail("the submit never ended")


def test_interrupted_before_the_wake(outbox: Outbox) -> None:
    """A job that is in the journal although its submit was interrupted is sent when somebody waits for it."""
    assert isinstance(outbox.wake, Waking)

    def interrupt() -> None:
        raise KeyboardInterrupt

    outbox.wake.then = interrupt
    with pytest.raises(KeyboardInterrupt):
        outbox.put_row(INSERT, (1,), ())
    before = outbox.wake.count
    outbox.wake.then = lambda: decide(outbox)
    assert outbox.wait(outbox.last, 0)
    assert before + 1 == outbox.wake.count
    assert outbox.drain(0)
    assert before + 2 == outbox.wake.count


def test_waiting_for_the_outcome(outbox: Outbox) -> None:
    """It waits for jobs up to a number; those behind it do not count; when the time is over it says so."""
    for number in (1, 2, 3):
        outbox.put_row(INSERT, (number,), ())
    assert outbox.wait(0, 0)
    assert not outbox.wait(1, 0)
    outbox.settle((0, 0), 2, [])
    assert outbox.wait(2, 0)
    assert not outbox.wait(3, 0.001)
    assert not outbox.drain(0.001)
    decide(outbox)
    assert outbox.drain(0)


def test_waking_those_who_wait(outbox: Outbox) -> None:
    """Whoever waits goes on when the job is decided."""
    outbox.put_row(INSERT, (1,), ())
    assert isinstance(outbox.wake, Waking)
    waiting = threading.Event()
    outbox.wake.then = waiting.set
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(outbox.wait(1, 60)))
    thread.start()
    assert waiting.wait(60)
    decide(outbox)
    thread.join(60)
    assert [True] == found


def test_failures(outbox: Outbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are logged with their text, counted, kept by number; only so many are kept."""
    monkeypatch.setattr(outbox_module, "_FAILURES_KEPT", 2)
    for number in (1, 2, 3):
        outbox.put_row(INSERT, (number,), ())
    failures = [
        Failure(b"s", number, "IntegrityError", f"no {number}\nTraceback (most recent call last):\ntrace", "SQL")
        for number in (1, 2, 3)
    ]
    decide(outbox, *failures)
    counts = outbox.counts()
    assert (3, "no 3") == (counts.failed, counts.last_error)
    assert [None, failures[1], failures[2]] == [outbox.failure(number) for number in (1, 2, 3)]
    assert 3 == len(caplog.records)
    assert all(record.levelno == logging.ERROR and "trace" in record.getMessage() for record in caplog.records)


def test_failures_that_the_writer_logs(caplog: pytest.LogCaptureFixture) -> None:
    """In the writer's process they are logged once, by the writer."""
    outbox = make(log_failures=False)
    with closing(outbox.journal):
        outbox.put_row(INSERT, (1,), ())
        decide(outbox, Failure(b"s", 1, "T", "no", None))
        assert (1, []) == (outbox.counts().failed, caplog.records)


def test_counts(outbox: Outbox) -> None:
    """Submitted, decided, and what still lies in the journal, which goes by whole messages."""
    for number in (1, 2, 3):
        outbox.put_row(INSERT, (number,), ())
    size = outbox.journal.end[1]
    outbox.settle((1, size // 3), 2, [])
    counts = outbox.counts()
    assert (3, 2, 1, size - size // 3) == (
        counts.submitted,
        counts.acknowledged,
        counts.pending,
        counts.pending_bytes,
    )
    assert (3, 2, 1) == (outbox.last, outbox.committed, outbox.pending)
    outbox.settle((0, 0), 1, [])
    assert (2, size - size // 3) == (outbox.committed, outbox.counts().pending_bytes), "never backwards"
    outbox.note_error("sender: out of descriptors")
    assert "sender: out of descriptors" == outbox.counts().last_error


def test_space_is_freed_when_it_is_known_late_where_a_settled_message_ends(outbox: Outbox) -> None:
    """Another writer had the jobs from a copy of the journal: they were settled before they were sent, and of their
    message no job is news. The journal is free for others all the same."""
    for text in (BIG, BIG):
        outbox.put_row(INSERT, (text,), ())
    outbox.settle((0, 0), 2, [])
    outbox.settle(outbox.journal.end, 2, [])
    assert 0 == outbox.counts().pending_bytes
    assert 3 == outbox.put_row(INSERT, (BIG,), ())


@pytest.mark.parametrize("pending", [False, True])
def test_release(tmp_path: Path, pending: bool) -> None:
    """At the end the journal goes when all is decided; else it is left to the writer."""
    outbox = make(folder=tmp_path)
    outbox.put_row(INSERT, (1,), ())
    if not pending:
        decide(outbox)
    outbox.close()
    assert pending == (not outbox.release())
    assert outbox.journal.path is not None
    assert pending == outbox.journal.path.exists()
    if pending:
        orphan = OrphanJournal.claim(outbox.journal.path)
        assert orphan is not None
        orphan.close()


def test_messages_carry_new_definitions_once(outbox: Outbox) -> None:
    """A message brings the definitions behind those that were sent, and says from where."""
    outbox.put_row(INSERT, (1,), ())
    first = outbox.read(Slice((0, 0), None, (0, 0), 5))
    assert (1, 1, 1, 2, 5) == (
        first.first,
        first.count,
        first.definitions_first,
        first.definitions_count,
        first.rewind,
    )
    outbox.put_row(INSERT, (2,), ())
    end = (1, len(first.records))
    second = outbox.read(Slice(end, None, (2, len(first.definitions)), 5))
    assert (2, 1, 3, 0) == (second.first, second.count, second.definitions_first, second.definitions_count)
    again = outbox.read(Slice((0, 0), end, (0, 0), 6))
    assert 1 == again.count, "cut as before, although there is more"


def test_packer_is_not_shared() -> None:
    """Two stores of one process encode at the same time."""
    assert packer() is not packer()


def test_what_was_left_out_is_told_at_the_end(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    """A program that ends within the period of the pace has not heard of all its failures."""
    decide(outbox, *(Failure(b"s", number, "IntegrityError", "no\ntrace", "SQL") for number in range(1, 8)))
    assert 5 == len(caplog.messages)
    outbox.tell_left_out()
    assert caplog.messages[-1].startswith("2 more like this one, left out: job 7 failed for good")
