"""Which requests are answered, and what every answer forbids the browser."""

from __future__ import annotations

import base64
import binascii
import hmac

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # without one a browser names no origin with a form, not even ours
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Access:
    """Without a token only requests that name this machine's loopback are answered: a page of another site whose name
    was made to point here (DNS rebinding) names that site. With one, those that have it as a bearer token or as the
    password of HTTP's basic authentication, which a browser asks for and keeps for one origin.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await (self._refusal(Request(scope)) or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        if self._token is None:
            if _name(request.headers.get("host", "")) in LOOPBACK:
                return None
            return PlainTextResponse("This page is at localhost only; another name needs --token.\n", 421)
        given = _secret(request.headers.get("authorization", ""))
        if hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token.encode()):
            return None
        challenge = {"WWW-Authenticate": 'Basic realm="telemetry", charset="UTF-8"'}
        return PlainTextResponse("The token is needed, as the password.\n", 401, challenge)


def _name(host: str) -> str:
    """The name in a `Host` header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _secret(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
