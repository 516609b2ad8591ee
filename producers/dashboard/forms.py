"""Forms that change something: taken from these pages alone."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from .pages import answering

#: Of a form.
_MOST_BYTES = 65_536


class Forms:
    """Forms with a secret of this process, which no page of another site can read."""

    def __init__(self) -> None:
        self.secret = secrets.token_urlsafe()

    def taken(self, act: Callable[[Mapping[str, str]], Response]) -> Callable[[Request], Awaitable[Response]]:
        """What answers a form: what `act` makes of its fields, or a refusal."""

        async def answer(request: Request) -> Response:
            if not _of_this_origin(request):
                return PlainTextResponse("This form is of another site.\n", 403)
            if int(request.headers.get("content-length") or _MOST_BYTES + 1) > _MOST_BYTES:
                return PlainTextResponse("This form is too long.\n", 413)
            given = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
            if not hmac.compare_digest(given.get("secret", "").encode(), self.secret.encode()):
                return PlainTextResponse("This form is of an earlier start of the pages: load it again.\n", 403)
            return await run_in_threadpool(answering(lambda _: act(given)), request)

        return answer


def _of_this_origin(request: Request) -> bool:
    """Browsers say from which page a form comes; what is no browser says nothing."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
