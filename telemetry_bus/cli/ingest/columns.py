"""Columns: what a table must have for records to fit, and the form in which a value is stored in one of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...config import DialectName
from ...encoding.values import INT64_MAX, INT64_MIN
from ...sql.tokens import fold

#: Text in this form is a number to SQLite where the column's type is one (https://www.sqlite.org/datatype3.html).
_NUMERIC = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_INTEGER, _REAL, _BOOLEAN, _TEXT = "INTEGER", "REAL", "BOOLEAN", "TEXT"
#: What PostgreSQL calls the types, where it calls them otherwise.
_WORDS = {_INTEGER: "BIGINT", _REAL: "DOUBLE PRECISION"}
#: Values of these types need no look. NULL is at home everywhere.
_NULL = frozenset({type(None)})
_AS_THEY_ARE = {_REAL: _NULL | {float}, _BOOLEAN: _NULL | {bool}, _TEXT: _NULL | {str}}


class Misfit(ValueError):
    """A value, or a record, that its table cannot hold as it is."""


class Columns:
    """The columns of one table: those that are there, and those that records bring. Names differ as SQLite has it."""

    def __init__(
        self,
        table: str,
        present: Mapping[str, str],
        definitions: Sequence[str] = (),
        *,
        untyped: bool = False,
        dialect: DialectName = "sqlite",
    ) -> None:
        """`present`: the declared types of the columns that the table has. With `definitions` of the user's own records
        may bring no other columns. `untyped`: records hold texts alone, numbers included (CSV)."""
        self.table = table
        self.ensure = tuple(definitions)
        self._types = {fold(name): kind for name, kind in present.items()}
        self._names = {fold(name): name for name in present}
        self._dialect = dialect
        self._exists = bool(present)
        self._fixed = bool(definitions)
        self._untyped = untyped
        self._plans: dict[tuple[str, ...], Plan] = {}

    def learn(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Make columns for what these records have and the table has not, with the narrowest type that holds them."""
        if self._fixed:
            return
        kinds: dict[str, set[str]] = {}
        names: dict[str, str] = {}
        for record in records:
            if tuple(record) in self._plans:
                continue
            for name, value in record.items():
                names.setdefault(fold(name), name)
                kinds.setdefault(fold(name), set()).add(_kind(value, self._untyped))
        new = {folded: _narrowest(kinds[folded]) for folded in names if folded and folded not in self._types}
        if not new:
            return
        self._types.update(new)
        self._names.update({folded: self._new_name(names[folded]) for folded in new})
        if self._exists:
            self.ensure += tuple(
                f"ALTER TABLE {quoted(self.table)} ADD COLUMN {quoted(self._names[folded])} {self._word(kind)}"
                for folded, kind in new.items()
            )
        else:
            columns = ",\n".join(
                f"    {quoted(self._names[folded])} {self._word(kind)}" for folded, kind in new.items()
            )
            self.ensure = (f"CREATE TABLE IF NOT EXISTS {quoted(self.table)} (\n{columns}\n)",)
            self._exists = True

    def plan(self, names: tuple[str, ...]) -> Plan:
        """How records of these columns are stored. Raises `Misfit`."""
        if (plan := self._plans.get(names)) is None:
            folded = [fold(name) for name in names]
            if not names or "" in folded:
                raise Misfit("a column without a name" if names else "no columns")
            if len(set(folded)) < len(folded):
                raise Misfit("two names of one column")
            if unknown := [name for name in folded if name not in self._types]:
                raise Misfit(f"the table has no column {unknown[0]}")
            marks = ", ".join("?" * len(names))
            own = [self._names[name] for name in folded]
            sql = f"INSERT INTO {quoted(self.table)} ({', '.join(map(quoted, own))}) VALUES ({marks})"
            kinds = [_TEXT if self._fixed and self._untyped else self._types[name] for name in folded]
            plan = self._plans[names] = Plan(sql, kinds)
        return plan

    def _new_name(self, name: str) -> str:
        """As SQL without quotes calls it on a server, where the case of a name with quotes counts."""
        return name if self._dialect == "sqlite" else fold(name)

    def _word(self, kind: str) -> str:
        return kind if self._dialect == "sqlite" else _WORDS.get(kind, kind)


class Plan:
    """The statement for records of the same columns, and what becomes of their values."""

    def __init__(self, sql: str, kinds: Sequence[str]) -> None:
        self.sql = sql
        self._kinds = kinds

    def row(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """The values in the form in which they are stored. Raises `Misfit`."""
        return tuple(
            [
                value if type(value) in _AS_THEY_ARE.get(kind, _NULL) else _stored(value, kind)
                for kind, value in zip(self._kinds, values, strict=True)
            ]
        )


def _stored(value: Any, kind: str) -> Any:
    if isinstance(value, str):
        return value if kind == _TEXT else _number_or_text(value, kind)
    if kind == _TEXT or isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return _integer(value, kind) if isinstance(value, int) else value


def quoted(name: str) -> str:
    """As an identifier of SQL."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _kind(value: Any, untyped: bool) -> str:
    """The narrowest type of a column for a value; "" for NULL, which any has room for."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return _BOOLEAN
    if isinstance(value, int):
        return _INTEGER if INT64_MIN <= value <= INT64_MAX else _TEXT
    if isinstance(value, float):
        return _REAL
    if untyped and (number := _canonical(value)) is not None:
        return _INTEGER if isinstance(number, int) else _REAL
    return _TEXT


def _narrowest(kinds: set[str]) -> str:
    kinds = kinds - {""}
    if len(kinds) == 1:
        return next(iter(kinds))
    return _REAL if kinds == {_INTEGER, _REAL} else _TEXT


def _integer(value: int, kind: str) -> int:
    if not INT64_MIN <= value <= INT64_MAX or (kind == _REAL and int(float(value)) != value):
        raise Misfit(f"{value} is too large for a column of type {kind}")
    return value


def _number_or_text(text: str, kind: str) -> Any:
    """What a column whose type is a number would make of a text, where that says the same; `Misfit` where not."""
    if _NUMERIC.fullmatch(text) is None:
        return text
    if (number := _canonical(text)) is None:
        raise Misfit(f"{text!r} would become a number in a column of type {kind}")
    return number


def _canonical(text: str) -> int | float | None:
    """The number that a text says, if it is written as that number is written."""
    try:
        integer = int(text)
        return integer if str(integer) == text and INT64_MIN <= integer <= INT64_MAX else None
    except ValueError:
        pass
    try:
        real = float(text)
    except ValueError:
        return None
    return real if math.isfinite(real) and repr(real) == text else None
