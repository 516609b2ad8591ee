"""What an oracle counts that stands outside of the bus: jobs that are not in the database exactly once."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field


@dataclass
class Harm:
    """Anything here is a failure."""

    lost: int = 0
    doubled: int = 0
    torn: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        return self.lost + self.doubled + self.torn + len(self.findings)

    @property
    def failed(self) -> bool:
        return self.wrong > 0

    def check_integrity(self, connection: sqlite3.Connection) -> None:
        """The file must be whole."""
        if (found := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
            self.findings.append(f"integrity check: {found[:5]}")
