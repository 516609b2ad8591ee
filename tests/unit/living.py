"""A part with a life cycle, for children that import it by name."""

from __future__ import annotations

from telemetry_bus.runtime import lifecycle

kept: list[Part] = []


class Part:
    def __init__(self, name: str) -> None:
        self.name = name
        lifecycle.watch(self)

    def after_fork(self) -> None:
        print(self.name, "forked", flush=True)

    def at_exit(self, limit: float) -> None:
        print(self.name, "exits", 0 <= limit <= lifecycle.EXIT_LIMIT_S, flush=True)


def make(name: str) -> None:
    kept.append(Part(name))
