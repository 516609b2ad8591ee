"""The operator REGEXP, which SQLite leaves to the program: as `re.search`, and always done in bounded time.

Python's engine goes back and tries again, so that some patterns take it for ever on a short text, and nothing stops it:
it holds the interpreter. How often it may go back is estimated from the pattern; where that is too much, all ways
through the pattern are followed at once, a character at a time (Thompson, "Regular expression search algorithm", 1968).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import inf
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

#: Python's engine takes as many steps in a tenth of a second.
_MAX_STEPS = 5_000_000
#: Repetitions are written out: `a{3,5}` has five places.
_MAX_PLACES = 20_000
#: Characters between two looks at the clock.
_LOOK_EVERY = 64
_MAX_PATTERN = 10_000

#: What comes before the first character and after the last.
_NOTHING = ""
_CATEGORIES = {
    c.CATEGORY_DIGIT: r"\d",
    c.CATEGORY_NOT_DIGIT: r"\D",
    c.CATEGORY_SPACE: r"\s",
    c.CATEGORY_NOT_SPACE: r"\S",
    c.CATEGORY_WORD: r"\w",
    c.CATEGORY_NOT_WORD: r"\W",
}
_REPEATS = (c.MAX_REPEAT, c.MIN_REPEAT)


class Regexp:
    """The SQL function `regexp(pattern, text)`. `is_late` says that the time of the statement is over."""

    def __init__(self, is_late: Callable[[], bool]) -> None:
        self._is_late = is_late

    def __call__(self, pattern: str, text: str | None) -> bool | None:
        """Raises `re.error`, `ValueError` for a pattern that cannot be bounded, and `TimeoutError`."""
        if text is None:
            return None
        if len(pattern) > _MAX_PATTERN:
            raise ValueError("the pattern is too long")
        if _steps(pattern, len(text)) <= _MAX_STEPS:
            return re.search(pattern, text) is not None
        return _places(pattern).found_in(text, self._is_late)


def _steps(pattern: str, length: int) -> float:
    """How many steps Python's engine may take on a text of this length, from every place where a match may begin."""
    repeats, ways = _rating(pattern)
    return float(ways * (length + 1.0) ** min(repeats + 1, 40))


@lru_cache(maxsize=256)
def _rating(pattern: str) -> tuple[int, float]:
    return _rate(_parser.parse(pattern))


def _rate(items: Iterable[Any]) -> tuple[int, float]:
    """How many repetitions without an end stand in a row, and how many ways there are through all else."""
    repeats, ways = 0, 1.0
    for op, value in items:
        more, other = _rate_one(op, value)
        repeats, ways = repeats + more, ways * other
    return repeats, ways


def _rate_one(op: Any, value: Any) -> tuple[int, float]:
    if op in _REPEATS or op is c.POSSESSIVE_REPEAT:
        low, high, inner = value
        repeats, ways = _rate(inner)
        if high > 1 and (repeats or ways > 1):
            return repeats, inf  # a repetition of what can be had in more than one way
        return (repeats + 1, ways) if high is c.MAXREPEAT else (repeats, ways * (high - low + 1))
    if op is c.BRANCH or op is c.GROUPREF_EXISTS:
        branches = value[1] if op is c.BRANCH else [branch for branch in value[1:] if branch is not None]
        rated = [_rate(branch) for branch in branches]
        return max(repeats for repeats, _ in rated), sum(ways for _, ways in rated)
    if op is c.GROUPREF:
        return 1, 1.0
    if op in (c.SUBPATTERN, c.ASSERT, c.ASSERT_NOT):
        return _rate(value[-1])
    return _rate(value) if op is c.ATOMIC_GROUP else (0, 1.0)


class _Place(NamedTuple):
    """A character that passes the test leads to `after`; without a test, a condition on the two characters around."""

    test: Callable[[str], object] | None
    condition: Callable[[str, str], object] | None
    after: list[int]


@lru_cache(maxsize=8)  # of up to 20,000 places each
def _places(pattern: str) -> _Places:
    return _Places(pattern)


