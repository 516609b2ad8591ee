"""The page of values says what is stored."""

from __future__ import annotations

import pytest

from . import values_page


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "thread", pytest.param("daemon", marks=pytest.mark.integration)])
def test_the_page_says_what_becomes_of_values(mode: str) -> None:
    """In each mode the same, by each of the calls that share a column."""
    text = values_page.PAGE.read_text(encoding="utf-8")
    assert text == values_page.page(text, mode), "run scripts/draw-values, and commit the page with the code"
