"""Answers about SQL text are remembered, within bounds."""

from __future__ import annotations

import pytest

from telemetry_bus.sql.memory import REMEMBERED, REMEMBERED_CHARS, remember


@pytest.mark.parametrize("length", [10, 5000, 300_000, 2 * REMEMBERED_CHARS])
@pytest.mark.slow
def test_texts_are_bounded(length: int) -> None:
    """By their number and by their characters, with what is remembered of them; what is asked again is found."""
    asked: list[str] = []

    @remember
    def ask(sql: str) -> str:
        asked.append(sql)
        return sql.upper()

    for number in range(1100):
        text = str(number).ljust(length)
        assert text.upper() == ask(text)
        if length < REMEMBERED_CHARS // 2:
            assert text.upper() == ask(text)
    assert 1100 <= len(asked) <= 1100 if length < REMEMBERED_CHARS // 2 else len(asked) == 1100
    info = ask.cache_info()  # type: ignore[attr-defined]
    assert info.currsize <= REMEMBERED
    assert info.currsize * 2 * length <= max(REMEMBERED_CHARS, 0) or info.currsize <= 1
