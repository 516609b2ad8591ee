"""What is recorded of a proxy: its status as a number, its URL and errors without credentials."""

from __future__ import annotations

import re

from producers.values import plain_text

PROXY_STATUS_DISABLED = 0
PROXY_STATUS_SUCCESS = 1
PROXY_STATUS_FAILED = 2
PROXY_STATUS_BYPASSED = 3

_STATUSES = {
    "disabled": PROXY_STATUS_DISABLED,
    "success": PROXY_STATUS_SUCCESS,
    "failed": PROXY_STATUS_FAILED,
    "bypassed": PROXY_STATUS_BYPASSED,
}
_BETWEEN_WORDS = re.compile(r"""([\s'"<>]+)""")


def proxy_status_to_int(status: object) -> int | None:
    """The number of `disabled`, `success`, `failed` or `bypassed`, in any case; None for anything else."""
    return _STATUSES.get(plain_text(status).lower())


def masked_url(url: str) -> str:
    """The URL with `***` for its password, or for its whole user part where that has no password.

    Works on broken URLs too: everything before the last `@` is taken as user and password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or ":" in scheme or "@" in scheme:
        scheme, separator, rest = "", "", url
    credentials, at, host = rest.rpartition("@")
    if not at:
        return url
    user, _, password = credentials.partition(":")
    return f"{scheme}{separator}{f'{user}:***' if password else '***'}@{host}"


def masked_text(text: str, url: str | None) -> str:
    """The text with `url`, and every other URL in it, masked."""
    if url:
        text = text.replace(url, masked_url(url))
    return "".join(masked_url(word) if ":" in word.rpartition("@")[0] else word for word in _BETWEEN_WORDS.split(text))
