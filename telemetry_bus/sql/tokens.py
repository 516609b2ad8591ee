"""SQL text as tokens and statements, by the lexical rules of SQLite or of PostgreSQL.

The rules: https://www.sqlite.org/lang_expr.html, https://www.sqlite.org/lang_keywords.html, and
https://www.postgresql.org/docs/current/sql-syntax-lexical.html. Where SQLite has no use for it, `::` is a cast too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..config import DialectName

#: Every table of the bus begins with this.
BUS_PREFIX = "telemetry_bus_"
#: Kinds of token that can name a table or a column; SQLite takes 'name' for a name too.
NAMES = frozenset({"word", "quoted", "string"})
#: Kinds of token that can be, or end, a value.
_VALUES = frozenset({"word", "quoted", "string", "number", "placeholder"})

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

#: `{id}` as above. A comment of PostgreSQL's may hold others, so that only its beginning is in the pattern; a string
#: that begins with E has escapes; what stands between `$tag$` and the next `$tag$` is one string. What is not closed
#: runs to the end.
_POSTGRESQL_TOKEN = re.compile(
    r"""
      (?P<space>       [ \t\n\v\f\r]+ )
    | (?P<comment>     --[^\n\r]* | /\* )
    | (?P<string>      [eE]' (?:[^'\\]|\\.|'')* (?:'|\Z) | (?:[uU]&|[bBxXnN])?' [^']* (?:''[^']*)* (?:'|\Z)
                       | (?P<tag>\$(?:(?![0-9$]){id}(?:(?!\$){id})*)?\$) .*? (?:(?P=tag)|\Z) )
    | (?P<quoted>      (?:[uU]&)?" [^"]* (?:""[^"]*)* (?:"|\Z) )
    | (?P<number>      (?>0[xXoObB][0-9a-fA-F_]+
                       | (?:[0-9][0-9_]*(?:\.(?!\.)[0-9_]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?) (?!{id}) )
    | (?P<malformed>   \.?[0-9] (?:{id}|\.)* )
    | (?P<operator>    :: | := | \?[|&](?![|&]) )
    | (?P<placeholder> \?[0-9]* | :(?![0-9$]){id}+ | \$[0-9]+ )
    | (?P<word>        (?![0-9$]){id}+ )
    | (?P<other>       . )
    """.replace("{id}", r"[^\x00-\x23\x25-/:-@\[-^`{-\x7f]"),
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


_FOLD = dict(zip(range(ord("A"), ord("Z") + 1), range(ord("a"), ord("z") + 1), strict=True))


def fold(name: str) -> str:
    """A name as SQLite compares it, and PostgreSQL one without quotes: without the case of ASCII letters only."""
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


class PostgresToken(Token):
    """A piece of SQL text for PostgreSQL, where a name without quotes is one in lower case."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return fold(self.text) if self.kind == "word" else Token.name.fget(self)  # type: ignore[attr-defined]


NOTHING = Token("nothing", "", 0)


def tokenize(sql: str, dialect: DialectName = "sqlite") -> list[Token]:
    """The whole text in pieces; joined they are the text again. No text makes it raise."""
    if dialect == "postgresql":
        return _tokenize_postgresql(sql)
    return [Token(match.lastgroup or "", match[0], match.start()) for match in _TOKEN.finditer(sql)]


def _tokenize_postgresql(sql: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    while match := _POSTGRESQL_TOKEN.match(sql, at):
        kind = match.lastgroup or ""
        end = _comment_end(sql, at) if match[0] == "/*" else match.end()
        kind = {"tag": "string", "other": "operator"}.get(kind, kind)
        found.append(PostgresToken(kind, sql[at:end], at))
        at = end
    return _with_operators(found)


def _comment_end(sql: str, start: int) -> int:
    """Where a comment ends that may have others in it."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


def _with_operators(found: list[Token]) -> list[Token]:
    """A `?` between two values is an operator of jsonb: `data ? 'key'`, `data ? ?`."""
    places = [at for at, token in enumerate(found) if token.kind not in ("space", "comment")]
    for before, at, after in zip(places, places[1:], places[2:], strict=False):
        token, left, right = found[at], found[before], found[after]
        is_value = left.kind in _VALUES or left.symbol in (")", "]")
        if token.text == "?" and is_value and (right.kind in _VALUES - {"word"} or right.symbol in ("(", "ARRAY")):
            found[at] = PostgresToken("operator", "?", token.start)
    return found


def significant(sql: str, dialect: DialectName = "sqlite") -> list[Token]:
    """The tokens without space and comments."""
    return [token for token in tokenize(sql, dialect) if token.kind not in ("space", "comment")]


def says(found: Sequence[Token], *symbols: str) -> bool:
    """Whether these words and operators stand somewhere in it, one behind the other."""
    present = [token.symbol for token in found]
    return any(tuple(present[i : i + len(symbols)]) == symbols for i in range(len(present)))


def first_statement(sql: str, dialect: DialectName = "sqlite") -> tuple[list[Token], bool]:
    """The significant tokens before the `;` that ends the first statement, and whether something stands behind it.

    From the BEGIN of a trigger on only `; END ;` ends it (https://www.sqlite.org/c3ref/complete.html). In PostgreSQL a
    `;` between parentheses belongs to a rule, and one between BEGIN ATOMIC and its END to a function.
    """
    found = significant(sql, dialect)
    if dialect == "postgresql":
        return _first_of_postgresql(found)
    opening = [token for token in found[:3] if token.symbol not in ("TEMP", "TEMPORARY")]
    is_trigger = says(opening[:2], "CREATE", "TRIGGER")
    in_body = False
    for position, token in enumerate(found):
        if token.symbol == "BEGIN":
            in_body = is_trigger
        elif token.symbol == ";" and (not in_body or says(found[position - 2 : position], ";", "END")):
            return found[:position], position + 1 < len(found)
    return found, False


def _first_of_postgresql(found: list[Token]) -> tuple[list[Token], bool]:
    depth = 0
    in_body = 0
    for position, token in enumerate(found):
        symbol = token.symbol
        depth += (symbol == "(") - (symbol == ")")
        if symbol == "BEGIN" and says(found[position + 1 : position + 2], "ATOMIC") and says(found[:1], "CREATE"):
            in_body += 1
        elif in_body:
            in_body += (symbol == "CASE") - (symbol == "END")
        elif symbol == ";" and depth <= 0:
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
