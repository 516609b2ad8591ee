"""The same jobs make the same rows whatever the mode, and however they fall into batches, for schemas of every kind."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.errors import TelemetryError
from telemetry_bus.jobs import Run, Template
from telemetry_bus.sql.shapes import ORDER_DEPENDENT

#: A script may ask for more, and for others: `THREE_MODES_EXAMPLES=20000 THREE_MODES_FIRST=1000`.
EXAMPLES = int(os.environ.get("THREE_MODES_EXAMPLES", "300"))
FIRST = int(os.environ.get("THREE_MODES_FIRST", "0"))
CHUNK = 50

TYPES = ("INTEGER", "TEXT", "NUMERIC", "REAL", "BLOB", "")
DEFAULTS = ("", "", "", "DEFAULT 1", "DEFAULT 'x'", "DEFAULT (last_insert_rowid())", "DEFAULT (changes())",
            "DEFAULT (total_changes() * 0)", "DEFAULT (1 + 1)")  # fmt: skip
CHECKS = ("", "", "", "CHECK (c0 IS NOT 3)", "CHECK (typeof(c1) <> 'blob')", "CHECK (last_insert_rowid() > -1)",
          "CHECK (c1 REGEXP '^[a-z0-9]*$')")  # fmt: skip
KEYS = ("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT PRIMARY KEY", "INTEGER UNIQUE",
        "TEXT COLLATE NOCASE UNIQUE", "INTEGER UNIQUE ON CONFLICT REPLACE",
        "INTEGER UNIQUE ON CONFLICT IGNORE")  # fmt: skip
ACTIONS = ("", "", "ON DELETE CASCADE", "ON DELETE SET NULL", "ON UPDATE CASCADE", "DEFERRABLE INITIALLY DEFERRED")
VALUES: tuple[Any, ...] = (None, 0, 1, 2, 3, "1", "2", "x", "X", "a b", 1.0, 2.5, b"x", "", " 1", "é", True)
VERBS = ("INSERT", "INSERT", "INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE", "REPLACE", "INSERT OR ABORT",
         "INSERT OR FAIL", "INSERT OR ROLLBACK")  # fmt: skip


class Scene:
    """A schema, and jobs for it, out of one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        #: Plain inserts only, of keys that do not collide, and of parents that are there or come next: then batches
        #: succeed as a whole, unless order matters.
        self.calm = self.rng.random() < 0.5
        self.made: dict[str, int] = {}
        self.parents: dict[str, str] = {}
        self.columns: dict[str, list[str]] = {}
        self.keys: dict[str, str] = {}
        self.schema = self.make_schema()
        self.templates = [self.template() for _ in range(self.rng.randint(1, 5))]
        self.jobs = [self.job() for _ in range(self.rng.randint(1, 30))]

    def pick(self, choices: Any) -> Any:
        return self.rng.choice(choices)

    def make_schema(self) -> list[str]:
        schema = [self.table(f"t{number}") for number in range(self.rng.randint(1, 4))]
        schema.append("CREATE TABLE base (a INTEGER PRIMARY KEY, b)")
        names = list(self.columns)
        for number in range(0 if self.calm else self.rng.randint(0, 2)):
            table = self.pick(names)
            where = self.pick(("", " WHERE c1 IS NOT NULL", " WHERE c1 = 'x'"))
            what = self.pick(("c1", "lower(c1)"))
            schema.append(f"CREATE {self.pick(('', 'UNIQUE '))}INDEX i{number} ON {table} ({what}){where}")
        if self.rng.random() < 0.3 and not self.calm:
            table, other = self.pick(names), self.pick(names)
            body = self.pick((f"INSERT INTO log SELECT new.c0, count(*), last_insert_rowid() FROM {other}",
                              f"UPDATE {other} SET c1 = new.c1 WHERE c0 IS 2", f"DELETE FROM {other} WHERE c0 IS 3",
                              "INSERT INTO found (w) VALUES (new.c1)"))  # fmt: skip
            schema += ["CREATE TABLE log (a, b, c)", "CREATE VIRTUAL TABLE found USING fts5 (w)"]
            schema.append(f"CREATE TRIGGER tr AFTER INSERT ON {table} BEGIN {body}; END")
        return schema

    def table(self, name: str) -> str:
        self.keys[name] = key = self.pick(KEYS)
        columns = [f"c0 {key}", f"c1 {self.pick(TYPES)} {self.pick(DEFAULTS)}"]
        self.columns[name] = ["c0", "c1"]
        if self.rng.random() < 0.7:
            self.parents[name] = parent = self.pick([*self.columns] if self.calm else [*self.columns, "t3"])
            columns.append(
                f"c2 {self.pick(TYPES)} {self.pick(DEFAULTS[:5])} REFERENCES {parent} (c0) {self.pick(ACTIONS)}"
            )
            self.columns[name].append("c2")
        if self.rng.random() < 0.3:
            columns.append(f"c3 GENERATED ALWAYS AS (c1 || '!') {self.pick(('STORED', 'VIRTUAL'))}")
        check = "" if self.calm else self.pick(CHECKS)
        return f"CREATE TABLE {name} ({', '.join(columns)} {', ' * bool(check)}{check})"

    def template(self) -> Template:
        """Functions that ask for the statement before find one in their own job."""
        statements = [self.statement() for _ in range(self.pick((1, 1, 2, 2, 3)))]
        if any(name in text for text in [*self.schema, *(sql for sql, _ in statements)] for name in ORDER_DEPENDENT):
            statements.insert(0, ("INSERT INTO base (b) VALUES (?)", False))
        return Template((), tuple(statements))

    def statement(self) -> tuple[str, bool]:
        table = self.pick(list(self.columns))
        if self.rng.random() < 0.2 and not self.calm:
            return self.pick(
                (f"DELETE FROM {table} WHERE c0 = ?", f"UPDATE {table} SET c1 = ? WHERE c0 IS 1",
                 f"UPDATE {table} SET c0 = ? WHERE c0 IS 2", f"INSERT INTO {table} (c0) SELECT ? WHERE changes() >= 0")
            ), False  # fmt: skip
        if self.calm:
            named = [c for c in self.columns[table] if c != "c1"]
            return f"INSERT INTO {table} ({', '.join(named)}) VALUES ({', '.join('?' for _ in named)})", False
        named = [c for c in self.columns[table] if self.rng.random() < 0.8] or ["c0"]
        values = ", ".join(self.pick(("?", "?", "?", "?", "1", "NULL")) for _ in named)
        conflict = ""
        verb = self.pick(VERBS)
        if verb == "INSERT" and self.rng.random() < 0.3:
            conflict = self.pick((" ON CONFLICT DO NOTHING", " ON CONFLICT (c0) DO UPDATE SET c1 = excluded.c1"))
        return f"{verb} INTO {table} ({', '.join(named)}) VALUES ({values}){conflict}", self.rng.random() < 0.2

    def job(self) -> tuple[Template, Any]:
        template: Template = self.pick(self.templates)
        parts = []
        for sql, many in template.statements:
            rows = [self.row(sql) for _ in range(self.pick((0, 1, 3)) if many else 1)]
            parts.append(rows if many else rows[0])
        return template, parts[0] if len(parts) == 1 else parts

    def row(self, sql: str) -> list[Any]:
        if not self.calm or " base " in sql:
            return [self.pick(VALUES) for _ in range(sql.count("?"))]
        table = sql.split()[2]
        self.made[table] = key = self.made.get(table, 0) + 1
        parent = self.pick((None, *range(1, self.made.get(self.parents.get(table, ""), 0) + 2)))  # or the next one
        return [key, parent][: sql.count("?")]


