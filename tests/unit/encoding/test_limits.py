"""How many rows a job may have, and how many arrays a message: both would be far larger in memory than as bytes."""

from __future__ import annotations

import tracemalloc

import pytest

from telemetry_bus import Job, JobTooLarge, Statement, TelemetryStore
from telemetry_bus.encoding import values as codec
from telemetry_bus.encoding.records import Encoder
from telemetry_bus.errors import ProtocolError
from telemetry_bus.jobs import MAX_JOB_BYTES, MAX_JOB_ROWS


def test_rows_of_all_statements_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job at the limit is taken, with one row more it is not; a statement counts like a row."""
    monkeypatch.setattr(codec, "MAX_JOB_ROWS", 5)
    encoder = Encoder(lambda definition: 0)
    statements = (Statement("INSERT INTO t VALUES (?)", ((1,), (2,))), Statement("INSERT INTO u VALUES (?)", ((1,),)))
    assert encoder.job(Job(statements))
    with pytest.raises(JobTooLarge, match=r"the job has 6 rows and statements, at most 5 are taken.*split it"):
        encoder.job(Job((*statements[:1], Statement("INSERT INTO u VALUES (?)", ((1,), (2,))))))


def test_statements_without_values_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement and its only row count as two, and are one byte when there are no values."""
    monkeypatch.setattr(codec, "MAX_JOB_ROWS", 5)
    encoder = Encoder(lambda definition: 0)
    statements = (Statement("DELETE FROM t"), Statement("DELETE FROM u"), Statement("DELETE FROM v"))
    assert encoder.job(Job(statements[:2]))
    with pytest.raises(JobTooLarge, match="the job has 6 rows and statements"):
        encoder.job(Job(statements))


def test_nothing_of_it_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is told, and the store goes on."""
    monkeypatch.setattr(codec, "MAX_JOB_ROWS", 5)
    with TelemetryStore(":memory:", mode="sync") as store:
        store.execute("INSERT INTO t VALUES (?)", (1,), ensure=["CREATE TABLE t (a)"])
        with pytest.raises(JobTooLarge):
            store.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(5)])
        with store.connection() as connection:
            assert [(1,)] == connection.execute("SELECT a FROM t").fetchall()


@pytest.mark.slow
@pytest.mark.parametrize(
    "job",
    [
        Job((Statement("INSERT INTO t VALUES (?)", ((7,),) * (MAX_JOB_ROWS - 1)),)),
        Job((Statement("INSERT INTO t VALUES (?)", ((7,),)),) * (MAX_JOB_ROWS // 2)),
    ],
    ids=["rows", "statements"],
)
def test_the_largest_job_is_read(job: Job) -> None:
    """What is taken at submit can always be read again."""
    codec.check_rows(job, MAX_JOB_BYTES)
    assert len(job.statements) == len(codec.unpack_job(codec.pack_job(job)).statements)


@pytest.mark.slow
def test_a_bomb_is_refused_before_it_is_large() -> None:
    """Eight million empty arrays in eight megabytes: an error, and no gigabyte."""
    count = 8_000_000
    bomb = b"\xdd" + count.to_bytes(4, "big") + b"\x90" * count
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="more than 2001000 arrays"):
            codec.unpack(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300_000_000
