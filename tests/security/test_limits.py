"""Sizes: judged where a job is handed in, and again where it arrives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from telemetry_bus import JobFailed, JobTooLarge, TelemetryStore
from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.encoding.values import INT64_MAX
from telemetry_bus.errors import ProtocolError
from telemetry_bus.jobs import MAX_JOB_BYTES
from telemetry_bus.protocol.messages import MAX_CONTROL_BYTES, MAX_FRAME_BYTES, Jobs, decode_control
from telemetry_bus.writer.intake import BatchLimits, Intake

TABLE = "CREATE TABLE IF NOT EXISTS t (a)"


@pytest.fixture
def store() -> Iterator[TelemetryStore]:
    with TelemetryStore(":memory:", mode="sync") as store:
        yield store


def test_a_job_of_the_largest_size_and_one_byte_more(store: TelemetryStore) -> None:
    """8 MiB encoded are taken; more is an error that says so, and nothing is queued."""
    sql = "INSERT INTO t VALUES (?)"
    room = MAX_JOB_BYTES - 200
    store.execute(sql, (b"x" * room,), ensure=[TABLE])
    with pytest.raises(JobTooLarge, match=str(MAX_JOB_BYTES)):
        store.execute(sql, (b"x" * MAX_JOB_BYTES,), ensure=[TABLE])
    with pytest.raises(JobTooLarge, match=str(MAX_JOB_BYTES)):
        store.executemany(sql, [(b"x" * 100_000,)] * 90, ensure=[TABLE])
    with pytest.raises(JobTooLarge):
        store.execute(f"INSERT INTO t VALUES ('{'x' * MAX_JOB_BYTES}')", ensure=[TABLE])
    assert 1 == store.stats().submitted
    with store.connection() as connection:
        assert [(room,)] == connection.execute("SELECT length(a) FROM t").fetchall()


@pytest.mark.slow
def test_more_values_than_a_statement_takes(store: TelemetryStore) -> None:
    """SQLite says no, the error is bounded, and the store goes on."""
    many = ", ".join("?" * 40_000)
    with pytest.raises(JobFailed) as failed:
        store.execute(f"INSERT INTO t VALUES ({many})", (1,) * 40_000, ensure=[TABLE])
    assert len(str(failed.value)) < 1000
    store.execute("INSERT INTO t VALUES (1)", ensure=[TABLE])
    with store.connection() as connection:
        assert [(1,)] == connection.execute("SELECT a FROM t").fetchall()


def test_the_largest_job_fits_into_a_message() -> None:
    """What `submit` takes is never too large for the sockets."""
    assert MAX_JOB_BYTES < MAX_FRAME_BYTES < 2 * MAX_JOB_BYTES


def test_a_control_message_that_is_too_long() -> None:
    """It is refused before it is looked at."""
    with pytest.raises(ProtocolError, match="too long"):
        decode_control(b"\xdd" + bytes(MAX_CONTROL_BYTES))


@pytest.mark.parametrize(
    ("first", "count"), [(INT64_MAX, 1), (INT64_MAX - 1, 2), (2**64 - 1, 1), (1, 2), (1, 2**32 - 1), (1, 0), (0, 1)]
)
def test_a_message_that_announces_more_than_it_can_hold(first: int, count: int) -> None:
    """Numbers beyond the ledger, and more jobs than bytes, are refused by the header alone."""
    frames = Jobs(bytes(16), 0, first, count, 1, 0, b"", b"\x01\x90\xce\0\0\0\0").encode()
    with pytest.raises(ProtocolError, match="impossible"):
        Jobs.decode(frames)


def test_a_batch_is_bounded() -> None:
    """A writer takes no more than its limits and one message before it commits."""
    database = parse_database(":memory:")
    with closing(Writer(database)) as writer:
        intake: Intake[bytes] = Intake(writer, database, BatchLimits(jobs=10, bytes=1000))
        taken = 0
        while intake.room:
            taken += 1
            assert taken <= 10
            record = b"\x00\x92\x92\x90\x91\x92\xa8SELECT 1\xc2\x90" + bytes.fromhex("ce00000000")
            intake.jobs(Jobs(taken.to_bytes(16, "big"), 0, 1, 1, 1, 0, b"", record))
        assert 10 == taken == intake.protocol.pending_jobs
