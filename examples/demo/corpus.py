"""The files of the job: every Python module of the standard library and of the installed packages."""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path

#: More than half of the files are no larger; to parse one takes about as long as to commit its record.
SMALL_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A module, the top-level `package` that it belongs to, and who its `publisher` is."""

    path: str
    package: str
    publisher: str


def find_files() -> list[SourceFile]:
    """The standard library's files, then those of the packages. Broken ones too: tests of parsers bring some."""
    paths = sysconfig.get_paths()
    library = Path(paths["stdlib"]).resolve()
    packages = sorted({Path(paths[name]).resolve() for name in ("purelib", "platlib")})
    files = _files_below(library, "standard library")
    files = [file for file in files if file.package not in ("site-packages", "dist-packages")]
    return files + [file for folder in packages for file in _files_below(folder, "installed packages")]


def _files_below(folder: Path, publisher: str) -> list[SourceFile]:
    return [
        SourceFile(str(path), path.relative_to(folder).parts[0].removesuffix(".py"), publisher)
        for path in sorted(folder.rglob("*.py"))
        if path.is_file()
    ]


def work_list(files: list[SourceFile], records: int) -> list[SourceFile]:
    """`records` files: every one once, then the small ones over and over, so that recording weighs against parsing."""
    small = [file for file in files if Path(file.path).stat().st_size <= SMALL_BYTES]
    return list(islice(chain(files, cycle(small)), records))


def warm_up(files: list[SourceFile]) -> None:
    """Read every file once, so that the first run does not wait for the disk where the second one does not."""
    for file in files:
        try:
            Path(file.path).read_bytes()
        except OSError:
            continue  # a finding of the job itself
