"""Many processes at once: every row, exactly once, through one writer."""

from __future__ import annotations

import pytest

from ..support.bus import Bus

pytestmark = pytest.mark.integration

PRODUCERS = 8

PROGRAM = """
kind, producer, count = sys.argv[2:]
submit = {"execute": event, "submit": pair}[kind]
with TelemetryStore(database) as store:
    for number in range(1, int(count) + 1):
        submit(store, producer, number)
"""


@pytest.mark.parametrize("count", [5_000, pytest.param(50_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("kind", "tables"), [("execute", ["events"]), ("submit", ["events", "details"])])
def test_every_row_arrives_once_through_one_writer(bus: Bus, kind: str, tables: list[str], count: int) -> None:
    """Eight processes submit at full speed: exact rows in each producer's order, and one writer that serves all."""
    expected = {f"p{index}": list(range(1, count + 1)) for index in range(PRODUCERS)}
    processes = [bus.start(PROGRAM, kind, producer, str(count)) for producer in expected]
    for process in processes:
        bus.finish(process)
        assert "" == bus.errors(process)
    for table in tables:
        assert expected == bus.numbers(table)
    assert 1 == len(bus.owners())
    assert set(bus.owners()) == bus.spawned()
    bus.sound()
