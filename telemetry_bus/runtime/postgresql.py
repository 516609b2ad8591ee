"""psycopg, which speaks to PostgreSQL: an extra, loaded where a database of that kind is opened."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

from ..config import Database
from ..errors import ConfigError
from ..postgresql_url import parse

EXTRA = "pip install 'telemetry-bus[postgres]'"


def driver() -> ModuleType:
    """psycopg. Raises `ConfigError` where it is not installed, or has no libpq to work with."""
    try:
        import psycopg
    except ImportError as error:
        raise _not_there(str(error)) from error
    return psycopg


def check_installed() -> None:
    """As `driver`, and loads nothing."""
    if find_spec("psycopg") is None:
        raise _not_there("No module named 'psycopg'")


def parameters(database: Database) -> dict[str, str]:
    """What psycopg is to be called with for a database: parameters of libpq by their names."""
    return parse(database.url, {})


def _not_there(why: str) -> ConfigError:
    return ConfigError(f"PostgreSQL needs psycopg: {why}", operation="database", hint=EXTRA)
