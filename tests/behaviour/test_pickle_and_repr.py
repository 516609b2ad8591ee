"""Errors travel between processes; what is shown of them and of figures can be read."""

from __future__ import annotations

import pickle

import pytest

import telemetry_bus
from telemetry_bus import JobFailed, StoreStats, TelemetryError, UnsupportedValue

ERRORS = [
    error
    for error in map(vars(telemetry_bus).get, telemetry_bus.__all__)
    if isinstance(error, type) and issubclass(error, TelemetryError)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_error_survives_pickling(kind: type[TelemetryError]) -> None:
    """A process pool hands errors on: kind, text and parts stay."""
    error = kind("what", operation="submit", subject="INSERT …", hint="do that")
    copy = pickle.loads(pickle.dumps(error))
    assert kind is type(copy)
    assert str(error) == str(copy) == "submit: what [INSERT …] (do that)"
    assert ("what", "submit", "INSERT …", "do that") == (copy.message, copy.operation, copy.subject, copy.hint)


def test_failure_survives_pickling() -> None:
    """The writer's traceback comes along."""
    error = JobFailed("what")
    error.error_type, error.traceback = "IntegrityError", "Traceback …"
    copy = pickle.loads(pickle.dumps(error))
    assert ("IntegrityError", "Traceback …") == (copy.error_type, copy.traceback)


def test_long_statement_is_cut() -> None:
    """An error stays on one line and of readable length, however long the SQL."""
    text = str(UnsupportedValue("what", subject="INSERT\n" + "x" * 10_000))
    assert len(text) < 400
    assert "\n" not in text


def test_errors_are_builtin_errors_too() -> None:
    """A program may catch what it knows: `ValueError` and `TimeoutError`."""
    assert issubclass(UnsupportedValue, ValueError)
    assert issubclass(telemetry_bus.ConfigError, ValueError)
    assert issubclass(telemetry_bus.FlushTimeout, TimeoutError)


def test_stats_survive_pickling() -> None:
    """So do figures."""
    stats = StoreStats(submitted=3, pending=1)
    assert stats == pickle.loads(pickle.dumps(stats))
