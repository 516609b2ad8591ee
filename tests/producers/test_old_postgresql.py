"""Tables of the crawlers' earlier time on PostgreSQL are read, and written on: moments in texts or with a zone, numbers
for booleans, counters that know nothing of the rows."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

import producers
from producers.content_cleaning import ContentCleaningTelemetry
from producers.destination import Destination
from producers.extraction.rebuilding import coverage, rebuild
from producers.schema import Table, definitions
from producers.verification import VERIFICATIONS
from telemetry_bus import TelemetryStore

from .test_on_postgresql import OPTIONS, fill_the_rest, report, rows_of_all_tables
from .test_reports import fill

psycopg = pytest.importorskip("psycopg")
pytestmark = [pytest.mark.postgresql, pytest.mark.slow]

LOG = logging.getLogger("test")
NOW_AS_TEXT = "TEXT DEFAULT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"


def tables() -> Iterator[Table]:
    """Those of all producers that are not younger than that time."""
    yield VERIFICATIONS
    for module in pkgutil.walk_packages(producers.__path__, "producers."):
        if module.name.endswith(".schema") and module.name.count(".") > 1:
            yield from (
                found
                for found in vars(importlib.import_module(module.name)).values()
                if isinstance(found, Table) and "rollup" not in found.name
            )


def with_zone(definition: str) -> str:
    return re.sub(r"\bTIMESTAMP\b", "TIMESTAMPTZ", definition)


def with_text_dates(definition: str) -> str:
    return definition.replace("TIMESTAMP DEFAULT CURRENT_TIMESTAMP", NOW_AS_TEXT).replace("TIMESTAMP", "TEXT")


def with_numbers(definition: str) -> str:
    text = definition.replace("BOOLEAN DEFAULT FALSE", "INTEGER DEFAULT 0").replace(
        "BOOLEAN DEFAULT TRUE", "INTEGER DEFAULT 1"
    )
    return text.replace("BOOLEAN", "INTEGER")


VARIANTS: dict[str, tuple[Any, ...]] = {
    "counters": (),
    "zones": (with_zone,),
    "text dates": (with_text_dates,),
    "numbers": (with_numbers,),
    "texts and numbers": (with_text_dates, with_numbers),
}


@pytest.fixture
def stores(
    postgresql_server: Any, postgresql: str, request: pytest.FixtureRequest
) -> Iterator[dict[str, TelemetryStore]]:
    """A store of our own tables, and one of old ones with the same rows, whose numbers they have brought along."""
    name = f"{postgresql.rpartition('/')[2]}_old"
    postgresql_server.run(f"CREATE DATABASE {name} OWNER bus")
    old = postgresql_server.url(name)
    with TelemetryStore(postgresql, mode="sync") as ours:
        fill(ours)
        fill_the_rest(ours)
        with psycopg.connect(old, autocommit=True) as there, psycopg.connect(postgresql) as here:
            for table in tables():
                text = definitions(table, "postgresql")[0]
                for change in VARIANTS[request.param]:
                    text = change(text)
                there.execute(text)
                move(here, there, table)
        with TelemetryStore(old, mode="sync") as store:
            yield {"ours": ours, "old": store}
    postgresql_server.run(f"DROP DATABASE {name} WITH (FORCE)")


def move(here: Any, there: Any, table: Table) -> None:
    columns = [name for name in table.columns if name != "rollup_hour"]
    texts = ", ".join(f"{name}::text" for name in columns)
    kinds = dict(
        there.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s", (table.name,)
        )
    )
    values = ", ".join(
        "CAST(CAST(%s AS boolean) AS integer)"
        if kinds[name] == "integer" and table.columns[name].kind.postgresql == "BOOLEAN"
        else f"CAST(%s AS {kinds[name]})"
        for name in columns
    )
    for row in here.execute(f"SELECT {texts} FROM {table.name}").fetchall():
        there.execute(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({values})", row)


@pytest.mark.parametrize("stores", VARIANTS, indirect=True)
def test_the_same_as_with_our_own(stores: dict[str, TelemetryStore]) -> None:
    """Recorders go on, nothing fails; each report says the same, before and after rollups are made."""
    for store in stores.values():
        fill(store)
        fill_the_rest(store)
        assert {"Sub�scribe"} == {
            pattern["text_content"]
            for pattern in ContentCleaningTelemetry(store=store).get_persistent_patterns("news.example")
        }
    counts = {
        kind: {name: len(rows) for name, rows in rows_of_all_tables(store).items()} for kind, store in stores.items()
    }
    assert counts["ours"].keys() == counts["old"].keys()
    assert {name: count for name, count in counts["ours"].items() if "rollup" not in name} == {
        name: count for name, count in counts["old"].items() if "rollup" not in name
    }
    compare(stores)
    destination = Destination(stores["old"], logger=LOG)
    assert rebuild(destination) > 0
    assert 0 == coverage(destination).unrolled
    compare(stores)


def compare(stores: dict[str, TelemetryStore]) -> None:
    for arguments in OPTIONS:
        said = {kind: report(store, *arguments, "--format", "json") for kind, store in stores.items()}
        if arguments[0] == "operations":  # in the order of moments
            said = {kind: "".join(sorted(re.sub(r"[\d.*]", "", text))) for kind, text in said.items()}
        assert said["ours"] == said["old"], arguments


@pytest.mark.parametrize("stores", ["text dates"], indirect=True)
def test_texts_that_are_no_moments(stores: dict[str, TelemetryStore]) -> None:
    """They are none; the reports go on, and rollups are made."""
    store = stores["old"]
    with psycopg.connect(store.database_url, autocommit=True) as session:
        for text in ("", "yesterday", "2026-02-30 00:00:00", "1767225600"):
            session.execute(
                "INSERT INTO extraction_telemetry_v2 (id, operation_id, article_id, url, start_time, created_at) VALUES"
                " ((SELECT max(id) + 1 FROM extraction_telemetry_v2), 'odd', 'odd', 'odd', %s, %s)",
                (text, text),
            )
    for arguments in OPTIONS:
        report(store, *arguments)
    destination = Destination(store, logger=LOG)
    rebuild(destination)
    assert 0 == coverage(destination).unrolled
