"""What is wrong with an extracted article, field by field. Pure rules; nothing of it raises."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

from ..values import parse_moment, plain_text, utc_now

#: The only issue of a field that is not there.
MISSING = ["missing"]

_HTML = re.compile(r"<[^>]+>")
#: One of them is enough to tell that a text is a script.
_STRONG_SCRIPT = tuple(
    re.compile(each, re.IGNORECASE)
    for each in (
        r"function\s*\(",
        r"document\.[a-z]",
        r"window\.[a-z]",
    )
)
#: Two of them are.
_WEAK_SCRIPT = tuple(
    re.compile(each, re.IGNORECASE)
    for each in (
        r"\bvar\s[a-z]",
        r"\bconst\s[a-z]",
        r"\blet\s[a-z]",
        r"addEventListener\s*\(",
        r"getElementById\s*\(",
        r"\$\s*\(",
        r"console\.[a-z]",
        r"=>\s*\{",
        r"\.then\s*\(",
        r"\.catch\s*\(",
        r"JSON\.[a-z]",
    )
)
_SCRIPT_WORDS = ("undefined", "typeof", "instanceof", "prototype")
_ENOUGH_HINTS = 2

_NAVIGATION = (
    "home",
    "about",
    "contact",
    "menu",
    "navigation",
    "breadcrumb",
    "skip to content",
    "main menu",
    "search",
    "login",
    "register",
)
_ERROR_PAGE = (
    "404",
    "not found",
    "page not found",
    "error",
    "something went wrong",
    "access denied",
    "forbidden",
    "server error",
    "maintenance",
)
_OTHER_DATES = ("%m/%d/%Y", "%d/%m/%Y", "%B %d, %Y")
_OLDEST = timedelta(days=3650)
#: What an issue takes from a score of 1.
_PER_ISSUE = 0.1


@dataclass(frozen=True)
class Quality:
    """What was found, lengths in characters, and the issues of each field in the order of the rules."""

    title_length: int | None
    content_length: int | None
    author_count: int | None
    title_issues: list[str] = field(default_factory=list)
    content_issues: list[str] = field(default_factory=list)
    author_issues: list[str] = field(default_factory=list)
    date_issues: list[str] = field(default_factory=list)

    @property
    def score(self) -> float:
        """1.0, less a tenth for each issue, and not below 0.0."""
        issues = self.title_issues + self.content_issues + self.author_issues + self.date_issues
        return round(max(0.0, 1 - _PER_ISSUE * len(issues)), 1)


def judge(article: Mapping[str, Any]) -> Quality:
    """Look at `title`, `content`, `author` and `publish_date` (or `published_date`) of an extracted article."""
    title, content, author = (_text(article.get(name)) for name in ("title", "content", "author"))
    published = article.get("publish_date") or article.get("published_date")
    return Quality(
        title_length=len(title) or None,
        content_length=len(content) or None,
        author_count=sum(1 for name in author.split(",") if name.strip()) or None,
        title_issues=_title_issues(title),
        content_issues=_content_issues(content),
        author_issues=_author_issues(author),
        date_issues=_date_issues(published),
    )


def _title_issues(title: str) -> list[str]:
    if not title:
        return MISSING
    return _found(
        {
            "too_short": len(title) < 10,
            "too_long": len(title) > 200,
            "contains_html": _is_html(title),
            "contains_js": _is_script(title),
            "placeholder_text": title.lower() in ("untitled", "no title", "title"),
        }
    )


def _content_issues(content: str) -> list[str]:
    if not content:
        return MISSING
    lower = content.lower()
    return _found(
        {
            "too_short": len(content) < 100,
            "contains_html": _is_html(content),
            "contains_js": _is_script(content),
            "navigation_text": len(content.split()) < 50 and sum(word in lower for word in _NAVIGATION) > 3,
            "error_messages": any(phrase in lower for phrase in _ERROR_PAGE),
        }
    )


def _author_issues(author: str) -> list[str]:
    if not author:
        return MISSING
    return _found(
        {
            "too_short": len(author) < 2,
            "too_long": len(author) > 100,
            "contains_html": _is_html(author),
            "placeholder_text": author.lower() in ("author", "staff", "unknown", "anonymous"),
        }
    )


def _date_issues(published: object) -> list[str]:
    if not published:
        return MISSING
    if isinstance(published, date) and not isinstance(published, datetime):
        published = datetime.combine(published, time())
    moment = parse_moment(published.strip() if isinstance(published, str) else published)
    if moment is None:
        return [] if _is_other_date(_text(published)) else ["invalid_format"]
    age = utc_now() - moment
    return _found({"future_date": age < timedelta(), "suspiciously_old": age > _OLDEST})


def _is_other_date(text: str) -> bool:
    """Whether it is a date in a form that does not say which day it is everywhere: its age is not judged."""
    for form in _OTHER_DATES:
        try:
            datetime.strptime(text, form)
        except ValueError:
            continue
        return True
    return False


def _found(issues: Mapping[str, bool]) -> list[str]:
    return [issue for issue, is_there in issues.items() if is_there]


def _is_html(text: str) -> bool:
    return _HTML.search(text) is not None


def _is_script(text: str) -> bool:
    if any(pattern.search(text) for pattern in _STRONG_SCRIPT):
        return True
    if sum(pattern.search(text) is not None for pattern in _WEAK_SCRIPT) >= _ENOUGH_HINTS:
        return True
    lower = text.lower()
    return sum(word in lower for word in _SCRIPT_WORDS) >= _ENOUGH_HINTS


def _text(value: object) -> str:
    """The value of a field: text, or a list of names, without the spaces around it."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(_text, value)))
    return plain_text(value).strip()
