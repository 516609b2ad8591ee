"""The core that applies jobs to a database. Knows nothing of processes, messages and journals."""

from .deadletters import DeadLetter
from .stats import WriterSnapshot
from .writer import Writer

__all__ = ["DeadLetter", "Writer", "WriterSnapshot"]
