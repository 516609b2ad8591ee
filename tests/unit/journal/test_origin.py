"""Which process a journal is of, and what is kept of it once its jobs have failed."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.journal import origin as module
from telemetry_bus.journal.origin import Origins, known_origins, origin_of

from ..journals import STREAM, make


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    (folder := tmp_path / "journals").mkdir()
    return folder


def test_a_living_process_is_named(journals: Path) -> None:
    """The program without its options, which may hold secrets."""
    with closing(make(journals)):
        found = origin_of(journals, STREAM) or {}
    assert (os.uname().nodename, os.getpid()) == (found["host"], found["pid"])
    assert found["program"]
    assert not any(f" {word}" in found["program"] for word in sys.argv[1:])


def test_a_process_id_that_is_another_ones_by_now_is_not_believed(journals: Path) -> None:
    """What has not the journal open is not its program."""
    make(journals).close()
    assert {"host": os.uname().nodename, "pid": os.getpid(), "program": None} == origin_of(journals, STREAM)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["python3", "-P", "/srv/app.py", "--password=x"], "/srv/app.py"),
        (["/usr/bin/python3.11", "-m", "crawler", "x"], "/usr/bin/python3.11 -m crawler"),
        (["pypy3", "-c", "secret", ""], "pypy3 -c"),
        (["gunicorn: worker"], "gunicorn: worker"),
        (["/opt/crawl", "secret"], "/opt/crawl"),
        ([""], ""),
    ],
)
def test_names_of_programs(words: list[str], name: str) -> None:
    """A script by its path, a module by its name, and no arguments."""
    assert name == module._named(words)


def test_a_producer_that_was_seen_is_named_after_its_end(journals: Path) -> None:
    """Its jobs may fail then."""
    origins = Origins(journals)
    journal = make(journals)
    origins.see(STREAM)
    journal.close()
    origins.note([STREAM])
    assert known_origins(journals)[STREAM.hex()]["program"]


def test_what_is_noted_outlives_the_journal(journals: Path) -> None:
    """Once for each stream; one without a journal is not known."""
    journal = make(journals)
    origins = Origins(journals)
    origins.note([STREAM, STREAM, b"gone" * 4])
    origins.note([STREAM])
    journal.remove()
    assert {STREAM.hex()} == known_origins(journals).keys()
    assert 1 == (journals.parent / "origins").read_bytes().count(b"\n")
    assert 0o600 == (journals.parent / "origins").stat().st_mode & 0o777


def test_the_file_is_bounded_and_may_be_torn(journals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older half goes; what is no entry is passed over."""
    monkeypatch.setattr(module, "_MOST_BYTES", 2000)
    for number in range(100):
        stream = number.to_bytes(16, "big")
        make(journals, stream=stream).close()
        Origins(journals).note([stream])
    assert (journals.parent / "origins").stat().st_size <= 2500
    with (journals.parent / "origins").open("ab") as file:
        file.write(b'{"stream": "torn')
    found = known_origins(journals)
    assert (99).to_bytes(16, "big").hex() in found
    assert bytes(16).hex() not in found
