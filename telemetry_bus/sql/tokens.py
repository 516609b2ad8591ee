"""SQL text as tokens and statements, by the lexical rules of SQLite and, for casts, of PostgreSQL.

The rules: https://www.sqlite.org/lang_expr.html, https://www.sqlite.org/lang_keywords.html. Where SQLite has no use
for it, `::` is PostgreSQL's cast.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

#: Every table of the bus begins with this.
BUS_PREFIX = "telemetry_bus_"
#: Kinds of token that can name a table or a column; SQLite takes 'name' for a name too.
NAMES = frozenset({"word", "quoted", "string"})

#: `{id}` is a character inside an identifier: a letter, a digit, `_`, `$`, and all that is not ASCII. It is said by
#: what it is not, since a set that reaches beyond ASCII takes milliseconds to compile each time it occurs.
#: What is not closed runs to the end, except a `/*` with nothing behind it. `malformed` is a number with something
#: stuck to it, or `$name(` that is never closed, all of it at once (a text full of them would take for ever). A byte
#: order mark is space where a token may begin.
_TOKEN = re.compile(
    r"""
      (?P<space>       [ \t\n\f\r] [ \t\n\v\f\r]* | \ufeff )
    | (?P<comment>     --[^\n]* | /\*(?=.).*?(?:\*/|\Z) )
    | (?P<string>      ' [^']* (?:''[^']*)* (?:'|\Z) )
    | (?P<quoted>      " [^"]* (?:""[^"]*)* (?:"|\Z) | ` [^`]* (?:``[^`]*)* (?:`|\Z) | \[ [^\]]* (?:\]|\Z) )
    | (?P<blob>        [xX]' [^']* (?:'|\Z) )
    | (?P<number>      (?>0[xX][0-9a-fA-F]+ | (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?) (?!{id}) )
    | (?P<malformed>   \.?[0-9] (?:{id}|\.)* | \$(?:::)*{id}(?:{id}|::)* (?>\([^ \t\n\v\f\r)]*)(?!\)) )
    | (?P<placeholder> \?[0-9]* | [:@]{id}+ | \$(?:::)*{id}(?:{id}|::)* (?:\([^ \t\n\v\f\r)]*\)(?![0-9]))? )
    | (?P<word>        (?![0-9$]){id}+ )
    | (?P<operator>    :: | . )
    """.replace("{id}", r"[^\x00-\x23\x25-/:-@\[-^`{-\x7f]"),
    re.VERBOSE | re.DOTALL,
)


_FOLD = dict(zip(range(ord("A"), ord("Z") + 1), range(ord("a"), ord("z") + 1), strict=True))


def fold(name: str) -> str:
    """A name as SQLite compares it: without the case of ASCII letters, and of no others."""
    return name.translate(_FOLD)


class Token(NamedTuple):
    """A piece of SQL text. `kind` is the name of a group of the pattern, `start` its place in the text."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def symbol(self) -> str:
        """A word in upper case or an operator; empty for everything else. Only ASCII has another case in SQL."""
        if self.kind in ("word", "operator"):
            return self.text.upper() if self.text.isascii() else self.text
        return ""

    @property
    def name(self) -> str:
        """The text without its quotes."""
        if self.kind not in ("quoted", "string"):
            return self.text
        if self.text[0] == "[":
            return self.text[1:].removesuffix("]")
        quote = self.text[0]
        return self.text[1:].removesuffix(quote).replace(quote * 2, quote)


NOTHING = Token("nothing", "", 0)


def tokenize(sql: str) -> list[Token]:
    """The whole text in pieces; joined they are the text again. No text makes it raise."""
    return [Token(match.lastgroup or "", match[0], match.start()) for match in _TOKEN.finditer(sql)]


def significant(sql: str) -> list[Token]:
    """The tokens without space and comments."""
    return [token for token in tokenize(sql) if token.kind not in ("space", "comment")]


def says(found: Sequence[Token], *symbols: str) -> bool:
    """Whether these words and operators stand somewhere in it, one behind the other."""
    present = [token.symbol for token in found]
    return any(tuple(present[i : i + len(symbols)]) == symbols for i in range(len(present)))


def first_statement(sql: str) -> tuple[list[Token], bool]:
    """The significant tokens before the `;` that ends the first statement, and whether something stands behind it.

    From the BEGIN of a trigger on only `; END ;` ends it (https://www.sqlite.org/c3ref/complete.html).
    """
    found = significant(sql)
    opening = [token for token in found[:3] if token.symbol not in ("TEMP", "TEMPORARY")]
    is_trigger = says(opening[:2], "CREATE", "TRIGGER")
    in_body = False
    for position, token in enumerate(found):
        if token.symbol == "BEGIN":
            in_body = is_trigger
        elif token.symbol == ";" and (not in_body or says(found[position - 2 : position], ";", "END")):
            return found[:position], position + 1 < len(found)
    return found, False


class Reader:
    """Reads tokens one behind the other."""

    def __init__(self, found: Sequence[Token]) -> None:
        self._found = found
        self._position = 0

    @property
    def next(self) -> Token:
        return self._found[self._position] if self._position < len(self._found) else NOTHING

    def take(self) -> Token:
        token = self.next
        self._position += 1
        return token

    def skip(self, *symbols: str) -> bool:
        """Go past these words and operators if they come next."""
        end = self._position + len(symbols)
        if tuple(token.symbol for token in self._found[self._position : end]) != symbols:
            return False
        self._position = end
        return True

    def rest(self) -> Sequence[Token]:
        return self._found[self._position :]
