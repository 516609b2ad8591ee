"""The command `telemetry-report serve`: its options, and the extra that it needs."""

from __future__ import annotations

from typing import Any

from .catalogue import add_database


def add_pages(subparsers: Any) -> None:
    """The sub-command `serve`."""
    about = "the reports as pages, until a signal ends it"
    parser = subparsers.add_parser("serve", help=about, description=f"Serve {about}.")
    add_database(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; %(default)s by default")
    parser.add_argument("--port", type=int, default=8350, help="%(default)s by default")
    parser.add_argument("--token", help="what a browser must give as the password; needed beyond this machine")


def serve(given: Any) -> int:
    """Answer until a signal ends it. Raises `OSError` without the extra `web`, and when it cannot listen there."""
    try:
        from ..dashboard.server import run
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "jinja2"):
            raise
        raise OSError("the pages need more: pip install 'telemetry-bus[web]'") from error
    run(given.database, given.host, given.port, given.token)
    return 0
