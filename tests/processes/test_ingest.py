"""`telemetry-bus ingest` with a real writer: each record of a file is taken once, whatever is killed."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from telemetry_bus.cli import exit_codes

from ..support.bus import ROOT, Bus
from ..support.clock import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def start(bus: Bus, *words: str) -> subprocess.Popen[str]:
    return bus.start_command(
        *("-m", "telemetry_bus", "ingest", "--database", str(bus.path), "--table", "fetches", *words),
        folder=str(bus.home),
    )


def ingest(bus: Bus, *words: str, code: int = exit_codes.DONE) -> list[dict[str, Any]]:
    """What became of each input."""
    found: list[dict[str, Any]] = json.loads(bus.finish(start(bus, "--json", *words), code))["inputs"]
    return found


def write(path: Path, numbers: Iterable[int], mode: str = "w") -> Path:
    with path.open(mode) as file:
        for number in numbers:
            print(json.dumps({"number": number, "url": f"https://a.example/{number}"}), file=file)
    return path


def numbers(bus: Bus) -> list[int]:
    return [number for (number,) in bus.rows("SELECT number FROM fetches ORDER BY rowid")]


def test_a_file_that_grows_and_gets_other_names(bus: Bus) -> None:
    """Each record once; a packed copy is no other file; `--again` takes all."""
    path = write(bus.home / "a.jsonl", range(100))
    assert [(100, 1)] == [(found["records"], found["line"]) for found in ingest(bus, str(path))]
    write(path, range(100, 150), "a")
    path = path.rename(path.with_name("renamed.jsonl"))
    packed = path.with_name("packed.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [(50, 101), (0, 151)] == [(f["records"], f["line"]) for f in ingest(bus, str(path), str(packed))]
    assert [*range(150)] == numbers(bus)
    assert 150 == ingest(bus, "--again", str(path))[0]["records"]
    assert 300 == len(numbers(bus))


def test_records_that_the_table_refuses(bus: Bus) -> None:
    """They alone are rejected, with the database's reason, and no dead letter stays; those around them are taken."""
    ddl = bus.home / "t.sql"
    ddl.write_text("CREATE TABLE IF NOT EXISTS fetches (number INTEGER PRIMARY KEY CHECK (number < 900), url TEXT);")
    path = write(bus.home / "a.jsonl", [*range(500), 7, 1000, *range(500, 800)])
    with path.open("a") as file:
        file.write('{"number": 801, "url": "\\ud800"}\nbad\n{"number": 802, "other": 1}\n{"number": 803}\n')
    (found,) = ingest(bus, "--ddl", str(ddl), str(path), code=exit_codes.FAILED)
    assert (801, 5) == (found["records"], found["rejected"])
    assert [*range(800), 803] == numbers(bus)
    rejected = [json.loads(line) for line in Path(found["kept"]).read_text().splitlines()]
    assert [501, 502, 803, 804, 805] == [record["line"] for record in rejected]
    reasons = " ".join(record["reason"] for record in rejected)
    for reason in ("UNIQUE", "CHECK", "surrogate", "no JSON", "no column other"):
        assert reason in reasons
    assert [(0,)] == bus.rows("SELECT count(*) FROM telemetry_bus_dead_letters")
    assert 0 == ingest(bus, "--ddl", str(ddl), str(path))[0]["records"]


def test_a_pipe(bus: Bus) -> None:
    """What it holds is taken once; what is bad is told."""
    data = write(bus.home / "a.jsonl", range(20)).read_text() + "bad\n"
    command = [sys.executable, "-m", "telemetry_bus", "ingest", "--database", str(bus.path), "--table", "fetches"]
    done = subprocess.run(command, input=data, capture_output=True, text=True)
    assert exit_codes.FAILED == done.returncode, done.stderr
    assert "20 records taken into fetches, 1 rejected: line 21: no JSON" in done.stdout
    assert [*range(20)] == numbers(bus)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", '[\n{"a": 1},\n{"a": 2}\n]\n'])
