"""Columns that another program has made of other types, on PostgreSQL: read as what their values mean.

The crawlers' earlier tables there have moments as texts and booleans as numbers. A query that the server refuses by its
types is asked once more in this way; those of our own tables stay as quick as they are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy.dialects.postgresql import psycopg

from .columns import Flag, UtcTimestamp
from .moments import readable


class _Compiler(psycopg.PGCompiler_psycopg):
    def visit_column(self, column: Any, *args: Any, within_columns_clause: bool = False, **options: Any) -> str:
        text: str = super().visit_column(column, *args, within_columns_clause=within_columns_clause, **options)
        if isinstance(column.type, Flag):
            meant = f"(CAST({text} AS text) IN ('true', '1'))"
        elif isinstance(column.type, UtcTimestamp):
            meant = readable(text)
        else:
            return text
        named = within_columns_clause and not options.get("within_label_clause")
        return f"{meant} AS {self.preparer.quote(column.name)}" if named else meant


@lru_cache(maxsize=2)
def dialect(placeholders: str) -> Any:
    """The dialect that reads columns so; `placeholders` is a `paramstyle` of PEP 249."""
    made: Any = psycopg.dialect(paramstyle=placeholders)  # type: ignore[no-untyped-call]
    made.statement_compiler = _Compiler
    return made
