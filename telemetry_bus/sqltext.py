"""What a job's SQL says of itself: its placeholders, whether it may be recorded, whether it is a definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .errors import BadDefinition, JobError, NotRecordable, ParameterCount
from .jobs import Row
from .sqltokens import Token, significant, statement_end, tokenize

_READS = frozenset({"SELECT", "VALUES", "EXPLAIN", "PRAGMA"})
_STEERS = frozenset(
    {"BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE", "ATTACH", "DETACH", "VACUUM"}
)
_AFTER_WITH = frozenset({"SELECT", "VALUES", "INSERT", "REPLACE", "UPDATE", "DELETE"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement as it travels: `sql` has `count` positional `?` and no other placeholders.

    `order` is None when the text had only `?`; else it says which name, or which position counted from 0, each
    `?` takes its value from.
    """

    sql: str
    count: int
    order: tuple[str | int, ...] | None


@lru_cache(maxsize=1024)
def prepare(sql: str) -> Prepared:
    """Look at a statement of a job. Whether it is correct is for the database to say.

    Raises `NotRecordable` for what a job cannot do, `JobError` for a text without a statement or with several.
    """
    tokens = _one_statement(sql)
    verb = _verb(tokens)
    if verb in _READS:
        raise NotRecordable(
            f"{verb} reads, and a job only writes", operation="submit", subject=sql,
            hint="read with store.connection(), and turn a read-modify-write into an upsert",
        )
    if verb in _STEERS or _rolls_back(tokens):
        raise NotRecordable(
            f"{verb} steers the transaction", operation="submit", subject=sql,
            hint="each job is one transaction already",
        )
    return _positional(sql, [token for token in tokens if token.kind == "mark"])


@lru_cache(maxsize=1024)
def reads(sql: str) -> bool:
    """Whether a statement only reads."""
    return _verb(_one_statement(sql)) in _READS


def bind(prepared: Prepared, parameters: Any) -> Row:
    """The values in the order of the placeholders: a sequence for `?`, a mapping for names.

    Raises `ParameterCount` when there are too few, too many, or not the right ones.
    """
    order = prepared.order
    if order is None:
        if type(parameters) in (tuple, list) and len(parameters) == prepared.count:
            row: Row = parameters
            return row
        return _checked_sequence(prepared, parameters, prepared.count)
    if isinstance(order[0], int):
        values = _checked_sequence(prepared, parameters, max(index for index in order if isinstance(index, int)) + 1)
        return [values[index] for index in order if isinstance(index, int)]
    if not isinstance(parameters, Mapping):
        raise _count(prepared, f"values for {_named(order)} are expected by name, not as {_kind(parameters)}")
    if missing := [name for name in dict.fromkeys(order) if name not in parameters]:
        raise _count(prepared, f"no value for {_named(missing)}")
    return [parameters[name] for name in order]


@lru_cache(maxsize=1024)
def check_definition(ddl: str) -> None:
    """Raises `BadDefinition` unless a statement of `ensure=` is a definition that may be repeated."""
    if not isinstance(ddl, str):
        raise _bad(repr(ddl), f"{type(ddl).__name__} is not SQL")
    try:
        tokens = _one_statement(ddl)
    except JobError as error:
        raise _bad(ddl, error.message) from None
    words = [token.keyword for token in tokens]
    if any(token.kind == "mark" for token in tokens):
        raise _bad(ddl, "a definition has no placeholders")
    if words[0] in _READS | _STEERS:
        raise _bad(ddl, f"{words[0]} is not a definition")
    if words[0] == "CREATE" and words[1:2] in (["TEMP"], ["TEMPORARY"]):
        raise _bad(ddl, "what is temporary lives in one connection only")
    adds = words[0] == "ALTER" and "ADD" in words
    if words[0] != "CREATE" and not adds and not _repeatable(words):
        raise _bad(ddl, f"{words[0] or tokens[0].text} cannot be repeated")


def _repeatable(words: Sequence[str]) -> bool:
    """Whether it says IF EXISTS or IF NOT EXISTS."""
    return any(
        word == "IF" and (words[at + 1 : at + 2] == ["EXISTS"] or words[at + 1 : at + 3] == ["NOT", "EXISTS"])
        for at, word in enumerate(words)
    )


def _one_statement(sql: str) -> list[Token]:
    if not isinstance(sql, str):
        raise JobError(f"{type(sql).__name__} is not SQL", operation="submit", subject=repr(sql))
    tokens = significant(sql)
    end = statement_end(tokens)
    if end == 0:
        raise JobError("there is no statement in it", operation="submit", subject=sql)
    if any(token.text != ";" for token in tokens[end:]):
        raise JobError("more than one statement", operation="submit", subject=sql, hint="one statement a call")
    return tokens[:end]


def _verb(tokens: Sequence[Token]) -> str:
    """The keyword that says what a statement does; behind WITH that is the first one outside parentheses."""
    if tokens[0].keyword != "WITH":
        return tokens[0].keyword
    depth = 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.keyword in _AFTER_WITH:
            return token.keyword
    return "WITH"


def _rolls_back(tokens: Sequence[Token]) -> bool:
    """INSERT OR ROLLBACK, UPDATE OR ROLLBACK."""
    return any(
        [token.keyword for token in tokens[at : at + 3]] in (["INSERT", "OR", "ROLLBACK"], ["UPDATE", "OR", "ROLLBACK"])
        for at in range(len(tokens))
    )


def _positional(sql: str, marks: Sequence[Token]) -> Prepared:
    """Every placeholder written as `?`."""
    if all(mark.text == "?" for mark in marks):
        return Prepared(sql, len(marks), None)
    styles = {"?" if mark.text == "?" else "?1" if mark.text[0] == "?" else ":name" for mark in marks}
    if len(styles) > 1:
        raise JobError(
            f"placeholders of several styles: {', '.join(sorted(styles))}", operation="submit", subject=sql,
            hint="use one of them",
        )
    order: list[str | int] = []
    for mark in marks:
        if mark.text[0] != "?":
            order.append(mark.text[1:])
        elif int(mark.text[1:]) < 1:
            raise JobError("placeholders are numbered from 1", operation="submit", subject=sql)
        else:
            order.append(int(mark.text[1:]) - 1)
    text = "".join("?" if token.kind == "mark" else token.text for token in tokenize(sql))
    return Prepared(text, len(marks), tuple(order))


def _checked_sequence(prepared: Prepared, parameters: Any, count: int) -> Row:
    if not isinstance(parameters, Sequence) or isinstance(parameters, str | bytes | bytearray | memoryview):
        raise _count(prepared, f"{count} values are expected as a sequence, not as {_kind(parameters)}")
    if len(parameters) != count:
        raise _count(prepared, f"{count} values are expected, {len(parameters)} given")
    return parameters if isinstance(parameters, tuple | list) else list(parameters)


def _count(prepared: Prepared, message: str) -> ParameterCount:
    return ParameterCount(
        message, operation="submit", subject=prepared.sql, hint="one value for each placeholder of the statement"
    )


def _named(names: Sequence[Any]) -> str:
    return ", ".join(f":{name}" for name in dict.fromkeys(names))


def _kind(value: Any) -> str:
    return type(value).__name__


def _bad(ddl: str, message: str) -> BadDefinition:
    return BadDefinition(
        message, operation="submit", subject=ddl,
        hint="ensure= takes CREATE …, ALTER TABLE … ADD COLUMN …, and what says IF [NOT] EXISTS",
    )
