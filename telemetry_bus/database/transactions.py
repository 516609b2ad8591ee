"""Transactions of the bus's own statements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .dialects import Connection, Dialect


@contextmanager
def bus_transaction(connection: Connection, dialect: Dialect, *, defines: bool = False) -> Iterator[None]:
    """A transaction around the block: committed at its end, rolled back if it raises. Raises `DatabaseFault`."""
    if defines:
        connection.begin_definitions()
    else:
        connection.begin()
    try:
        yield
        try:
            connection.commit()
        except dialect.errors as error:
            raise dialect.fault(error, "commit", "") from error
    finally:
        connection.rollback()
