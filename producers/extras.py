"""Libraries that only some producers need: imported at their first use, with an error that names the extra."""

from __future__ import annotations

from types import ModuleType


def import_requests(what: str) -> ModuleType:
    """The module `requests`. Raises `ImportError` saying what needs it and how to install it."""
    try:
        import requests
    except ImportError as error:
        raise ImportError(f"{what} needs requests: pip install 'telemetry-bus[http]'") from error
    return requests
