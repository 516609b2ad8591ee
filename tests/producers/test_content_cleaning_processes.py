"""Many processes that see the same pattern."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROCESSES = 8
SESSIONS = 50
LIMIT_S = 90.0

#: What each process does: in every session the shared text twice, and one of its own.
PROGRAM = """
import sys
from producers.content_cleaning import ContentCleaningTelemetry
from telemetry_bus import TelemetryStore

database, number, sessions = sys.argv[1:]
with TelemetryStore(database, mode="daemon") as store:
    telemetry = ContentCleaningTelemetry(store=store)
    for _ in range(int(sessions)):
        telemetry.start_cleaning_session("x.com", 1)
        for text, occurrences in (("shared", 2), (number, 1), ("shared", 3)):
            telemetry.log_segment_detection(text, 0.75, occurrences, "footer", 1.0, 6, ["a"], True)
        telemetry.finalize_cleaning_session(1, 3, 1, 50.0)
sys.exit(telemetry.failures)
"""


@pytest.mark.integration
def test_the_count_is_exact(
    database: Path, looked: Callable[[str], list[dict[str, Any]]], no_writer_left: None
) -> None:
    """Eight processes record one pattern at the same time: one row, and not one sight lost or doubled."""
    numbers = [str(number) for number in range(PROCESSES)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(database), number, str(SESSIONS)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for number in numbers
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=LIMIT_S)
            assert (0, "") == (process.returncode, errors)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert {"shared": PROCESSES * SESSIONS * 5, **dict.fromkeys(numbers, SESSIONS)} == {
        row["text_content"]: row["occurrences_total"]
        for row in looked("SELECT text_content, occurrences_total FROM persistent_boilerplate_patterns")
    }
    assert PROCESSES + 1 == len(looked("SELECT id FROM persistent_boilerplate_patterns"))
    assert PROCESSES * SESSIONS == len(looked("SELECT telemetry_id FROM content_cleaning_sessions"))
