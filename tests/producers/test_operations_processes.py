"""Many processes work on one row at once: nothing that they add is lost."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from producers.operations import (
    DiscoveryMethod,
    DiscoveryMethodStatus,
    OperationMetrics,
    OperationTracker,
    OperationType,
)
from telemetry_bus import TelemetryStore

pytestmark = pytest.mark.integration

PROCESSES, ROUNDS = 8, 40
NUMBERS = range(1, PROCESSES + 1)

PATIENCE_S = 60.0


def work(database: Path, number: int, together: Any) -> None:
    """What each process does, once all are ready."""
    with TelemetryStore(database) as store:
        tracker = OperationTracker(store)
        together.wait(PATIENCE_S)
        for step in range(ROUNDS):
            status = DiscoveryMethodStatus.TIMEOUT if step % 4 else DiscoveryMethodStatus.SUCCESS
            tracker.update_discovery_method_effectiveness(
                "s",
                f"http://{number}/",
                DiscoveryMethod.RSS_FEED,
                status,
                number * 1000 + step,
                10.0 * number,
                [number],
            )
            tracker.update_progress("op", OperationMetrics(total_items=number, processed_items=step + 1))
            if number == 3 and step == ROUNDS // 2:
                tracker.complete_operation("op", {"by": number})
        assert 0 == tracker.failures


@pytest.fixture
def mode() -> str:
    return "daemon"


def test_one_row_of_many_processes(
    database: Path, store: TelemetryStore, stored: Callable[[str], list[dict[str, Any]]]
) -> None:
    """Eight processes at once: attempts, rate, time and the best are exact, the last ten codes are codes that were
    given; the operation that one of them has ended stays ended, with metrics that one of them gave."""
    OperationTracker(store).start_operation("op", OperationType.CRAWL_DISCOVERY, user_id="u")
    store.flush()
    fork = multiprocessing.get_context("fork")
    together = fork.Barrier(PROCESSES)
    processes = [fork.Process(target=work, args=(database, number, together)) for number in NUMBERS]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
    left = [process.pid for process in processes if process.is_alive()]
    for process in processes:
        process.kill()
        process.join()
    assert [] == left
    assert [0] * PROCESSES == [process.exitcode for process in processes]
    (row,) = stored("SELECT * FROM discovery_method_effectiveness")
    assert PROCESSES * ROUNDS == row["attempt_count"]
    assert (25.0, PROCESSES * ROUNDS // 4) == (row["success_rate"], row["success_count"])
    assert pytest.approx(45.0) == row["avg_response_time_ms"]
    assert 1000 * PROCESSES + ROUNDS - 1 == row["articles_found"]
    codes = json.loads(row["last_status_codes"])
    assert 10 == len(codes)
    assert set(codes) <= set(NUMBERS)
    (operation,) = stored("SELECT * FROM operations")
    assert ("completed", "u", '{"by": 3}') == (operation["status"], operation["user_id"], operation["result_summary"])
    assert operation["completed_at"]
    metrics = json.loads(operation["metrics"])
    assert ROUNDS == metrics["processed_items"]  # whoever was last was at its end
    assert [(ROUNDS, "success")] == [
        tuple(row.values()) for row in stored("SELECT records_processed, exit_status FROM jobs")
    ]
    assert DiscoveryMethodStatus.TIMEOUT.value == row["status"]
    assert [] == OperationTracker(store).get_effective_discovery_methods("s")
    assert DiscoveryMethod.RSS_FEED.value == row["discovery_method"]
    assert [] == stored("SELECT error FROM telemetry_bus_dead_letters")
