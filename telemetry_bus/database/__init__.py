"""The core that applies jobs to a database. Knows nothing of processes, messages and journals."""

from .deadletters import DeadLetter, RetryResult
from .stats import WriterSnapshot
from .writer import Writer

__all__ = ["DeadLetter", "RetryResult", "Writer", "WriterSnapshot"]
