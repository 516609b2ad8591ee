"""Random schemas and jobs out of one seed, and what becomes of them: by plain SQLite, in each mode, in batches."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from telemetry_bus import JobFailed, TelemetryStore
from telemetry_bus.config import parse_database
from telemetry_bus.database import Writer
from telemetry_bus.errors import TelemetryError
from telemetry_bus.jobs import Run, Template
from telemetry_bus.sql.shapes import ORDER_DEPENDENT

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


#: The rows of each table; and these with the numbers of the jobs that failed.
Found = dict[str, list[tuple[Any, ...]]]
Outcome = tuple[Found, list[int]]

#: Every name that a scene gives to a thing in its database.
NAMES = re.compile(r"\b(t\d|base|log|found|i\d|tr)\b")


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

    def named(self, prefix: str) -> tuple[list[str], list[tuple[Template, Any]]]:
        """Schema and jobs with `prefix` before each name, so that several scenes share a database. `OR ROLLBACK`, which
        a store refuses at the call, says the same as `OR ABORT` where the job is the transaction."""

        def under(sql: str) -> str:
            return NAMES.sub(rf"{prefix}\1", sql).replace("OR ROLLBACK", "OR ABORT")

        jobs = [
            (Template((), tuple((under(sql), many) for sql, many in template.statements)), payload)
            for template, payload in self.jobs
        ]
        return [under(sql) for sql in self.schema], jobs

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


def contents(connection: sqlite3.Connection, prefix: str = "") -> Found:
    """All tables whose names begin with `prefix`, which is left out, but what the bus keeps for itself."""
    found = {}
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'telemetry_bus_%' ORDER BY name"
    for (name,) in connection.execute(tables).fetchall():
        own = name.removeprefix(prefix)
        if name.startswith(prefix) and not own.startswith(("sqlite_", "found_")):
            found[own] = connection.execute(f"SELECT rowid, * FROM {name} ORDER BY rowid").fetchall()
    with suppress(sqlite3.OperationalError):  # no table has ever asked for AUTOINCREMENT
        used = connection.execute("SELECT name, seq FROM sqlite_sequence WHERE seq ORDER BY name").fetchall()
        if own := [(name.removeprefix(prefix), seq) for name, seq in used if name.startswith(prefix)]:
            found["sqlite_sequence"] = own
    return found


def plain(scene: Scene) -> Outcome:
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


def sync(scene: Scene) -> Outcome:
    with closing(Writer(parse_database(":memory:"), ledger=False)) as writer:
        prepare(writer, scene)
        failed = []
        for number, (template, payload) in enumerate(scene.jobs, 1):
            try:
                writer.run(template, payload)
            except TelemetryError:
                failed.append(number)
        return contents(writer.driver_connection), failed


def batched(scene: Scene, rng: random.Random) -> Outcome:
    """As daemon and thread do: in batches that end anywhere, jobs of one template in one run. The schema is made by
    jobs, too, that may be in the batch of the first that need it."""
    with closing(Writer(parse_database(":memory:"))) as writer:
        writer.driver_connection.set_authorizer(None)
        failed: list[int] = []
        runs: list[Run] = []
        schema: list[tuple[Template, Any]] = [(Template((), ((sql, False),)), []) for sql in scene.schema]
        for number, (template, payload) in enumerate(schema + scene.jobs, 1 - len(schema)):
            if runs and runs[-1].template == template:
                runs[-1] = runs[-1]._replace(payloads=[*runs[-1].payloads, payload])
            else:
                runs.append(Run(b"s" * 16, number + len(schema), template, [payload]))
            if rng.random() < 0.1 or number == len(scene.jobs):
                failed += [failure.sequence - len(schema) for failure in writer.apply(runs)]
                runs = []
        return contents(writer.driver_connection), failed


def prepare(writer: Writer, scene: Scene) -> None:
    writer.driver_connection.set_authorizer(None)
    for sql in scene.schema:
        writer.driver_connection.execute(sql)


def real(mode: str, folder: Path, seeds: Sequence[int], rng: random.Random) -> list[Outcome]:
    """As programs do: a store for each scene, all of them on one database at once; jobs and looks fall by chance."""
    path = folder / f"{mode}.db"
    with ExitStack() as ending:
        players = [
            Player(ending.enter_context(TelemetryStore(path, mode=mode, linger_ms=0)), Scene(seed), f"s{seed}_")
            for seed in seeds
        ]
        while playing := [player for player in players if player.waiting]:
            rng.choice(playing).play(flush=rng.random() < 0.1)
        return [player.outcome(path) for player in players]


class Player:
    """One scene, played through one store."""

    def __init__(self, store: TelemetryStore, scene: Scene, prefix: str) -> None:
        self.store, self.prefix = store, prefix
        schema, jobs = scene.named(prefix)
        for sql in schema:
            store.execute(sql)
        self.schema = len(schema)
        self.waiting = [*enumerate(jobs, 1)]
        self.numbers: dict[int, int] = {}
        self.failed: list[int] = []

    def play(self, flush: bool) -> None:
        """Submit the next job, and perhaps wait for it."""
        number, (template, payload) = self.waiting.pop(0)
        try:
            self.numbers[self.store.submit(lambda connection: record(connection, template, payload))] = number
        except JobFailed:  # in mode sync
            self.failed.append(number)
        if flush:
            self.store.flush()

    def outcome(self, path: Path) -> Outcome:
        self.store.flush()
        journal = self.store.stats().journal
        with closing(sqlite3.connect(path)) as connection:
            if journal is not None:
                letters = "SELECT sequence FROM telemetry_bus_dead_letters WHERE stream = ? ORDER BY sequence"
                stream = bytes.fromhex(Path(journal).stem)
                self.failed = [self.numbers[one] for (one,) in connection.execute(letters, (stream,))]
            return contents(connection, self.prefix), self.failed


def record(connection: Any, template: Template, payload: Any) -> None:
    """A job as programs write it."""
    parts = (payload,) if len(template.statements) == 1 else payload
    for (sql, many), part in zip(template.statements, parts, strict=True):
        (connection.executemany if many else connection.execute)(sql, part)
