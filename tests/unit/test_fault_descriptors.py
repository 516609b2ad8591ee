"""A folder that cannot be read at the moment is not an empty one."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest

from telemetry_bus.runtime.folder import BusFolder
from telemetry_bus.writer.adoption import Adopter
from telemetry_bus.writer.intake import BatchLimits, Intake

from .streams import MemoryWriter
from .writing import database


def test_looking_for_journals_without_a_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and counts as company: nobody leaves for want of journals that were not seen."""
    folder = BusFolder(tmp_path / "x.db.bus")
    folder.prepare()
    intake: Intake[bytes] = Intake(MemoryWriter(), database(tmp_path), BatchLimits())  # type: ignore[arg-type]
    with closing(Adopter(folder, intake)) as adopter:
        assert not adopter.scan()

        def none_left(path: object) -> object:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr(os, "scandir", none_left)
        assert adopter.scan()
        assert not adopter.busy
    assert "cannot look for journals" in caplog.text
