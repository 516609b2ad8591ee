"""What a round of a measure is given, and what it gives back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: The raw figures of one measure in one round, by name.
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Setting:
    """How large a round is, and a folder of its own for it."""

    folder: Path
    rows: int
    producers: int

    @property
    def database(self) -> Path:
        return self.folder / "telemetry.db"

    def share(self, divisor: int = 1) -> int:
        """Rows of each producer, of which a slow contender gets fewer; 20 at least."""
        return max(20, self.rows // divisor // self.producers)


@dataclass(frozen=True)
class Measure:
    """Something that is measured once in each round; `name` is what `--only` calls it.

    `wants` are packages of the extra `bench`. `trial` is a command that must succeed where it can be measured. What
    is `rare` is measured in the first round only of a quick run.
    """

    name: str
    about: str
    run: Callable[[Setting], Figures]
    wants: tuple[str, ...] = ()
    trial: tuple[str, ...] = ()
    rare: bool = False

    def possible(self) -> bool:
        try:
            return not self.trial or subprocess.run(self.trial, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False
