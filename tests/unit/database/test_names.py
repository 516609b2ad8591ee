"""The name by which a file was last opened."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from telemetry_bus import DatabaseFault
from telemetry_bus.database.sqlite.names import claim_name


def no_attributes(*_: Any) -> NoReturn:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "one.db"
    path.touch()
    claim_name(path)
    return path


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_log_of_the_last_name(path: Path, suffix: str) -> None:
    """Nothing is changed by a refusal; a log without content, or none, is no reason for one."""
    second = path.parent / "elsewhere" / "two.db"
    second.parent.mkdir()
    os.link(path, second)
    log = Path(f"{path}{suffix}")
    log.write_bytes(b"committed")
    for _ in range(2):
        with pytest.raises(DatabaseFault, match=f"opened as {path} before"):
            claim_name(second)
    claim_name(path)
    log.write_bytes(b"")
    claim_name(second)
    Path(f"{second}-wal").write_bytes(b"committed")
    with pytest.raises(DatabaseFault, match=f"opened as {second} before"):
        claim_name(path)


def test_the_folder_was_renamed(path: Path) -> None:
    """With its log; then a folder of the old name has a log of another database."""
    Path(f"{path}-wal").write_bytes(b"committed")
    folder = path.parent.rename(path.parent.with_name("renamed"))
    claim_name(folder / path.name)
    path.parent.mkdir()
    Path(f"{path}-wal").write_bytes(b"of another one")
    claim_name(folder / path.name)


def test_a_link_to_the_folder(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"committed")
    link = path.parent.with_name("link")
    link.symlink_to(path.parent)
    claim_name(link / path.name)


def test_another_file_has_the_old_name(path: Path) -> None:
    renamed = path.rename(path.with_name("renamed.db"))
    path.touch()
    Path(f"{path}-wal").write_bytes(b"of the other one")
    claim_name(renamed)


def test_an_odd_attribute(path: Path) -> None:
    os.setxattr(path, "user.telemetry_bus.opened_as", b"\xff\x00")
    claim_name(path)


def test_without_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names in the same folder are seen."""
    monkeypatch.setattr(os, "getxattr", no_attributes)
    monkeypatch.setattr(os, "setxattr", no_attributes)
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    one.touch()
    claim_name(one)
    os.link(one, two)
    claim_name(two)
    Path(f"{one}-wal").write_bytes(b"committed")
    with pytest.raises(DatabaseFault, match=f"opened as {one} before"):
        claim_name(two)
