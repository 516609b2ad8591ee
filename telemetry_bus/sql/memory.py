"""Answers about SQL text that are remembered, for a number of texts and of characters that has a bound."""

from __future__ import annotations

from collections.abc import Callable, Sized
from functools import lru_cache
from typing import Any, TypeVar

#: Texts that each question about SQL text remembers its answer for.
REMEMBERED = 1024
#: Characters of all these texts together: a program that writes its values into the SQL has a long one each time.
REMEMBERED_CHARS = 1024 * 1024

F = TypeVar("F", bound=Callable[..., Any])


def remember(function: F) -> F:
    """`lru_cache`, begun anew when the texts that it was asked about since are longer than `REMEMBERED_CHARS` together.

    What is found costs no more than in an `lru_cache`: only what is not found is counted. The text is the first
    argument, and an answer says by its length how much it holds; what is longer than all may be together is remembered
    alone.
    """
    taken = 0

    @lru_cache(maxsize=REMEMBERED)
    def remembered(*arguments: Any) -> Any:
        nonlocal taken
        answer = function(*arguments)
        taken += len(str(arguments[0])) + (len(answer) if isinstance(answer, Sized) else 0)
        if taken > REMEMBERED_CHARS:
            remembered.cache_clear()
            taken = 0
        return answer

    remembered.__doc__, remembered.__name__ = function.__doc__, function.__name__
    return remembered  # type: ignore[return-value]
