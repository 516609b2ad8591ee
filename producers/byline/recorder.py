"""Records the cleaning of bylines, one session at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import perf_counter
from typing import Any

from ..cleaning import CleaningRecorder, new_id
from ..destination import Store
from ..schema import insert_job
from ..values import utc_now
from .schema import SESSIONS, STEPS
from .session import finished_row, new_remark, new_session, new_step, take_in

logger = logging.getLogger(__name__)


class BylineCleaningTelemetry(CleaningRecorder):
    """A session from a raw byline to its authors, and the steps between, written as one job at the end.

    Without `store` the shared store of `database_url` is opened at the first use. For one session at a time, and
    one thread. Nothing here raises: what cannot be recorded is logged and counted in `failures`.

    `current_session` and `transformation_steps` are what has gathered, by the columns of the tables.
    """

    current_session: dict[str, Any] | None
    transformation_steps: list[dict[str, Any]]
    step_counter: int
    _last_step: float

    def __init__(
        self, enable_telemetry: bool = True, store: Store | None = None, database_url: str | None = None
    ) -> None:
        super().__init__(enable_telemetry, store, database_url, logger=logger)
        self._reset()

    def start_cleaning_session(
        self,
        raw_byline: str | None,
        article_id: str | None = None,
        candidate_link_id: str | None = None,
        source_id: str | None = None,
        source_name: str | None = None,
        source_canonical_name: str | None = None,
    ) -> str:
        """Open a session, and drop one that is open; its telemetry id."""
        telemetry_id = new_id()
        if self.enable_telemetry:
            if self.current_session is not None:
                self._destination.miss("start_cleaning_session while a session is open, which is dropped")
            self._reset()
            with self._destination.guarded():
                self.current_session = new_session(
                    telemetry_id,
                    raw_byline,
                    utc_now(),
                    article_id=article_id,
                    candidate_link_id=candidate_link_id,
                    source_id=source_id,
                    source_name=source_name,
                    source_canonical_name=source_canonical_name,
                )
        return telemetry_id

    def log_transformation_step(
        self,
        step_name: str,
        input_text: str | None,
        output_text: str | None,
        transformation_type: str = "processing",
        removed_content: str | None = None,
        added_content: str | None = None,
        confidence_delta: float = 0.0,
        notes: str | None = None,
    ) -> None:
        """Append a step, which took the time since the one before it, or since the start."""
        session = self.current_session
        if session is None:
            self._without_session("log_transformation_step")
            return
        with self._destination.guarded():
            before, self._last_step = self._last_step, perf_counter()
            step = new_step(
                session["telemetry_id"],
                self.step_counter + 1,
                utc_now(),
                (self._last_step - before) * 1000,
                step_name=step_name,
                input_text=input_text,
                output_text=output_text,
                transformation_type=transformation_type,
                removed_content=removed_content,
                added_content=added_content,
                confidence_delta=confidence_delta,
                notes=notes,
            )
            take_in(session, step)
            self.step_counter += 1
            self.transformation_steps.append(step)

    def log_error(self, error_message: str, error_type: str = "processing") -> None:
        """Note an error of the current step."""
        self._remark("log_error", "cleaning_errors", error_message, error_type)

    def log_warning(self, warning_message: str, warning_type: str = "parsing") -> None:
        """Note a warning at the current step."""
        self._remark("log_warning", "parsing_warnings", warning_message, warning_type)

    def finalize_cleaning_session(
        self,
        final_authors: Iterable[str] | None,
        cleaning_method: str = "standard",
        likely_valid_authors: bool | None = None,
        likely_noise: bool | None = None,
        requires_manual_review: bool | None = None,
    ) -> None:
        """Hand in the session and its steps, all or nothing, and be ready for the next."""
        session = self.current_session
        if session is None:
            self._without_session("finalize_cleaning_session")
            return
        with self._destination.guarded():
            row = finished_row(
                session,
                final_authors,
                (perf_counter() - self._started) * 1000,
                cleaning_method=cleaning_method,
                likely_valid_authors=likely_valid_authors,
                likely_noise=likely_noise,
                requires_manual_review=requires_manual_review,
            )
            dialect = self._destination.dialect
            self._destination.submit(
                insert_job(SESSIONS, row, dialect=dialect),
                insert_job(STEPS, self.transformation_steps, dialect=dialect),
            )
        self._reset()

    def get_session_summary(self) -> dict[str, Any] | None:
        """How the open session stands; None without one."""
        session = self.current_session
        if session is None:
            return None
        return {
            "telemetry_id": session["telemetry_id"],
            "raw_byline": session["raw_byline"],
            "steps_completed": len(self.transformation_steps),
            "confidence_score": session["confidence_score"],
            "has_errors": bool(session["cleaning_errors"]),
            "has_warnings": bool(session["parsing_warnings"]),
        }

    def _remark(self, call: str, where: str, message: object, kind: object) -> None:
        session = self.current_session
        if session is None:
            self._without_session(call)
            return
        with self._destination.guarded():
            session[where].append(new_remark(message, kind, utc_now(), self.step_counter))

    def _reset(self) -> None:
        self.current_session = None
        self.transformation_steps = []
        self.step_counter = 0
        self._started = self._last_step = perf_counter()


#: For programs that share one; it opens the default database at its first session.
telemetry = BylineCleaningTelemetry()
