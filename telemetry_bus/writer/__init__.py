"""The core that applies jobs to a database. Knows nothing of processes, messages and journals."""

from .core import Writer
from .deadletters import DeadLetter, RetryResult
from .stats import WriterSnapshot

__all__ = ["DeadLetter", "RetryResult", "Writer", "WriterSnapshot"]
