"""The command of a writer: which program runs, and with which modules. Nothing is started here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from telemetry_bus import WriterAbsent, freeze_support
from telemetry_bus.runtime import writer_command as launching
from telemetry_bus.runtime.writer_command import FROZEN_WRITER, VARIABLE, launch


@pytest.fixture
def host(tmp_path: Path) -> str:
    """A program that is no Python."""
    return executable(tmp_path / "bin" / "host")


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Python and no console script anywhere."""
    for name in ("prefix", "exec_prefix", "base_prefix", "base_exec_prefix"):
        monkeypatch.setattr(sys, name, str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))


def executable(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
    return str(path)


def test_the_interpreter_that_runs_us() -> None:
    """Where it is one by its name."""
    assert sys.executable == launch().command[0]


@pytest.mark.parametrize("executable_is", ["host", "", None, "/nowhere/python3"])
def test_another_place_of_the_same_python(
    monkeypatch: pytest.MonkeyPatch, host: str, executable_is: str | None
) -> None:
    """An embedding program, no name, a name of nothing: the Python in the prefix is taken, if there is one."""
    monkeypatch.setattr(sys, "executable", host if executable_is == "host" else executable_is)
    python = Path(launch().command[0])
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}" == python.name
    assert python.parent.parent in (Path(sys.prefix), Path(sys.base_prefix))


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("host", True),
        ("python3", True),
        ("host", False),
        ("pythonista", False),
        ("python3-app", False),
        ("uwsgi", False),
    ],
)
@pytest.mark.usefixtures("nothing_else")
def test_a_host_is_never_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, frozen: bool) -> None:
    """A frozen program has no Python, whatever it is called; another one only what has the name of one."""
    monkeypatch.setattr(sys, "executable", executable(tmp_path / name))
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    with pytest.raises(WriterAbsent) as raised:
        launch()
    assert name in str(raised.value)
    assert VARIABLE in raised.value.hint


def test_the_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a command with arguments; one that cannot be read is an error that names it."""
    monkeypatch.setenv(VARIABLE, "/opt/my\\ bus/telemetry-writer --log-level debug")
    assert ["/opt/my bus/telemetry-writer", "--log-level", "debug"] == launch().command
    monkeypatch.setenv(VARIABLE, "'unclosed")
    with pytest.raises(WriterAbsent, match=VARIABLE):
        launch()


@pytest.mark.usefixtures("nothing_else")
def test_the_console_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str) -> None:
    """A frozen program finds the one of this machine, and gives it back the system's libraries."""
    script = executable(tmp_path / "path" / "telemetry-writer")
    monkeypatch.setattr(sys, "executable", host)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", "/tmp/_MEI", raising=False)
    environ = {"PATH": str(tmp_path / "path"), "LD_LIBRARY_PATH": "/tmp/_MEI", "_PYI_ARCHIVE_FILE": "x"}
    assert ([script], {"PATH": environ["PATH"]}) == launch(environ)
    environ["LD_LIBRARY_PATH_ORIG"] = "/opt/lib"
    assert "/opt/lib" == launch(environ).environment["LD_LIBRARY_PATH"]


@pytest.mark.usefixtures("nothing_else")
def test_a_frozen_program_that_says_so(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """It may be started as its own writer, and becomes it."""
    monkeypatch.setattr(launching, "_may_run_itself", False)
    monkeypatch.setattr(sys, "executable", host)
    freeze_support()
    with pytest.raises(WriterAbsent):  # not frozen: it might not come by here
        launch()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    freeze_support()
    assert [host, FROZEN_WRITER] == launch().command
    monkeypatch.setattr(sys, "argv", [host, FROZEN_WRITER, "--version"])
    with pytest.raises(SystemExit) as left:
        freeze_support()
    assert 0 == left.value.code


def test_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Absolute, the standard library first, the folder of this package in any case."""
    library = os.path.dirname(os.__file__)
    monkeypatch.setattr(launching, "_began_in", str(tmp_path))
    monkeypatch.setattr(sys, "path", ["", "src/../lib", tmp_path, "/app/x.pyz", library, "/app/x.pyz"])
    path = [library, str(tmp_path), f"{tmp_path}/lib", "/app/x.pyz", str(Path(launching.__file__).parents[2])]
    assert path == list(launching._path())
    monkeypatch.setattr(launching, "_began_in", None)
    assert [library, "/app/x.pyz", path[-1]] == list(launching._path())


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONHOME stays when this Python's library is there, and else not: it would end the writer."""
    monkeypatch.setenv("PYTHONHOME", sys.base_prefix)
    assert sys.base_prefix == launch().environment["PYTHONHOME"]
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    assert "PYTHONHOME" not in launch().environment