def test_another_format_is_not_taken(bus: Bus, text: str) -> None:
    """Line by line it would all be rejected, and the file count as taken."""
    path = bus.home / "a.txt"
    path.write_text(text)
    process = start(bus, str(path))
    bus.finish(process, exit_codes.USAGE)
    assert "--format csv" in bus.errors(process)
    assert not Path(f"{path}.rejected").exists()
    write(path, range(3))
    assert 3 == ingest(bus, str(path))[0]["records"]


def test_a_dry_run_changes_nothing(bus: Bus) -> None:
    path = write(bus.home / "a.jsonl", range(20))
    output = bus.finish(start(bus, "--dry-run", str(path)))
    assert "CREATE TABLE IF NOT EXISTS" in output
    assert "20 records would be taken" in output
    assert not bus.path.exists()


def test_a_packed_file_that_ends_early(bus: Bus) -> None:
    """What comes before is taken once, also when the whole file comes."""
    whole = gzip.compress(write(bus.home / "a.jsonl", range(50_000)).read_bytes())
    packed = bus.home / "a.jsonl.gz"
    packed.write_bytes(whole[: len(whole) // 2])
    process = start(bus, str(packed))
    bus.finish(process, exit_codes.FAILED)
    assert "ends early" in bus.errors(process)
    taken = numbers(bus)
    assert taken
    packed.write_bytes(whole)
    ingest(bus, str(packed))
    assert [*range(50_000)] == numbers(bus)


def test_following_across_rotations(bus: Bus) -> None:
    """By a new name and by cutting it short; a line that is not complete waits; Ctrl-C ends it."""
    path = write(bus.home / "a.jsonl", range(10))
    process = start(bus, "--follow", str(path))

    def taken(count: int) -> None:
        wait_until(lambda: len(numbers(bus)) == count, f"{count} are taken")

    taken(10)
    with path.open("a") as file:
        file.write('{"number": 10')
        file.flush()
        bus.another_job()  # some looks later
        file.write("}\n")
    taken(11)
    path.rename(path.with_name("a.jsonl.1"))
    write(path.with_name("a.jsonl.1"), [11], "a")
    write(path, range(12, 20))
    taken(20)
    write(path, range(20, 22))
    taken(22)
    process.send_signal(signal.SIGINT)
    bus.finish(process)
    assert [*range(22)] == numbers(bus)


def test_killed_again_and_again(bus: Bus) -> None:
    """The command and the writer, at random moments: in the end each record is there once, each bad one kept once."""
    count = 40_000
    path = write(bus.home / "a.jsonl", range(count))
    lines = path.read_text().splitlines()
    for number in range(0, count, 4001):
        lines[number] = "bad"
    path.write_text("\n".join(lines) + "\n")
    chance = random.Random(7)
    for _ in range(6):
        process = start(bus, str(path))
        try:
            process.wait(chance.uniform(0.2, 1.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if chance.random() < 0.5:
            bus.kill_writers()
    last = start(bus, str(path))
    last.communicate()
    assert last.returncode in (exit_codes.DONE, exit_codes.FAILED), bus.errors(last)
    assert [number for number in range(count) if number % 4001] == numbers(bus)
    rejected = [json.loads(line)["line"] for line in Path(f"{path}.rejected").read_text().splitlines()]
    assert [number + 1 for number in range(0, count, 4001)] == rejected


def test_the_page(bus: Bus) -> None:
    """Its commands print what it says, in an empty folder."""
    blocks = re.findall(r"```(bash|text)\n(.*?)```", (ROOT / "docs/ingest.md").read_text(), re.DOTALL)
    commands = "".join(text for language, text in blocks if language == "bash")
    (bus.home / "page").mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=bus.home / "page",
        env={**os.environ, "PATH": path, "HOME": str(bus.home)},
        capture_output=True,
        text=True,
    )
    assert "" == done.stderr
    assert "".join(text for language, text in blocks if language == "text") == done.stdout
