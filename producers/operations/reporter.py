"""Tells an API of operations and of their progress."""

from __future__ import annotations

import logging
import os
from typing import Any

from ..extras import import_requests
from ..values import plain, plain_text, utc_now
from .records import plain_record

#: Seconds that one request may take to connect, and between two pieces of its answer.
TIMEOUT_S = 10

logger = logging.getLogger(__name__)


class TelemetryReporter:
    """Sends in the caller's thread: each method returns whether the API took it, within seconds, and never raises.
    `OperationTracker` calls them in a thread of its own.

    Without `api_base_url` nothing is sent. With it the library `requests` is needed; raises `ImportError`, naming the
    extra, when that is not installed.
    """

    def __init__(self, api_base_url: str | None = None, api_key: str | None = None) -> None:
        self.api_base_url = api_base_url.rstrip("/") if api_base_url else None
        self.api_key = api_key
        self._session: Any = None
        self._session_pid: int | None = None  # of the process whose connections it holds
        if self.api_base_url:
            import_requests("TelemetryReporter")

    @property
    def session(self) -> Any:
        """The `requests.Session`, made at the first use; a forked child gets one of its own. May be replaced."""
        if self._session is None or self._session_pid not in (None, os.getpid()):
            self._session = import_requests("TelemetryReporter").Session()
            self._session_pid = os.getpid()
            if self.api_key:
                self._session.headers.update(
                    {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
                )
        return self._session

    @session.setter
    def session(self, session: Any) -> None:
        self._session, self._session_pid = session, None

    def send_operation_event(self, event: Any) -> bool:
        """POST an `OperationEvent` to `/api/v1/telemetry/operations`."""
        return self._send("post", "operations", event)

    def send_progress_update(self, operation_id: str, metrics: Any) -> bool:
        """PUT `OperationMetrics`, with a `timestamp`, to `/api/v1/telemetry/progress/` and the operation's id."""
        return self._send("put", f"progress/{plain_text(operation_id)}", metrics, timestamp=plain(utc_now()))

    def _send(self, method: str, path: str, record: Any, **more: Any) -> bool:
        if not self.api_base_url:
            return False
        try:
            request = getattr(self.session, method)
            url = f"{self.api_base_url}/api/v1/telemetry/{path}"
            request(url, json={**plain_record(record), **more}, timeout=TIMEOUT_S).raise_for_status()
        except Exception as error:
            logger.warning("the telemetry API did not take it: %s: %s", type(error).__name__, error)
            return False
        return True
