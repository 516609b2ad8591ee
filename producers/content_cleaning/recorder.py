"""Records the cleaning of a domain's articles, one session at a time, and reads what is known of a domain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any, TypeVar

from ..cleaning import CleaningRecorder, new_id
from ..destination import Store
from ..schema import insert_job, upsert_job
from ..values import utc_now
from . import reads
from .library import pattern_rows
from .schema import LOCALITY_EVENTS, PATTERNS, SEEN_AGAIN, SEGMENTS, SESSIONS, WIRE_EVENTS
from .session import finish, new_assessment, new_locality_event, new_segment, new_session, new_wire_event

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class ContentCleaningTelemetry(CleaningRecorder):
    """A session over the articles of one domain, and what it found, written as one job at the end.

    Without `store` the shared store of `database_url` is opened at the first use. For one session at a time, and
    one thread. Recording never raises: what cannot be recorded is logged and counted in `failures`. Reading gives
    the empty value when it fails or telemetry is off.

    `current_session` and the lists are what has gathered, by the columns of the tables.
    """

    current_session: dict[str, Any] | None
    detected_segments: list[dict[str, Any]]
    wire_detection_events: list[dict[str, Any]]
    locality_detection_events: list[dict[str, Any]]
    detection_counter: int
    _last_boundary_assessment: dict[str, Any] | None

    def __init__(
        self, enable_telemetry: bool = True, store: Store | None = None, database_url: str | None = None
    ) -> None:
        super().__init__(enable_telemetry, store, database_url, logger=logger)
        self._reset_session_state()

    def start_cleaning_session(
        self, domain: str, article_count: int, min_occurrences: int = 3, min_boundary_score: float = 0.3
    ) -> str:
        """Open a session, and drop one that is open; its telemetry id, or "" when telemetry is off."""
        if not self.enable_telemetry:
            return ""
        if self.current_session is not None:
            self._destination.miss("start_cleaning_session while a session is open, which is dropped")
        self._reset_session_state()
        telemetry_id = new_id()
        with self._destination.guarded():
            self.current_session = new_session(
                telemetry_id,
                self.session_id,
                utc_now(),
                domain=domain,
                article_count=article_count,
                min_occurrences=min_occurrences,
                min_boundary_score=min_boundary_score,
            )
        return telemetry_id

    def log_segment_detection(
        self,
        segment_text: str,
        boundary_score: float,
        occurrences: int,
        pattern_type: str,
        position_consistency: float,
        segment_length: int,
        article_ids: Iterable[str] | None,
        was_removed: bool | None = False,
        removal_reason: str | None = None,
    ) -> None:
        """A segment that may be boilerplate. If removed, sure and of a known type it enters the library."""
        session = self.current_session
        if session is None:
            self._without_session("log_segment_detection")
            return
        with self._destination.guarded():
            segment = new_segment(
                session,
                self.detection_counter + 1,
                utc_now(),
                segment_text=segment_text,
                boundary_score=boundary_score,
                occurrences=occurrences,
                pattern_type=pattern_type,
                position_consistency=position_consistency,
                segment_length=segment_length,
                article_ids=article_ids,
                was_removed=was_removed,
                removal_reason=removal_reason,
            )
            self.detection_counter += 1
            self.detected_segments.append(segment)

    def log_wire_detection(
        self,
        provider: str,
        detection_method: str,
        pattern_text: str | None,
        confidence: float,
        detection_stage: str,
        article_ids: Iterable[str] | None = None,
        domain: str | None = None,
        extra_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Articles that come from a wire service; their domain is the session's by default."""
        session = self.current_session
        if session is None:
            self._without_session("log_wire_detection")
            return
        with self._destination.guarded():
            self.wire_detection_events.append(
                new_wire_event(
                    session,
                    utc_now(),
                    provider=provider,
                    detection_method=detection_method,
                    pattern_text=pattern_text,
                    confidence=confidence,
                    detection_stage=detection_stage,
                    article_ids=article_ids,
                    domain=domain,
                    extra_metadata=extra_metadata,
                )
            )

    def log_locality_detection(
        self,
        provider: str,
        detection_method: str,
        article_id: str | None,
        domain: str | None,
        locality: Mapping[str, Any] | None,
        source_context: Mapping[str, Any] | None = None,
    ) -> None:
        """A wire service's article that was judged local, or not; `locality` has the keys `is_local`, `confidence`,
        `raw_score`, `threshold`, `signals`. Without it nothing is recorded."""
        session = self.current_session
        if session is None:
            self._without_session("log_locality_detection")
            return
        with self._destination.guarded():
            if locality:
                self.locality_detection_events.append(
                    new_locality_event(
                        session,
                        utc_now(),
                        provider=provider,
                        detection_method=detection_method,
                        article_id=article_id,
                        domain=domain,
                        locality=locality,
                        source_context=source_context,
                    )
                )

    def log_boundary_assessment(
        self, text: str, score: float, score_breakdown: Mapping[str, Any], detected_patterns: Iterable[Any]
    ) -> None:
        """Keep the latest assessment of a text's boundaries in memory; it is not stored."""
        if self.current_session is None:
            self._without_session("log_boundary_assessment")
            return
        with self._destination.guarded():
            self._last_boundary_assessment = new_assessment(text, score, score_breakdown, detected_patterns)

    def finalize_cleaning_session(
        self,
        rough_candidates_found: int,
        segments_detected: int,
        total_removable_chars: int,
        removal_percentage: float,
        processing_time_ms: float | None = None,
    ) -> None:
        """Hand in the session and everything found, all or nothing, and be ready for the next.

        `processing_time_ms` is the time since the start by default.
        """
        session = self.current_session
        if session is None:
            self._without_session("finalize_cleaning_session")
            return
        with self._destination.guarded():
            if processing_time_ms is None:
                processing_time_ms = (perf_counter() - self._started) * 1000
            finish(
                session,
                utc_now(),
                rough_candidates_found=rough_candidates_found,
                segments_detected=segments_detected,
                total_removable_chars=total_removable_chars,
                removal_percentage=removal_percentage,
                processing_time_ms=processing_time_ms,
            )
            self._submit(session)
        self._reset_session_state()

    def shutdown(self, wait: bool = False) -> None:
        """With `wait`, `flush()`. The store stays open: it may be shared."""
        if wait:
            self.flush()

    def get_persistent_patterns(self, domain: str) -> list[dict[str, Any]]:
        """A domain's active patterns of every type, the surest first: `pattern_type`, `text_content`,
        `confidence_score`, `occurrences_total`, `removal_reason`, `is_ml_training_eligible`."""
        return self._read(reads.persistent_patterns, domain, otherwise=[])

    def get_ml_training_patterns(self, domain: str | None = None) -> list[dict[str, Any]]:
        """The active patterns of a domain, or of all, that models may be trained on: `domain`, `pattern_type`,
        `text_content`, `confidence_score`, `occurrences_total`, `removal_reason`."""
        return self._read(reads.training_patterns, domain, otherwise=[])

    def get_telemetry_patterns(self, domain: str | None = None, include_dynamic: bool = True) -> list[dict[str, Any]]:
        """The same with `is_ml_training_eligible` and `pattern_category` ("persistent" or "dynamic"); also those
        that change, unless `include_dynamic` is off."""
        return self._read(reads.telemetry_patterns, domain, include_dynamic, otherwise=[])

    def get_domain_telemetry_summary(self, domain: str) -> dict[str, Any]:
        """A domain's `session_summary` (`session_count`, `avg_segments`, `avg_removal_pct`, `last_analysis`) and
        `pattern_breakdown`: for each `pattern_type` its `detection_count`, `avg_boundary_score`, `removed_count`."""
        return self._read(reads.domain_summary, domain, otherwise={})

    def _submit(self, session: dict[str, Any]) -> None:
        dialect = self._destination.dialect
        patterns = list(pattern_rows(session["domain"], self.detected_segments, session["end_time"]))
        self._destination.submit(
            insert_job(SESSIONS, session, dialect=dialect),
            insert_job(SEGMENTS, self.detected_segments, dialect=dialect),
            insert_job(WIRE_EVENTS, self.wire_detection_events, dialect=dialect),
            insert_job(LOCALITY_EVENTS, self.locality_detection_events, dialect=dialect),
            upsert_job(PATTERNS, patterns, upsert=SEEN_AGAIN, dialect=dialect),
            upserted=(PATTERNS, SEEN_AGAIN) if patterns else None,
        )

    def _read(self, read: Callable[..., _Result], *arguments: object, otherwise: _Result) -> _Result:
        if self.enable_telemetry:
            try:
                return read(self._destination, *arguments)
            except Exception:
                logger.warning("the telemetry of content cleaning cannot be read", exc_info=True)
        return otherwise

    def _reset_session_state(self) -> None:
        self.current_session = None
        self.detected_segments = []
        self.wire_detection_events = []
        self.locality_detection_events = []
        self.detection_counter = 0
        self._last_boundary_assessment = None
        self._started = perf_counter()
