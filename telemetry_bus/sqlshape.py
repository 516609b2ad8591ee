"""What SQL text says to the writer: inserts that may be joined, functions that are called, tables of the bus."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from .sqltokens import Token, significant, statement_end

_LITERALS = frozenset({"NULL", "TRUE", "FALSE", "CURRENT_TIMESTAMP", "CURRENT_DATE", "CURRENT_TIME"})
_BUS_PREFIX = "telemetry_bus_"


@dataclass(frozen=True, slots=True)
class InsertShape:
    """An INSERT of one row, taken apart: ``head + ",".join([group] * n) + tail`` inserts n rows.

    `table` is its name without quotes; `parameters` counts the placeholders of a group; `rewrites` says that it
    may change rows that are there (REPLACE, DO UPDATE).
    """

    table: str
    head: str
    group: str
    tail: str
    parameters: int
    rewrites: bool


@lru_cache(maxsize=1024)
def insert_shape(sql: str) -> InsertShape | None:
    """The shape of a plain INSERT … VALUES of one row of placeholders and literals; None for anything else."""
    tokens = significant(sql)
    tokens = tokens[: statement_end(tokens)]
    into = _into(tokens)
    if into is None:
        return None
    replaces, at = into
    found = _table(tokens, at)
    if found is None:
        return None
    table, at = found
    if _text(tokens, at) == "(":
        at = _closing(tokens, at) + 1
    if _keyword(tokens, at) != "VALUES" or _text(tokens, at + 1) != "(":
        return None
    first, last = at + 1, _closing(tokens, at + 1)
    group, tail = tokens[first : last + 1], tokens[last + 1 :]
    if last >= len(tokens) or not _plain(group[1:-1]) or not _joinable(tail):
        return None
    return InsertShape(
        table=table,
        head=sql[: tokens[first].start],
        group=sql[tokens[first].start : tokens[last].end],
        tail=" " + sql[tail[0].start : tail[-1].end] if tail else "",
        parameters=sum(token.kind == "mark" for token in group),
        rewrites=replaces or any(token.keyword == "UPDATE" for token in tail),
    )


@lru_cache(maxsize=1024)
def calls(sql: str) -> frozenset[str]:
    """The functions that a statement calls, in lower case; some other words before a parenthesis are among them."""
    tokens = significant(sql)
    return frozenset(
        token.name.lower() for token, following in pairwise(tokens) if token.name is not None and following.text == "("
    )


@lru_cache(maxsize=1024)
def names_bus_table(sql: str) -> bool:
    """Whether a name in it, quoted or not, begins like a table of the bus."""
    return any(
        token.name is not None and token.name.lower().startswith(_BUS_PREFIX) for token in significant(sql)
    )


def _into(tokens: list[Token]) -> tuple[bool, int] | None:
    """Whether it replaces, and where the table's name stands; None when it is no insert that may be joined."""
    words = [token.keyword for token in tokens[:4]]
    match words:
        case ["REPLACE", "INTO", *_]:
            return True, 2
        case ["INSERT", "INTO", *_]:
            return False, 2
        case ["INSERT", "OR", "REPLACE" | "IGNORE" | "ABORT" as policy, "INTO"]:
            return policy == "REPLACE", 4
    return None


def _table(tokens: list[Token], at: int) -> tuple[str, int] | None:
    """The table's name, and where the rest begins."""
    if at >= len(tokens) or (name := tokens[at].name) is None:
        return None
    at += 1
    if _text(tokens, at) == ".":
        if name.lower() != "main" or at + 1 >= len(tokens) or (name := tokens[at + 1].name) is None:
            return None
        at += 2
    if _keyword(tokens, at) == "AS":
        at += 2
    return name, at


def _plain(values: list[Token]) -> bool:
    """Nothing but placeholders and literals, with signs and commas; no expression that could look at a table."""
    expects_value = True
    for token in values:
        if expects_value:
            if token.text in ("+", "-"):
                continue
            if token.kind not in ("mark", "string", "number") and token.keyword not in _LITERALS:
                return False
            if token.kind == "mark" and token.text != "?":
                return False
        elif token.text != ",":
            return False
        expects_value = not expects_value
    return not expects_value


def _joinable(tail: list[Token]) -> bool:
    """Nothing, or an ON CONFLICT that looks at no table and takes no value of its own."""
    if not tail:
        return True
    if [token.keyword for token in tail[:2]] != ["ON", "CONFLICT"]:
        return False
    # IN may be followed by a table's bare name
    return not any(token.keyword in ("SELECT", "IN", "RETURNING") or token.kind == "mark" for token in tail)


def _closing(tokens: list[Token], at: int) -> int:
    """Where the parenthesis that opens at `at` is closed; the length when it is not."""
    depth = 0
    for position in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[position].text, 0)
        if depth == 0:
            return position
    return len(tokens)


def _text(tokens: list[Token], at: int) -> str:
    return tokens[at].text if at < len(tokens) else ""


def _keyword(tokens: list[Token], at: int) -> str:
    return tokens[at].keyword if at < len(tokens) else ""
