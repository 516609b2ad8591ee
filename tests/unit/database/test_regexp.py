"""REGEXP means what Python's `re.search` means, and ends whatever the pattern."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_bus.database.sqlite.regexp import Regexp, _places

# fmt: off
ATOMS = ("a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\b", r"\B", "^", "$", r"\A", r"\Z", "(?:ab)", "(a|b)",
         "(a|ab)(b?)", "\n", "(?i:A)", "(?m:^)", "(?m:$)", "(?s:.)", "é", "[a-c]", r"[\d_]", r"[^\s]", "(?i:[^É])")
# fmt: on
REPEATS = ("", "*", "+", "?", "{2}", "{1,3}", "*?", "{0,2}?")
PARTS = st.tuples(st.sampled_from(ATOMS), st.sampled_from(REPEATS)).map(lambda part: f"(?:{part[0]}){part[1]}")
PATTERNS = st.lists(PARTS, min_size=1, max_size=4).map("".join)


def never() -> bool:
    return False


@given(PATTERNS, st.sampled_from(REPEATS), st.text("ab\nAéÉ 1_", max_size=8))
def test_both_ways_find_the_same(pattern: str, repeat: str, text: str) -> None:
    """All places at once, and Python's engine."""
    try:
        expected = re.search(whole := f"({pattern}){repeat}", text) is not None
    except re.error:
        return
    assert expected == _places(whole).found_in(text, never)
    assert expected == Regexp(never)(whole, text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^(a+)+$", "a" * 5000 + "b", False),
        ("(a|a)*$", "a" * 5000 + "b", True),
        ("^(a|aa)+$", "a" * 5000 + "b", False),
        ("^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 5000, False),
        ("(x+x+)+y", "x" * 5000, False),
        ("^" + "(a?)" * 30 + "a{30}$", "a" * 29, False),
        (r"^(\w+\s?)*$", "word " * 500 + "!", False),
        ("a*a*a*a*b", "a" * 5000, False),
        ("(?i)^(É+)+$", "é" * 5000, True),
    ],
)
def test_patterns_that_take_for_ever(pattern: str, text: str, found: bool) -> None:
    """Each would hold the interpreter for longer than the world lasts."""
    assert found is Regexp(never)(pattern, text)


@pytest.mark.parametrize("pattern", [r"^(a+)+\1$", "^(a+)+(?=b)c", "(?:a{1,1000}){1,1000}b", "a" * 20_000, "("])
def test_patterns_that_are_refused(pattern: str) -> None:
    """What can be bounded in neither way, and what is no pattern."""
    with pytest.raises((ValueError, re.error)):
        Regexp(never)(pattern, "a" * 5000)


@pytest.mark.parametrize("pattern", [r"(a)\1", "a(?=b)", "(?<!x)ab"])
def test_what_only_pythons_engine_knows(pattern: str) -> None:
    """It is asked where that cannot take long."""
    assert Regexp(never)(pattern, "aab")


def test_nothing_to_look_at() -> None:
    """NULL is not found and not missed; a value that is no text is the job's fault."""
    number: Any = 5
    assert Regexp(never)("a", None) is None
    with pytest.raises(TypeError):
        Regexp(never)("a", number)


def test_a_text_that_is_too_long() -> None:
    """The time of the statement counts."""
    with pytest.raises(TimeoutError):
        Regexp(lambda: True)("^(a+)+$", "a" * 10_000)
