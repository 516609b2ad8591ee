"""The command that runs a writer: which Python or other program, and with which of this process's modules and settings.

`sys.executable` is not always a Python. In a frozen program (PyInstaller and its like) and in a program that embeds
Python it may be that very program, and to run it for a writer would run the program again. So what is no interpreter by
its name, or belongs to a frozen program, is never run, except by a program that has said what it does then
(`freeze_support`).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import WriterAbsent

#: The command of a writer, with its first arguments; the rest is added. Words as in a shell.
VARIABLE = "TELEMETRY_WRITER_COMMAND"
#: The first argument of a frozen program that is to be the writer.
FROZEN_WRITER = "--telemetry-bus-writer"
#: Variables that may hold a password: who looks at a process sees its environment.
_SECRET = frozenset({"PGPASSWORD", "TELEMETRY_DATABASE_URL"})
#: What helps where there is no way to start one.
HINT = (
    f"set {VARIABLE} to the path of telemetry-writer, start it as a service, or, in a frozen program, call "
    "telemetry_bus.freeze_support() first"
)

_INTERPRETER = re.compile(r"(python|pypy)\d*(\.\d+)?(t|d|-dbg|-debug)*")
#: The modules of the standard library lie in these; they stay first, whatever stands before them here: a program's own
#: `resource.py` is nothing to the writer.
_LIBRARY = os.path.dirname(os.__file__)
_ZIPPED_LIBRARY = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
#: The folder that holds this package, which may have been found in a way that `sys.path` does not show.
_HOME = str(Path(__file__).parents[2])
#: What follows the interpreter's own arguments. `sys.path` travels, so that the writer imports what this process does.
_PROGRAM = "import sys; sys.path[:] = {path}; from writer_daemon.__main__ import main; sys.exit(main())"


def _current_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


#: When this was imported: what `sys.path` has of relative paths was found from there.
_began_in = _current_folder()
_may_run_itself = False


class Launch(NamedTuple):
    """How to start a writer: the beginning of its command line, and its environment."""

    command: list[str]
    environment: dict[str, str]


def launch(environ: Mapping[str, str] = os.environ) -> Launch:
    """The best way there is, without the passwords that the environment may hold (`spawn` passes them on). Raises
    `WriterAbsent`, with a hint, when there is none."""
    environment = {name: value for name, value in environ.items() if name not in _SECRET}
    if words := environ.get(VARIABLE):
        import shlex

        try:
            command = shlex.split(words)
        except ValueError as error:
            raise WriterAbsent(
                f"{VARIABLE} cannot be read: {error}", operation="start a writer", subject=words
            ) from None
        return Launch(command, _unfrozen(environment))
    if python := _interpreter():
        if not _is_home(environment.get("PYTHONHOME")):
            del environment["PYTHONHOME"]
        return Launch([python, *_flags(), "-c", _PROGRAM.format(path=ascii(list(_path())))], environment)
    if _may_run_itself:
        # https://pyinstaller.org/en/stable/advanced-topics.html#the-pyinstaller-reset-environment
        return Launch([sys.executable, FROZEN_WRITER], {**environment, "PYINSTALLER_RESET_ENVIRONMENT": "1"})
    import shutil

    if script := shutil.which("telemetry-writer", path=environ.get("PATH")):
        return Launch([script], _unfrozen(environment))
    kind = "a frozen program" if _is_frozen() else "not a Python"
    raise WriterAbsent(
        f"sys.executable is {sys.executable!r}, {kind}, and no other Python of this program was found",
        operation="start a writer",
        hint=HINT,
    )


def freeze_support() -> None:
    """Let a frozen program be its own writer: call this first in its main module, before anything else is done.

    In a process that was started to be the writer it runs the writer and exits; elsewhere it returns at once, and from
    then on the program may be started for that. The modules of `writer_daemon` must be part of the frozen program.
    """
    global _may_run_itself
    if sys.argv[1:2] == [FROZEN_WRITER]:
        from importlib import import_module

        sys.exit(import_module("writer_daemon.__main__").main(sys.argv[2:]))
    _may_run_itself = bool(sys.executable) and _is_frozen()


def _is_frozen() -> bool:
    return bool(getattr(sys, "frozen", False))


def _interpreter() -> str | None:
    """The Python that runs this program, or one of the same version in the places that belong to it."""
    if _is_frozen():
        return None
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    places = dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix))
    candidates = (sys.executable, *(os.path.join(place, "bin", name) for place in places))
    return next((path for path in candidates if path and _is_interpreter(path)), None)


def _is_interpreter(path: str) -> bool:
    named = _INTERPRETER.fullmatch(os.path.basename(path))
    return named is not None and os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK)


def _flags() -> Iterator[str]:
    """What of this interpreter's isolation the writer's has too. Nothing of a current folder, in any case."""
    yield "-P"
    if sys.flags.isolated:
        yield "-I"
    elif sys.flags.ignore_environment:
        yield "-E"
    if sys.flags.no_user_site:
        yield "-s"
    if sys.flags.no_site:
        yield "-S"
    if sys.flags.utf8_mode:
        yield from ("-X", "utf8")


def _path() -> dict[str, None]:
    """This process's `sys.path` in absolute paths, the standard library before the rest."""
    entries = [_absolute(entry) for entry in sys.path if isinstance(entry, str)]
    library = [entry for entry in entries if entry and _is_library(entry)]
    return dict.fromkeys(entry for entry in (*library, *entries, _HOME) if entry)


def _absolute(entry: str) -> str | None:
    if os.path.isabs(entry):
        return entry
    return None if _began_in is None else os.path.normpath(os.path.join(_began_in, entry))


def _is_library(entry: str) -> bool:
    folder, name = os.path.split(entry)
    return entry == _LIBRARY or name == _ZIPPED_LIBRARY or (name == "lib-dynload" and "python" in folder)


def _is_home(home: str | None) -> bool:
    """Whether this Python has its library where PYTHONHOME says, if it says so at all: it may have ignored it."""
    return not home or os.path.abspath(home.partition(":")[0]) in (sys.prefix, sys.base_prefix)


def _unfrozen(environment: dict[str, str]) -> dict[str, str]:
    """For another program: without the libraries that PyInstaller has put in place of the system's."""
    if hasattr(sys, "_MEIPASS"):
        for name in [name for name in environment if name.startswith("_PYI_")]:
            del environment[name]
        original = environment.pop("LD_LIBRARY_PATH_ORIG", None)
        environment.pop("LD_LIBRARY_PATH", None)
        if original is not None:
            environment["LD_LIBRARY_PATH"] = original
    return environment
