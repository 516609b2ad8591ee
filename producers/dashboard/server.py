"""The pages on a port of this machine."""

from __future__ import annotations

import socket

import uvicorn

from .access import LOOPBACK
from .app import make_app


def run(database: str | None, host: str, port: int, token: str | None) -> None:
    """Answer until a signal ends it. Raises `OSError` when it cannot listen there, or would without a token."""
    if host not in LOOPBACK and not token:
        raise OSError(f"others can reach {host}: it needs --token")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise OSError(f"cannot listen at {host}, port {port}: {why}") from error
    with listening:
        name = f"[{host}]" if ":" in host else host
        print(f"http://{name}:{listening.getsockname()[1]}/", flush=True)
        config = uvicorn.Config(make_app(database, token), log_level="warning", lifespan="off")
        uvicorn.Server(config).run(sockets=[listening])
