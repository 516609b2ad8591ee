"""What is stored of an extraction: values of any kind become rows, and rows a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers.schema import insert_job, together, upsert_job
from producers.values import finite, parse_moment, plain, plain_text, text_or_none, utc_now, whole
from telemetry_bus import Job
from telemetry_bus.config import DialectName

from .metrics import MAX_PROXY_ERROR_LENGTH, ExtractionMetrics
from .proxy import masked_text, masked_url
from .rollups import MethodSums, ended, hour_of, rollup_job, summed, tried
from .schema import COUNT_ERROR, DETECTIONS, EXTRACTIONS, HTTP_ERRORS, LEAST_ERROR_STATUS

#: What a label means where no number is given.
CONFIDENCE = {"very_high": 0.95, "high": 0.85, "medium": 0.5, "low": 0.25}
DETECTION_METHOD = "content_type_detector"


def extraction_job(metrics: ExtractionMetrics, *, dialect: DialectName = "sqlite") -> Job:
    """The job that stores an extraction as it is now: its row, itself in the rollups of its hour, its HTTP error in
    the summary if the status is one, its content-type detection if there is one."""
    row = _extraction(metrics)
    jobs = [insert_job(EXTRACTIONS, row, dialect=dialect), rollup_job(row, _methods(row), dialect=dialect)]
    if has_http_error(metrics):
        jobs.append(upsert_job(HTTP_ERRORS, _http_error(metrics), upsert=COUNT_ERROR, dialect=dialect))
    if isinstance(metrics.content_type_detection, Mapping) and metrics.content_type_detection:
        jobs.append(insert_job(DETECTIONS, _detection(metrics, metrics.content_type_detection), dialect=dialect))
    return together(*jobs)


def _extraction(metrics: ExtractionMetrics) -> dict[str, Any]:
    proxy_url, now = text_or_none(metrics.proxy_url), utc_now()
    return {
        **_identity(metrics),
        "operation_id": _required(metrics.operation_id),
        "start_time": parse_moment(metrics.start_time) or utc_now(),
        "end_time": metrics.end_time,
        "total_duration_ms": finite(metrics.total_duration_ms),
        "http_status_code": whole(metrics.http_status_code),
        "http_error_type": metrics.http_error_type,
        "response_size_bytes": whole(metrics.response_size_bytes),
        "response_time_ms": finite(metrics.response_time_ms),
        "methods_attempted": plain(metrics.methods_attempted),
        "successful_method": metrics.successful_method,
        "method_timings": plain(metrics.finished_timings()),
        "method_success": plain(metrics.method_success),
        "method_errors": metrics.method_errors,
        "field_extraction": plain(metrics.field_extraction),
        "extracted_fields": metrics.extracted_fields,
        "final_field_attribution": metrics.final_field_attribution,
        "alternative_extractions": metrics.alternative_extractions,
        "content_length": whole(metrics.content_length),
        "is_success": metrics.is_success or metrics.successful_method or any(metrics.method_success.values()),
        "error_message": metrics.error_message,
        "error_type": metrics.error_type,
        "proxy_used": int(bool(metrics.proxy_used)),
        "proxy_url": proxy_url and masked_url(proxy_url),
        "proxy_authenticated": int(bool(metrics.proxy_authenticated)),
        "proxy_status": whole(metrics.proxy_status),
        "proxy_error": metrics.proxy_error
        and masked_text(plain_text(metrics.proxy_error), proxy_url)[:MAX_PROXY_ERROR_LENGTH],
        "created_at": now,
        "rollup_hour": hour_of(now),
    }


def _methods(row: Mapping[str, Any]) -> dict[str, MethodSums]:
    """What each method did, from documents as they are stored; one of another shape says nothing, as when it is
    read."""
    found: list[tuple[str, MethodSums]] = []
    timings, successes = row["method_timings"] or {}, row["method_success"] or {}
    if isinstance(timings, dict) and isinstance(successes, dict):
        found += ended(timings, successes)
    attempted, fields = row["methods_attempted"] or [], row["field_extraction"] or {}
    if isinstance(attempted, list) and isinstance(fields, dict):
        found += tried(attempted, fields)
    return summed(found)


def has_http_error(metrics: ExtractionMetrics) -> bool:
    """An error type stays in place when a later response is fine: what counts is the status itself."""
    status = whole(metrics.http_status_code)
    return status is not None and status >= LEAST_ERROR_STATUS and bool(metrics.http_error_type)


def _http_error(metrics: ExtractionMetrics) -> dict[str, Any]:
    now = utc_now()
    return {
        "host": _required(metrics.host),
        "status_code": whole(metrics.http_status_code),
        "error_type": metrics.http_error_type,
        "count": 1,
        "first_seen": now,
        "last_seen": now,
    }


def _detection(metrics: ExtractionMetrics, detection: Mapping[str, Any]) -> dict[str, Any]:
    confidence, score = detection.get("confidence"), finite(detection.get("confidence_score"))
    status = detection.get("status") or "unknown"
    return {
        **_identity(metrics),
        "operation_id": metrics.operation_id,
        "status": status,
        "confidence": confidence,
        "confidence_score": CONFIDENCE.get(plain_text(confidence).lower()) if score is None else score,
        "reason": detection.get("reason"),
        "evidence": detection.get("evidence"),
        "version": detection.get("version"),
        "detected_at": detection.get("detected_at"),
        "detected_type": status,
        "detection_method": detection.get("detection_method") or DETECTION_METHOD,
    }


def _identity(metrics: ExtractionMetrics) -> dict[str, Any]:
    return {
        "article_id": _required(metrics.article_id),
        "url": _required(metrics.url),
        "publisher": metrics.publisher,
        "host": metrics.host,
    }


def _required(value: object) -> str:
    """What its column must have: better an empty text than no row."""
    return text_or_none(value) or ""
