"""Messages under way: any may be lost, doubled, overtaken, or so late that nobody waits for it any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

#: How a message reaches its receiver, and what it is.
Parcel = tuple[Callable[[Any], None], Any]


class Network:
    def __init__(self, rng: Random, tally: Counter[str]) -> None:
        self._random = rng.random
        self._tally = tally
        self._under_way: list[Parcel] = []
        self._late: list[Parcel] = []
        self.lost = 0
        self.loss = rng.choice((0.0, 0.1, 0.3))
        self.doubling = rng.choice((0.0, 0.1, 0.2))
        self.delay = rng.choice((0.0, 0.1, 0.2))
        self.disorder = rng.choice((0.0, 0.1, 0.5))

    def send(self, to: Callable[[Any], None], message: Any) -> None:
        self._under_way.append((to, message))

    def step(self) -> None:
        """Deliver one message, or not."""
        if not self._under_way:
            return
        index = 0
        if len(self._under_way) > 1 and self._random() < self.disorder:
            index = int(self._random() * len(self._under_way))
            self._tally["message overtaken"] += index > 0
        parcel = self._under_way.pop(index)
        fate = self._random()
        if fate < self.loss:
            self.lost += 1
            self._tally["message lost"] += 1
            return
        fate -= self.loss
        if fate < self.delay:
            self._tally["message delayed for long"] += 1
            self._late.append(parcel)
            return
        if fate - self.delay < self.doubling:
            self._tally["message doubled"] += 1
            # The copy comes soon, or when everything has changed.
            (self._late if self._random() < 0.5 else self._under_way).append(parcel)
        deliver(parcel)

    def deliver_some(self) -> None:
        """As many messages as are under way now."""
        for _ in range(len(self._under_way)):
            self.step()

    def late_step(self) -> None:
        """Deliver one of those that were delayed for long."""
        if self._late:
            deliver(self._late.pop(int(self._random() * len(self._late))))

    def forget(self) -> None:
        """So much time passes that nothing is on its way any more."""
        self._under_way.clear()
        self._late.clear()

    def heal(self) -> None:
        self.loss = self.doubling = self.disorder = self.delay = 0.0

    def deliver_all(self) -> None:
        while self._under_way:
            self.step()

    def deliver_late(self, share: float = 1.0) -> None:
        for _ in range(round(len(self._late) * share)):
            self.late_step()


def deliver(parcel: Parcel) -> None:
    to, message = parcel
    to(message)
