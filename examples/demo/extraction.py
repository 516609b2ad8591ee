"""Title, author, text and date of a Python source file, by several methods that are tried in order."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import uuid
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from producers.extraction import ExtractionMetrics

from .corpus import SourceFile


class NothingFound(Exception):
    """The method works on this file, but the file does not hold what it looks for."""


#: What a method meets in files that are broken or too deep for it. Anything else is a fault of this program.
FAILURES = (NothingFound, SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError)


class Fields(NamedTuple):
    """What is looked for. `publish_date` is a day or a year."""

    title: str | None = None
    author: str | None = None
    content: str | None = None
    publish_date: str | None = None

    @property
    def is_complete(self) -> bool:
        return bool(self.title and self.content)


def extract(file: SourceFile, operation_id: str) -> ExtractionMetrics:
    """Try the methods until one finds title and text; each fills what those before it left open."""
    url = f"file://{file.package}{quote(file.path)}"  # so that the package takes the place of a news site's host
    metrics = ExtractionMetrics(operation_id, str(uuid.uuid4()), url, file.publisher)
    result: dict[str, str] = {}
    found_by: dict[str, str] = {}
    try:
        content = Path(file.path).read_bytes()
        for method, run in METHODS.items():
            found, error = _attempt(metrics, method, run, content)
            for name, value in found.items():
                if name in result:
                    metrics.record_alternative_extraction(method, name, value, result[name])
                else:
                    result[name], found_by[name] = value, method
            if error is None:
                break
    except OSError as unreadable:
        error = unreadable
    if error is not None:
        metrics.error_type, metrics.error_message = type(error).__name__, str(error)
    metrics.finalize({**result, "metadata": {"extraction_methods": found_by}} if result else None)
    return metrics


def _attempt(
    metrics: ExtractionMetrics, method: str, run: Callable[[bytes], Fields], content: bytes
) -> tuple[dict[str, str], Exception | None]:
    fields, error = Fields(), None
    metrics.start_method(method)
    try:
        fields = run(content)
        if not fields.is_complete:
            raise NothingFound(f"{method} finds no text")
    except FAILURES as failure:
        error = failure
    found = {name: value for name, value in fields._asdict().items() if value}
    metrics.end_method(method, error is None, error and f"{type(error).__name__}: {error}", found)
    return found, error


def from_syntax_tree(content: bytes) -> Fields:
    """The docstrings, and the names that modules carry by custom (`__author__`, `__date__`)."""
    tree = ast.parse(content)
    text = "\n\n".join(_docstrings(tree))
    named = dict(_named_strings(tree))
    found = _from_text(text)
    return found._replace(
        author=named.get("__author__") or found.author,
        publish_date=_published(named.get("__date__", "")) or found.publish_date,
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
