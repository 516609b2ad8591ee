"""Which dead letters are meant: by error, table, time, or as one of their kind; and how they fall into groups."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ...database.deadletters import UNKNOWN, DeadLetter, DeadLetters
from ...errors import ConfigError, without_values
from ...sql.targets import table_of
from ...sql.tokens import fold
from ..arguments import Parser
from ..prune.retention import age

#: Of letters of one kind: the type of the error, its first line without values, the statement.
Kind = tuple[str, str, str]
_MOMENT = "%Y-%m-%d %H:%M:%S.%f"


@dataclass(slots=True)
class Group:
    """Letters of one kind: the first of them, how many there are, when the last one failed."""

    first: DeadLetter
    count: int
    last_at: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What was said on the command line; times are UTC as in the table, `like` a letter's id."""

    error: str | None = None
    table: str | None = None
    since: str | None = None
    before: str | None = None
    like: int | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Choice:
        """From the options that `add_choice` adds."""
        older_than = getattr(arguments, "older_than", None)
        before = None if older_than is None else _text(datetime.now(UTC) - older_than)
        return cls(arguments.error, arguments.table, arguments.since, before, arguments.like)

    @property
    def is_all(self) -> bool:
        return self == Choice()

    def of_letters(self, letters: DeadLetters) -> Iterator[DeadLetter]:
        """Those that are meant, without their jobs, in order. Raises `ConfigError` for a letter that is not there."""
        return self._filtered(letters, self._wanted(letters))

    def _wanted(self, letters: DeadLetters) -> Kind | None:
        if self.like is None:
            return None
        letter = letters.get(self.like)
        if letter is None:
            raise ConfigError(
                UNKNOWN, operation="--like", subject=str(self.like), hint="telemetry-bus dead-letters list"
            )
        return kind_of(letter)

    def _filtered(self, letters: DeadLetters, wanted: Kind | None) -> Iterator[DeadLetter]:
        for letter in letters.summaries():
            if (
                (self.since is None or letter.failed_at >= self.since)
                and (self.before is None or letter.failed_at < self.before)
                and (self.error is None or self.error.lower() in f"{letter.error_type}: {letter.message}".lower())
                and (wanted is None or kind_of(letter) == wanted)
                and (self.table is None or fold(self.table) in _tables(letter, letters))
            ):
                yield letter


def add_choice(parser: Parser) -> None:
    add = parser.add_argument_group("which of them; all that is said must hold").add_argument
    add("--error", metavar="TEXT", help="whose error has this text, its type included")
    add("--table", metavar="NAME", help="whose statement writes to this table, or defines it")
    add("--since", type=_since, metavar="WHEN", help="failed since: 2h, 3d, 2026-01-31, 2026-01-31T12:00")
    add("--like", type=int, metavar="ID", help="of the same error and statement as this one")


def groups(letters: Iterable[DeadLetter]) -> list[Group]:
    """Letters by their kind, the largest group first."""
    found: dict[Kind, Group] = {}
    for letter in letters:
        group = found.setdefault(kind_of(letter), Group(letter, 0, letter.failed_at))
        group.count += 1
        group.last_at = max(group.last_at, letter.failed_at)
    return sorted(found.values(), key=lambda group: (-group.count, group.first.id))


def kind_of(letter: DeadLetter) -> Kind:
    message, _ = without_values(letter.first_line, letter.statement or "")
    return letter.error_type, message, letter.statement or ""


def _tables(letter: DeadLetter, letters: DeadLetters) -> set[str]:
    """The table of the statement that failed; of all, where none did: a constraint that only COMMIT finds."""
    texts = [letter.statement] if letter.statement else []
    if not texts and (whole := letters.get(letter.id)) is not None and (job := whole.unpacked()) is not None:
        texts = [statement.sql for statement in job.statements]
    return {fold(name) for name in map(table_of, texts) if name}


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_MOMENT)


def _since(text: str) -> str:
    """An age, or a moment: in UTC, unless it has an offset."""
    try:
        return _text(datetime.now(UTC) - age(text))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return _text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is neither an age such as 2h nor a date") from None


def span(text: str) -> timedelta:
    """The type of an option that is an age."""
    try:
        return age(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
