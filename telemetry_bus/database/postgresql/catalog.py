"""What the server's catalog says of the tables: facts for grouping, the types of columns, whether a thing is there.

Tables are those that a name without a schema finds. Others are written row by row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...jobs import Row
from ...sql.definitions import Definition
from ..dialects import Columns, Link, TableFacts

#: Runs a statement of the bus: its rows.
Execute = Callable[[str, Row], Sequence[tuple[Any, ...]]]

#: The first number of what is not the server's own.
_OURS = 16384
#: Changes with each definition: a row of the catalog that was changed is another row.
_VERSION = f"""SELECT
    (SELECT count(*) || ':' || sum(hashtextextended(oid || ' ' || xmin, 0)) FROM pg_class WHERE oid >= {_OURS}),
    (SELECT sum(hashtextextended(attrelid || ' ' || attnum || ' ' || xmin, 0)) FROM pg_attribute
        WHERE attrelid >= {_OURS}),
    (SELECT sum(hashtextextended(oid || ' ' || xmin, 0)) FROM pg_constraint WHERE oid >= {_OURS}),
    (SELECT sum(hashtextextended(oid || ' ' || xmin, 0)) FROM pg_trigger WHERE oid >= {_OURS}),
    current_schemas(false)"""
_RELATIONS = f"""SELECT c.oid, c.relname, c.relkind IN ('r', 'p'),
    EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D')
    OR EXISTS (SELECT FROM pg_rewrite AS r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'),
    EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.condeferrable)
    FROM pg_class AS c
    WHERE c.oid >= {_OURS} AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_table_is_visible(c.oid)"""
#: `atttypmod` -1: a cast to a type with a length would cut a text off without a word.
_ATTRIBUTES = f"""SELECT a.attrelid, a.attnum, a.attname, format_type(a.atttypid, -1), t.typcategory, t.typtype,
    a.attgenerated <> '' OR a.attidentity = 'a', a.atthasdef OR a.attidentity <> '', a.atttypid
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    WHERE a.attrelid >= {_OURS} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum"""
_KEYS = f"""SELECT conrelid, contype, confrelid, conkey, confkey FROM pg_constraint
    WHERE oid >= {_OURS} AND contype IN ('p', 'f') ORDER BY oid"""
_COLUMNS = """SELECT attname, upper(format_type(atttypid, atttypmod)) FROM pg_attribute
    WHERE attrelid = to_regclass(quote_ident(?)) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
_HAS_COLUMN = """SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass(?) AND attname = ?
    AND attnum > 0 AND NOT attisdropped"""
_HAS_RELATION = """SELECT 1 FROM pg_class WHERE oid = to_regclass(?) AND relkind = ANY (?)"""
_KINDS = {"table": "{r,p}", "view": "{v}", "index": "{i,I}"}

_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_NAIVE_MOMENTS = frozenset({"timestamp without time zone"})


class Column(NamedTuple):
    """A column of a table as far as values must fit it. `kind`: "integer", "moment" (without a zone), "bytes", "array"
    or ""; `counted`: the server alone gives its values."""

    name: str
    type: str
    kind: str
    counted: bool


class Catalog(NamedTuple):
    """All tables at one moment: facts and columns by name."""

    facts: Mapping[str, TableFacts]
    columns: Mapping[str, tuple[Column, ...]]


def version(execute: Execute) -> object:
    """Another value whenever the catalog may have changed."""
    return execute(_VERSION, ())[0]


def read(execute: Execute) -> Catalog:
    """What all visible tables are like."""
    relations = {oid: (name, *rest) for oid, name, *rest in execute(_RELATIONS, ())}
    attributes: dict[int, dict[int, tuple[Any, ...]]] = defaultdict(dict)
    for oid, number, *rest in execute(_ATTRIBUTES, ()):
        attributes[oid][number] = tuple(rest)
    primary: dict[int, Sequence[int]] = {}
    links: dict[int, list[Link]] = defaultdict(list)
    referenced = set()
    for child, kind, parent, own, theirs in execute(_KEYS, ()):
        if kind == "p":
            primary[child] = own
        elif parent in relations:
            referenced.add(parent)
            names = tuple(attributes[child][number][0] for number in own)
            keys = tuple(attributes[parent][number][0] for number in theirs)
            links[child].append(Link(names, relations[parent][0], keys))
    facts = {
        name: TableFacts(
            ordinary=ordinary,
            triggers=triggers,
            referenced=oid in referenced,
            rewrites=False,
            parents=frozenset(link.parent for link in links[oid]),
            links=tuple(links[oid]),
            deferred=deferred,
            columns=tuple(name for name, *_ in attributes[oid].values()),
            primary=tuple(attributes[oid][number][0] for number in primary.get(oid, ())),
            filled=frozenset(name for name, *_, filled, _ in attributes[oid].values() if filled),
        )
        for oid, (name, ordinary, triggers, deferred) in relations.items()
    }
    columns = {
        name: tuple(
            Column(column, kind, _kind(kind, category, typtype), counted)
            for column, kind, category, typtype, counted, *_ in attributes[oid].values()
        )
        for oid, (name, *_) in relations.items()
    }
    return Catalog(facts, columns)


def columns(execute: Execute, table: str) -> Columns:
    """The columns of a table with their types in upper case; none when it is not there."""
    return dict(execute(_COLUMNS, (table,)))


def is_there(execute: Execute, made: Definition) -> bool:
    """Whether a thing of this kind and name, or a column, is there."""
    name = ".".join(_quoted(part) for part in (made.schema, made.name) if part is not None)
    if made.column is not None:
        return bool(execute(_HAS_COLUMN, (name, made.column)))
    return made.kind in _KINDS and bool(execute(_HAS_RELATION, (name, _KINDS[made.kind])))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _kind(name: str, category: str, typtype: str) -> str:
    if category == "A" or typtype == "c":
        return "array"
    if name in _INTEGERS:
        return "integer"
    return {"bytea": "bytes"}.get(name, "moment" if name in _NAIVE_MOMENTS else "")