class _Places:
    """A pattern as places and the ways between them. Place 0 is the end of the pattern."""

    def __init__(self, pattern: str) -> None:
        parsed = _parser.parse(pattern)
        self._all = [_Place(None, None, [])]
        self._start = self._sequence(parsed, parsed.state.flags, 0)

    def found_in(self, text: str, is_late: Callable[[], bool]) -> bool:
        """Whether some part of the text matches."""
        current: set[int] = set()
        before = _NOTHING
        for number, character in enumerate(text):
            if number % _LOOK_EVERY == 0 and is_late():
                raise TimeoutError("the text is too long for this pattern")
            last = number + 1 == len(text)
            reached = self._reached({self._start, *current}, before, character, last)
            if 0 in reached:
                return True
            current = {after for place in reached for after in self._step(place, character)}
            before = character
        return 0 in self._reached({self._start, *current}, before, _NOTHING, False)

    def _step(self, place: int, character: str) -> list[int]:
        test, _, after = self._all[place]
        return after if test is not None and test(character) else []

    def _reached(self, places: set[int], before: str, behind: str, last: bool) -> set[int]:
        """These places, and all that lie behind them without a character in between."""
        reached: set[int] = set()
        waiting = list(places)
        around = behind + "$" if last else behind  # only the last character may be a line feed before the end
        while waiting:
            number = waiting.pop()
            if number in reached:
                continue
            reached.add(number)
            test, condition, after = self._all[number]
            if test is None and (condition is None or condition(before, around)):
                waiting += after
        return reached

    def _add(self, place: _Place) -> int:
        if len(self._all) >= _MAX_PLACES:
            raise ValueError("the pattern has too many repetitions")
        self._all.append(place)
        return len(self._all) - 1

    def _fork(self, after: list[int]) -> int:
        return self._add(_Place(None, None, after))

    def _sequence(self, items: Iterable[Any], flags: int, end: int) -> int:
        """The place from which these items lead to `end`."""
        for op, value in reversed(list(items)):
            end = self._item(op, value, flags, end)
        return end

    def _item(self, op: Any, value: Any, flags: int, end: int) -> int:
        if op in _REPEATS:
            low, high, inner = value
            return self._repeat(low, high, inner, flags, end)
        if op is c.BRANCH:
            return self._fork([self._sequence(branch, flags, end) for branch in value[1]])
        if op is c.SUBPATTERN:
            _, add, remove, inner = value
            return self._sequence(inner, (flags | add) & ~remove, end)
        if op is c.AT:
            return self._add(_Place(None, _condition(value, flags), [end]))
        if op in (c.LITERAL, c.NOT_LITERAL, c.ANY, c.IN):
            return self._add(_Place(_test(op, value, flags), None, [end]))
        raise ValueError(f"this pattern may take for ever, and {str(op).lower()} in it cannot be bounded")

    def _repeat(self, low: int, high: Any, inner: Any, flags: int, end: int) -> int:
        if high is c.MAXREPEAT:
            loop = self._fork([end])
            self._all[loop].after.append(self._sequence(inner, flags, loop))
            end = loop
        else:
            behind = end
            for _ in range(high - low):
                end = self._fork([self._sequence(inner, flags, end), behind])
        for _ in range(low):
            end = self._sequence(inner, flags, end)
        return end


def _condition(at: Any, flags: int) -> Callable[[str, str], object]:
    """`before` is the character before; `behind` the one after, and one more if it is the last of the text."""
    if at is c.AT_BEGINNING_STRING or (at is c.AT_BEGINNING and not flags & re.MULTILINE):
        return lambda before, behind: not before
    if at is c.AT_BEGINNING:
        return lambda before, behind: before in (_NOTHING, "\n")
    if at is c.AT_END_STRING:
        return lambda before, behind: not behind
    if at is c.AT_END:
        ends = (_NOTHING, "\n$", "\n") if flags & re.MULTILINE else (_NOTHING, "\n$")
        return lambda before, behind: behind in ends
    word = re.compile(r"\w", flags & re.ASCII).match
    if at is c.AT_BOUNDARY:
        return lambda before, behind: bool(word(before)) != bool(word(behind))
    return lambda before, behind: bool(word(before)) == bool(word(behind)) and (before or behind)


def _test(op: Any, value: Any, flags: int) -> Callable[[str], object]:
    if op is c.ANY:
        return bool if flags & re.DOTALL else lambda character: character != "\n"
    return re.compile(_in_class(op, value), flags & (re.ASCII | re.IGNORECASE)).match


def _in_class(op: Any, value: Any) -> str:
    """One item that takes a character, as a pattern again."""
    if op is not c.IN:
        return f"[{'^' if op is c.NOT_LITERAL else ''}{_escape(value)}]"
    negated = value[0][0] is c.NEGATE
    return f"[{'^' if negated else ''}{''.join(_member(*item) for item in value[negated:])}]"


def _member(op: Any, value: Any) -> str:
    if op is c.LITERAL:
        return _escape(value)
    return "-".join(map(_escape, value)) if op is c.RANGE else _CATEGORIES[value]


def _escape(code: int) -> str:
    return f"\\U{code:08x}"
