"""What other threads ask of the sender's thread, and what it tells them."""

from __future__ import annotations

from ..runtime.native import native


class Requests:
    """What the thread is asked to do. `heard` is set whenever the writer says something."""

    def __init__(self) -> None:
        self.stopping = False
        self.goodbye = False
        self.ask = False
        self.heard = native("threading").Event()
