"""Events that repeat: so many in so many seconds, and afterwards the number of the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from telemetry_bus.runtime import throttle as pace
from telemetry_bus.runtime.throttle import PERIOD_S, Pace


class Told(Pace):
    """A pace with a clock to set, and what it has logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture, most: int = 1) -> None:
        self.now = 0.0
        self._records = caplog.records
        super().__init__(logging.getLogger("telemetry_bus.runtime.throttle"), lambda: self.now, most=most)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self._records]


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, logger="telemetry_bus.runtime.throttle"):
        yield


def test_the_same_event_once_in_a_period(caplog: pytest.LogCaptureFixture) -> None:
    """The first one at once; of the others the number and the last, at the first look after the period."""
    told = Told(caplog)
    for number in range(5):
        told.log(logging.WARNING, "no %d", number)
    told.now = PERIOD_S - 0.1
    told.tick()
    assert ["no 0"] == told.texts
    told.now = PERIOD_S
    told.tick()
    assert ["no 0", "4 more like this one, left out: no 4"] == told.texts
    assert (logging.WARNING, 4) == (caplog.records[1].levelno, vars(caplog.records[1])["left_out"])
    told.tick()
    told.log(logging.WARNING, "no %d", 5)
    assert ["no 5"] == told.texts[2:]


def test_the_next_one_tells_too(caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody ticks, what was left out comes before the next one of its kind, or at the end."""
    told = Told(caplog, most=2)
    for number in range(4):
        told.log(logging.ERROR, "no %d", number)
    told.now = PERIOD_S
    told.log(logging.ERROR, "no %d", 4)
    assert ["no 0", "no 1", "2 more like this one, left out: no 3", "no 4"] == told.texts
    for number in (5, 6):
        told.log(logging.ERROR, "no %d", number)
    told.flush()
    told.flush()
    assert ["no 5", "1 more like this one, left out: no 6"] == told.texts[4:]


def test_what_they_are_about_tells_events_apart(caplog: pytest.LogCaptureFixture) -> None:
    """Other texts, and the same text about something else, are other events."""
    told = Told(caplog)
    for about in ("a", "b", "a"):
        told.log(logging.ERROR, "no %s", about, about=about)
    told.log(logging.ERROR, "another")
    assert ["no a", "no b", "another"] == told.texts


def test_a_flood_of_kinds(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many kinds are told apart, so that neither the log nor the memory grows with them; none is forgotten."""
    monkeypatch.setattr(pace, "_KINDS", 10)
    told = Told(caplog)
    for number in range(1000):
        told.log(logging.ERROR, "no %d", number, about=str(number))
    assert 11 == len(told.texts)
    told.flush()
    assert "989 more like this one, left out: no 999" == told.texts[-1]


def test_options_of_logging_are_handed_on(caplog: pytest.LogCaptureFixture) -> None:
    """`exc_info` and `extra` reach the record."""
    Told(caplog).log(logging.ERROR, "no", exc_info=ValueError("x"), extra={"jobs": 3})
    (record,) = caplog.records
    assert record.exc_info is not None
    assert 3 == vars(record)["jobs"]
