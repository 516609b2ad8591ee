"""What a job may hold: judges SQL text without a database, and brings placeholders and values together.

Syntax is not judged. What is not understood passes, and the database says what it thinks of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..config import DialectName
from ..errors import BadDefinition, JobError, NotRecordable, ParameterCount, shorten
from .foreign_words import foreign_word
from .memory import remember
from .tokens import NOTHING, Reader, Token, first_statement, says

#: The largest N of `?N` in SQLite's default build (https://www.sqlite.org/limits.html#max_variable_number).
_MAX_PARAMETER = 32766

_READS = frozenset({"SELECT", "VALUES", "EXPLAIN", "PRAGMA"})
_STEERS = frozenset({"BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE", "ATTACH", "DETACH", "VACUUM"})
#: In PostgreSQL it is less to say what a job may do: a session has many words that outlive a statement.
_POSTGRESQL_WRITES = frozenset(
    {
        *("INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "REFRESH", "CALL", "DO"),
        *("CREATE", "ALTER", "DROP", "COMMENT", "GRANT", "REVOKE", "ANALYZE", "REINDEX"),
    }
)
_POSTGRESQL_READS = frozenset({"SELECT", "VALUES", "EXPLAIN", "TABLE", "SHOW", "FETCH"})
#: What belongs to the server and not to a database, and a temporary table, which lives in the writer's session only.
_OF_THE_SERVER = frozenset({"DATABASE", "ROLE", "USER", "SYSTEM", "TABLESPACE", "SUBSCRIPTION", "TEMP", "TEMPORARY"})
#: What may follow the common table expressions of a WITH.
_MAIN_VERBS = frozenset({"SELECT", "VALUES", "INSERT", "REPLACE", "UPDATE", "DELETE", "MERGE"})
#: Words between CREATE or ALTER and the name of what is made.
_BEFORE_NAME = frozenset({"UNIQUE", "VIRTUAL", "TABLE", "INDEX", "VIEW", "TRIGGER", "IF", "NOT", "EXISTS"})
#: Behind ALTER TABLE … ADD these begin something else than a column.
_CONSTRAINTS = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "FOREIGN", "CHECK"})

WRITE_ONLY = "a job only writes; read with store.connection(), and turn a read-modify-write into an upsert"
_ONE_TRANSACTION = "each job is one transaction already"
_ONE_STATEMENT = "one statement a call"
_ONE_STYLE = "use ?, ?1 or :name, one of them in a statement"
_VALUES = "give a list or tuple with a value for each ?, or a mapping with a value for each name"
_REPEATABLE = "ensure= takes CREATE …, ALTER TABLE … ADD COLUMN … and what says IF EXISTS or IF NOT EXISTS"


class Prepared(NamedTuple):
    """A statement that a job may hold, with so many positional `?` placeholders.

    `order` says which value goes to each: a name without its sigil, or an index from 0. It is None when the text
    had plain `?` already, and the values come in their order.
    """

    sql: str
    placeholders: int
    order: tuple[str | int, ...] | None


@remember
def prepare(sql: str, dialect: DialectName = "sqlite") -> Prepared:
    """Check that a job may hold the statement, and rewrite `:name`, `@name`, `$name` and `?N` to `?`.

    A name ends before `::`, except in `$name::more` (https://www.sqlite.org/lang_expr.html#varparam). For PostgreSQL
    there are `:name`, `?N` and `$N`. Raises `NotRecordable` for what reads or steers the transaction, `JobError` for no
    statement, for more than one, for placeholders of different styles, and for words of another database's language.
    """
    if not _is_text(sql):
        raise JobError(f"SQL is a str, not {type(sql).__name__}", operation="submit", hint="pass the text")
    statement = check_statement(sql, dialect)
    if dialect == "postgresql" and (found := foreign_word(statement)):
        message, hint = found
        raise JobError(message, operation="submit", subject=sql, hint=hint)
    placeholders = [token for token in statement if token.kind == "placeholder"]
    order = _order(sql, [token.text for token in placeholders], dialect)
    return Prepared(sql if order is None else _positional(sql, placeholders), len(placeholders), order)


def check_statement(sql: str, dialect: DialectName, operation: str = "submit") -> Sequence[Token]:
    """The tokens of the one statement that a job may hold. Raises as `prepare`."""
    statement, more = first_statement(sql, dialect)
    if objection := _objection(statement, dialect):
        message, hint = objection
        raise NotRecordable(message, operation=operation, subject=sql, hint=hint)
    if more or not statement:
        message = "more than one statement" if more else "no statement"
        raise JobError(message, operation=operation, subject=sql, hint=_ONE_STATEMENT)
    return statement


def bind(prepared: Prepared, params: object) -> Sequence[Any]:
    """The values in the order of the placeholders; for plain `?` the very list or tuple that was given.

    Plain `?` and `?N` take a sequence of exactly as many values, names take a mapping, which may hold more. Raises
    `ParameterCount`.
    """
    order = prepared.order
    if order is None:
        if isinstance(params, (list, tuple)) and len(params) == prepared.placeholders:
            return params
        return _sequence(prepared, params, prepared.placeholders)
    indices = [index for index in order if isinstance(index, int)]
    if indices:
        values = _sequence(prepared, params, max(indices) + 1)
        return [values[index] for index in indices]
    if not isinstance(params, Mapping):
        message = f"a mapping with {len(set(order))} names expected, {type(params).__name__} given"
        raise _miscounted(prepared, message)
    try:
        return [params[name] for name in order]
    except KeyError:
        missing = ", ".join(dict.fromkeys(str(name) for name in order if name not in params))
        message = f"{len(set(order))} names expected, no value given for {missing}"
        raise _miscounted(prepared, message) from None


def bind_all(prepared: Prepared, rows: Iterable[Any]) -> list[Sequence[Any]]:
    """As `bind`, for each of many rows. Raises `JobError` for what has no rows."""
    try:
        each = iter(rows)
    except TypeError:
        message = f"rows are of type {type(rows).__name__}"
        raise JobError(message, operation="submit", subject=prepared.sql, hint="give an iterable of rows") from None
    return [bind(prepared, row) for row in each]


@remember
def reads(sql: str, dialect: DialectName = "sqlite") -> bool:
    """Whether the statement reads, so that `prepare` refuses it."""
    statement, _ = first_statement(sql, dialect)
    return _verb(statement).symbol in (_POSTGRESQL_READS if dialect == "postgresql" else _READS)


def check_definition(ddl: str, dialect: DialectName = "sqlite") -> None:
    """Check an entry of `ensure=`: one definition that can be repeated, without placeholders, not temporary.

    That is `CREATE …`, `ALTER TABLE … ADD [COLUMN] …`, and what says `IF EXISTS` or `IF NOT EXISTS`. Raises
    `BadDefinition` for anything else, and for words of another database's language.
    """
    if not _is_text(ddl):
        raise BadDefinition(f"a definition is a str, not {type(ddl).__name__}", operation="submit", hint=_REPEATABLE)
    if found := _definition_fault(ddl, dialect):
        fault, hint = found
        raise BadDefinition(fault, operation="submit", subject=ddl, hint=hint)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _objection(statement: Sequence[Token], dialect: DialectName) -> tuple[str, str] | None:
    """Why a job cannot hold the statement, and a hint; None if it can."""
    verb = _verb(statement)
    if dialect == "postgresql":
        return _objection_of_postgresql(verb, statement)
    if verb.symbol in _READS:
        return f"{verb.symbol} reads", WRITE_ONLY
    if verb.symbol in _STEERS:
        return f"{verb.symbol} steers the transaction or the connection", _ONE_TRANSACTION
    behind = [token for token in statement if token.start > verb.start]
    if says(behind[:2], "OR", "ROLLBACK"):
        return f"{verb.symbol} OR ROLLBACK steers the transaction", _ONE_TRANSACTION
    return None


def _objection_of_postgresql(verb: Token, statement: Sequence[Token]) -> tuple[str, str] | None:
    name = verb.symbol or shorten(verb.text, 20)
    if verb.symbol in _POSTGRESQL_READS:
        return f"{name} reads", WRITE_ONLY
    if statement and verb.symbol not in _POSTGRESQL_WRITES | {"REPLACE"}:  # that one has a hint of its own
        return f"{name} steers the transaction or the session, or is no statement of PostgreSQL's", _ONE_TRANSACTION
    second = statement[1].symbol if len(statement) > 1 else ""
    if verb.symbol in ("CREATE", "ALTER", "DROP") and second in _OF_THE_SERVER:
        return f"{name} {second} is not for a job", _ONE_TRANSACTION
    return None


def _verb(statement: Sequence[Token]) -> Token:
    """The word that says what the statement does: the first, or the one behind the table expressions of a WITH."""
    first = before = statement[0] if statement else NOTHING
    depth = 0
    for token in statement if first.symbol == "WITH" else ():
        depth += (token.symbol == "(") - (token.symbol == ")")
        if depth == 0 and token.symbol in _MAIN_VERBS and before.symbol == ")":
            return token
        before = token
    return first


def _order(sql: str, placeholders: Sequence[str], dialect: DialectName) -> tuple[str | int, ...] | None:
    """What stands in `Prepared.order`."""
    numbered = "?" if dialect == "sqlite" else "?$"
    styles = {"?" if text == "?" else "?N" if text[0] in numbered else "names" for text in placeholders}
    if len(styles) > 1:
        message = f"different styles of placeholders: {', '.join(sorted(styles))}"
        raise JobError(message, operation="submit", subject=sql, hint=_ONE_STYLE)
    if styles == {"names"}:
        return tuple(text[1:] for text in placeholders)
    if styles == {"?N"}:
        return tuple(_index(sql, text) for text in placeholders)
    return None


def _index(sql: str, placeholder: str) -> int:
    digits = placeholder[1:].lstrip("0")
    if not digits or len(digits) > len(str(_MAX_PARAMETER)) or int(digits) > _MAX_PARAMETER:
        message = f"{shorten(placeholder, 20)} is not a placeholder"
        raise JobError(message, operation="submit", subject=sql, hint=f"they go from ?1 to ?{_MAX_PARAMETER}")
    return int(digits) - 1


def _positional(sql: str, placeholders: Sequence[Token]) -> str:
    pieces: list[str] = []
    end = 0
    for token in placeholders:
        pieces += sql[end : token.start], "?"
        end = token.end
    return "".join(pieces) + sql[end:]


def _sequence(prepared: Prepared, params: object, count: int) -> Sequence[Any]:
    if not isinstance(params, Sequence) or isinstance(params, (str, bytes, bytearray, memoryview)):
        raise _miscounted(prepared, f"a sequence of {count} values expected, {type(params).__name__} given")
    if len(params) != count:
        raise _miscounted(prepared, f"{count} values expected, {len(params)} given")
    return tuple(params)


def _miscounted(prepared: Prepared, message: str) -> ParameterCount:
    return ParameterCount(message, operation="submit", subject=prepared.sql, hint=_VALUES)


@remember
def _definition_fault(ddl: str, dialect: DialectName) -> tuple[str, str] | None:
    """What is wrong with a definition, and a hint."""
    statement, more = first_statement(ddl, dialect)
    if dialect == "postgresql" and (found := foreign_word(statement)):
        return found
    fault = _unrepeatable(statement, more, dialect)
    return None if fault is None else (fault, _REPEATABLE)


def _unrepeatable(statement: Sequence[Token], more: bool, dialect: DialectName) -> str | None:
    if more or not statement:
        return "more than one statement in one entry" if more else "no statement"
    if any(token.kind == "placeholder" for token in statement):
        return "a definition takes no values"
    verb = _verb(statement)
    if _is_temporary(statement):
        return "what is temporary lives in the writer's connection only"
    if _objection(statement, dialect):
        return f"{verb.symbol or shorten(verb.text, 20)} is not a definition"
    repeatable = (
        verb.symbol == "CREATE"
        or _adds_column(statement)
        or says(statement, "IF", "EXISTS")
        or says(statement, "IF", "NOT", "EXISTS")
    )
    return None if repeatable else f"{shorten(verb.text, 20)} … is not a definition that can be repeated"


def _is_temporary(statement: Sequence[Token]) -> bool:
    """Whether it says CREATE TEMP, or names something in the schema `temp`."""
    if says(statement[:2], "CREATE", "TEMP") or says(statement[:2], "CREATE", "TEMPORARY"):
        return True
    name = [token.name.lower() for token in statement[1:] if token.symbol not in _BEFORE_NAME]
    return name[:2] == ["temp", "."]


def _adds_column(statement: Sequence[Token]) -> bool:
    """Whether it is ALTER TABLE [schema.]table ADD [COLUMN] column."""
    reader = Reader(statement)
    if not reader.skip("ALTER", "TABLE"):
        return False
    reader.take()
    if reader.skip("."):
        reader.take()
    return reader.skip("ADD") and reader.next.symbol not in _CONSTRAINTS
