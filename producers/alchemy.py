"""The tables as SQLAlchemy's, made from their description: for reports, and for programs that want them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from . import schema
from .columns import TYPES


def metadata_of(*tables: schema.Table) -> sa.MetaData:
    """A `MetaData` with a `Table` for each."""
    metadata = sa.MetaData()
    for table in tables:
        _make(table, metadata)
    return metadata


def _make(table: schema.Table, metadata: sa.MetaData) -> None:
    columns = [_column(column) for column in table.columns.values()]
    counted = any(column.counted for column in table.columns.values())
    made = sa.Table(table.name, metadata, *columns, sqlite_autoincrement=counted, sqlite_with_rowid=not table.clustered)
    for index in table.indexes:
        where: Any = None if index.where is None else sa.text(index.where)
        sa.Index(
            index.name,
            *(made.c[name] for name in index.columns),
            unique=index.unique,
            sqlite_where=where,
            postgresql_where=where,
            info={"replaced": True} if index.replaced else {},
        )


def _column(column: schema.Column) -> sa.Column[Any]:
    return sa.Column(
        column.name,
        TYPES[column.kind],
        *([sa.ForeignKey(column.references)] if column.references else []),
        primary_key=column.key,
        autoincrement=True if column.counted else "auto",
        nullable=not (column.required or column.key),
        server_default=None if column.default is None else sa.text(column.default),
        info={"added": True} if column.added else {},
    )
