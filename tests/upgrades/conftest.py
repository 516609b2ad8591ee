"""Real writers, as in `tests/processes`."""

from ..processes.conftest import bus

__all__ = ["bus"]
