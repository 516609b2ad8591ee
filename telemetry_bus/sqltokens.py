"""SQL text as tokens, by the lexical rules of SQLite (https://www.sqlite.org/lang.html) and, for casts, PostgreSQL."""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
      (?P<space>   [\s\ufeff]+ | --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<string>  [xX]?'(?:[^']|'')*(?:'|\Z) )
    | (?P<quoted>  "(?:[^"]|"")*(?:"|\Z) | `(?:[^`]|``)*(?:`|\Z) | \[[^\]]*(?:\]|\Z) )
    | (?P<number>  0[xX][0-9a-fA-F]+ | (?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)? )
    | (?P<cast>    :: )
    | (?P<mark>    \?\d* | [:@][\w$]+ | \$\w[\w$]*(?:::\w+)* )
    | (?P<word>    [^\W\d][\w$]* )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A piece of SQL text. `kind`: space (and comments), string (and blob), quoted (a name), number, cast, mark (a
    placeholder), word, other (one character). `start`: where it stands in the text."""

    kind: str
    text: str
    start: int

    @property
    def keyword(self) -> str:
        """The word in capitals; empty for anything else."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def name(self) -> str | None:
        """The name that a word or a quoted name stands for; None for anything else."""
        if self.kind == "word":
            return self.text
        if self.kind != "quoted":
            return None
        close = "]" if self.text[0] == "[" else self.text[0]
        inner = self.text[1:-1] if len(self.text) > 1 and self.text.endswith(close) else self.text[1:]
        return inner if close == "]" else inner.replace(close * 2, close)


def tokenize(sql: str) -> list[Token]:
    """All tokens; their texts joined are `sql`. Never raises: what is not closed ends with the text."""
    return [Token(match.lastgroup or "other", match[0], match.start()) for match in _TOKEN.finditer(sql)]


def significant(sql: str) -> list[Token]:
    """The tokens without spaces and comments."""
    return [token for token in tokenize(sql) if token.kind != "space"]


def statement_end(tokens: list[Token]) -> int:
    """How many of the (significant) tokens the first statement has, without its `;`.

    A trigger's body has statements of its own; it ends with an END that follows a `;`.
    """
    trigger = tokens[:1] and tokens[0].keyword == "CREATE" and any(token.keyword == "TRIGGER" for token in tokens[1:4])
    for position, token in enumerate(tokens):
        if token.text != ";":
            continue
        if not trigger:
            return position
        if position + 1 < len(tokens) and tokens[position + 1].keyword == "END":
            return position + 2
    return len(tokens)
