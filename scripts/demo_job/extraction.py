"""Title, author, text and date of a Python source file, by several methods that are tried in order."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from time import perf_counter

from .corpus import SourceFile


class NothingFound(Exception):
    """The method works on this file, but the file does not hold what it looks for."""


#: What a method meets in files that are broken or too deep for it. Anything else is a fault of this program.
FAILURES = (NothingFound, SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError)


@dataclass(frozen=True, slots=True)
class Fields:
    """What is looked for. `published` is a day or a year."""

    title: str | None = None
    author: str | None = None
    text: str | None = None
    published: str | None = None

    @property
    def is_complete(self) -> bool:
        return bool(self.title and self.text)

    def filled_with(self, other: Fields) -> Fields:
        """These fields, with those of `other` where nothing is known yet."""
        return Fields(
            self.title or other.title,
            self.author or other.author,
            self.text or other.text,
            self.published or other.published,
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One method on one file; `error` is None when it found title and text."""

    method: str
    took_ms: float
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Extraction:
    """What became of one file. `error` is that of the first method that failed."""

    file: SourceFile
    started_at: datetime
    took_ms: float
    fields: Fields
    attempts: tuple[Attempt, ...]
    successful_method: str | None
    error: Exception | None


def extract(file: SourceFile) -> Extraction:
    """Try the methods until title and text are known; each fills what those before it left open."""
    started_at, began = datetime.now(UTC), perf_counter()
    fields, attempts, successful = Fields(), [], None
    try:
        content = Path(file.path).read_bytes()
        for method, run in METHODS.items():
            attempt, found = _attempt(method, run, content)
            attempts.append(attempt)
            fields = fields.filled_with(found)
            if fields.is_complete:
                successful = method
                break
        error = next((attempt.error for attempt in attempts if attempt.error), None)
    except OSError as unreadable:
        error = unreadable
    if not fields.title:
        fields = replace(fields, title=Path(file.path).stem)
    return Extraction(file, started_at, _ms_since(began), fields, tuple(attempts), successful, error)


def _attempt(method: str, run: Callable[[bytes], Fields], content: bytes) -> tuple[Attempt, Fields]:
    began, found = perf_counter(), Fields()
    try:
        found = run(content)
        if not found.is_complete:
            raise NothingFound(f"{method} finds no text")
    except FAILURES as error:
        return Attempt(method, _ms_since(began), error), found
    return Attempt(method, _ms_since(began)), found


def _ms_since(began: float) -> float:
    return (perf_counter() - began) * 1000


def from_syntax_tree(content: bytes) -> Fields:
    """The docstrings, and the names that modules carry by custom (`__author__`, `__date__`)."""
    tree = ast.parse(content)
    text = "\n\n".join(_docstrings(tree))
    named = dict(_named_strings(tree))
    found = _from_text(text)
    return replace(
        found,
        author=named.get("__author__") or found.author,
        published=_published(named.get("__date__", "")) or found.published,
    )


def _docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    if docstring := ast.get_docstring(node):
        yield docstring
    for inner in node.body:
        if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(inner)


def _named_strings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value))):
                yield name, value


def from_comments(content: bytes) -> Fields:
    """The comments, in the order of the file."""
    tokens = tokenize.tokenize(io.BytesIO(content).readline)
    comments = [token.string.lstrip("#!").strip() for token in tokens if token.type == tokenize.COMMENT]
    return _from_text("\n".join(comment for comment in comments if "coding:" not in comment))


def from_plain_text(content: bytes) -> Fields:
    """The whole file as text, whatever it is: bytes that are not UTF-8 are replaced."""
    return _from_text(content.decode("utf-8", errors="replace"))


METHODS: dict[str, Callable[[bytes], Fields]] = {
    "ast": from_syntax_tree,
    "tokenize": from_comments,
    "plain": from_plain_text,
}

_TITLE = re.compile(r"^\W*(\w.*?)\s*$", re.MULTILINE)
_AUTHOR = re.compile(r"^\W*(?:authors?|written by|maintainer)\b\s*[:=]\W*(\w.*?)\s*$", re.MULTILINE | re.IGNORECASE)
_DAY = re.compile(r"\b(?:19|20)\d\d-\d\d-\d\d\b")
_COPYRIGHT = re.compile(r"copyright[^\n]{0,40}?\b((?:19|20)\d\d)\b", re.IGNORECASE)


def _from_text(text: str) -> Fields:
    title, author = _TITLE.search(text), _AUTHOR.search(text)
    return Fields(title and title[1][:200], author and author[1][:200], text.strip() or None, _published(text))


def _published(text: str) -> str | None:
    for day in _DAY.findall(text):
        try:
            return date.fromisoformat(day).isoformat()
        except ValueError:
            continue  # a version number or the like
    year = _COPYRIGHT.search(text)
    return year and year[1]