def contents(connection: sqlite3.Connection) -> dict[str, Any]:
    """Everything but what the bus keeps for itself."""
    found = {}
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'telemetry_bus_%' ORDER BY name"
    for (name,) in connection.execute(tables).fetchall():
        if not name.startswith(("sqlite_stat", "found_")):
            found[name] = connection.execute(f"SELECT rowid, * FROM {name} ORDER BY rowid").fetchall()
    return found


def plain(scene: Scene) -> tuple[dict[str, Any], list[int]]:
    """One job after the other, each in its transaction, without the bus."""
    with closing(Writer(parse_database(":memory:"), ledger=False)) as opened:
        connection = opened.driver_connection
        connection.set_authorizer(None)
        failed = []
        for sql in scene.schema:
            connection.execute(sql)
        for number, (template, payload) in enumerate(scene.jobs, 1):
            connection.execute("BEGIN")
            try:
                for sql, rows in template.fill(payload):
                    for row in rows:
                        connection.execute(sql, row).fetchall()
                connection.execute("COMMIT")
            except sqlite3.Error:
                failed.append(number)
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        return contents(connection), failed


def sync(scene: Scene) -> tuple[dict[str, Any], list[int]]:
    with closing(Writer(parse_database(":memory:"), ledger=False)) as writer:
        prepare(writer, scene)
        failed = []
        for number, (template, payload) in enumerate(scene.jobs, 1):
            try:
                writer.run(template, payload)
            except TelemetryError:
                failed.append(number)
        return contents(writer.driver_connection), failed


def batched(scene: Scene, rng: random.Random) -> tuple[dict[str, Any], list[int]]:
    """As daemon and thread do: in batches that end anywhere, jobs of one template in one run."""
    with closing(Writer(parse_database(":memory:"))) as writer:
        prepare(writer, scene)
        failed: list[int] = []
        runs: list[Run] = []
        for number, (template, payload) in enumerate(scene.jobs, 1):
            if runs and runs[-1].template == template:
                runs[-1] = runs[-1]._replace(payloads=[*runs[-1].payloads, payload])
            else:
                runs.append(Run(b"s" * 16, number, template, [payload]))
            if rng.random() < 0.1 or number == len(scene.jobs):
                failed += [failure.sequence for failure in writer.apply(runs)]
                runs = []
        return contents(writer.driver_connection), failed


def prepare(writer: Writer, scene: Scene) -> None:
    writer.driver_connection.set_authorizer(None)
    for sql in scene.schema:
        writer.driver_connection.execute(sql)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FIRST, FIRST + EXAMPLES, CHUNK))
def test_three_modes_one_result(first: int) -> None:
    """Whole database and failures, of each seed."""
    for seed in range(first, min(first + CHUNK, FIRST + EXAMPLES)):
        expected = plain(Scene(seed))
        assert expected == sync(Scene(seed)), f"seed {seed}: sync"
        assert expected == batched(Scene(seed), random.Random(seed)), f"seed {seed}: batches"
