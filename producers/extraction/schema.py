"""The tables of the extractions and of their hourly rollups, and what becomes of a row that is there already.

A name that is not known is an empty text in a rollup.
"""

from __future__ import annotations

from telemetry_bus.config import DialectName

from ..kinds import BIG_INTEGER, FLAG, INTEGER, JSON, MOMENT, REAL, SECOND, TEXT
from ..moments import comparable, later
from ..schema import NOW, Column, Index, Table, Upsert, defaults_to_now, serial_id
from .metrics import FIELDS

EXTRACTIONS = Table(
    "extraction_telemetry_v2",
    serial_id(),
    Column("operation_id", TEXT, required=True),
    Column("article_id", TEXT, required=True),
    Column("url", TEXT, required=True),
    Column("publisher", TEXT),
    Column("host", TEXT),
    Column("start_time", MOMENT, required=True),
    Column("end_time", MOMENT),
    Column("total_duration_ms", REAL),
    Column("http_status_code", INTEGER),
    Column("http_error_type", TEXT),
    Column("response_size_bytes", BIG_INTEGER),
    Column("response_time_ms", REAL),
    Column("methods_attempted", JSON),
    Column("successful_method", TEXT),
    Column("method_timings", JSON),
    Column("method_success", JSON),
    Column("method_errors", JSON),
    Column("field_extraction", JSON),
    Column("extracted_fields", JSON),
    Column("final_field_attribution", JSON),
    Column("alternative_extractions", JSON, added=True),
    Column("content_length", BIG_INTEGER),
    Column("is_success", FLAG),
    Column("error_message", TEXT),
    Column("error_type", TEXT),
    defaults_to_now("created_at"),
    Column("proxy_used", INTEGER, added=True),
    Column("proxy_url", TEXT, added=True),
    Column("proxy_authenticated", INTEGER, added=True),
    Column("proxy_status", INTEGER, added=True),
    Column("proxy_error", TEXT, added=True),
    Column("rollup_hour", SECOND, added=True),  # the hour of the rollups that it is in; NULL: it is in none
    indexes=(
        Index("ix_extraction_telemetry_v2_article_id", ("article_id",)),
        Index("ix_extraction_telemetry_v2_created_at", ("created_at",)),
        Index("ix_extraction_telemetry_v2_host", ("host",)),
        Index("ix_extraction_telemetry_v2_is_success", ("is_success",)),
        Index("ix_extraction_telemetry_v2_operation_id", ("operation_id",)),
        Index("ix_extraction_telemetry_v2_publisher", ("publisher",)),
        Index("ix_extraction_telemetry_v2_rollup_hour", ("rollup_hour",)),
        Index("ix_extraction_telemetry_v2_successful_method", ("successful_method",)),
        Index("ix_extraction_telemetry_v2_url", ("url",)),
    ),
)

HTTP_ERRORS = Table(
    "http_error_summary",
    serial_id(),
    Column("host", TEXT, required=True),
    Column("status_code", INTEGER, required=True),
    Column("error_type", TEXT, required=True),
    Column("count", INTEGER, default="1"),
    Column("first_seen", MOMENT, default=NOW),
    Column("last_seen", MOMENT, default=NOW),
    indexes=(Index("idx_http_error_summary_key", ("host", "status_code"), unique=True),),
)

DETECTIONS = Table(
    "content_type_detection_telemetry",
    serial_id(),
    Column("article_id", TEXT, required=True),
    Column("operation_id", TEXT),
    Column("url", TEXT, required=True),
    Column("publisher", TEXT),
    Column("host", TEXT),
    Column("status", TEXT, required=True),
    Column("confidence", TEXT),
    Column("confidence_score", REAL),
    Column("reason", TEXT),
    Column("evidence", JSON),
    Column("version", TEXT),
    Column("detected_at", MOMENT),
    defaults_to_now("created_at"),
    Column("detected_type", TEXT, required=True, default="'unknown'", added=True),
    Column("detection_method", TEXT, required=True, default="'content_type_detector'", added=True),
)

#: Statuses from here on are errors.
LEAST_ERROR_STATUS = 300
#: A `status` of its own for a failure without one, which is a timeout for example; and for a success without one.
NO_RESPONSE, NOT_TOLD = 0, -1

#: Extractions of an hour. `duration_ms` sums up those that are `timed`.
ROLLUPS = Table(
    "extraction_rollups",
    Column("hour", SECOND, key=True),
    Column("publisher", TEXT, key=True),
    Column("host", TEXT, key=True),
    Column("method", TEXT, key=True),
    Column("status", INTEGER, key=True),
    Column("extractions", INTEGER, required=True),
    Column("successes", INTEGER, required=True),
    Column("timed", INTEGER, required=True),
    Column("duration_ms", REAL, required=True),
    Column("last_seen", SECOND, required=True),
    clustered=True,
)

#: The hours of a day, as columns.
HOURS = tuple(f"h{hour:02}" for hour in range(24))

#: Their durations, as a histogram: see `producers.histogram`. A row has a day by its hours: most buckets come back in
#: each of them, and a report over days reads a tenth of the rows.
DURATION_ROLLUPS = Table(
    "extraction_daily_durations",
    Column("day", SECOND, key=True),
    Column("publisher", TEXT, key=True),
    Column("host", TEXT, key=True),
    Column("bucket", INTEGER, key=True),
    *(Column(hour, INTEGER) for hour in HOURS),
    clustered=True,
)

#: Each method of theirs: how often it was tried, came to its end, succeeded, and found each field.
METHOD_ROLLUPS = Table(
    "extraction_method_rollups",
    Column("hour", SECOND, key=True),
    Column("publisher", TEXT, key=True),
    Column("method", TEXT, key=True),
    Column("tried", INTEGER, required=True),
    Column("ended", INTEGER, required=True),
    Column("successes", INTEGER, required=True),
    Column("timed", INTEGER, required=True),
    Column("duration_ms", REAL, required=True),
    *(Column(f"found_{name}", INTEGER, required=True) for name in FIELDS),
    clustered=True,
)

ROLLUP_TABLES = (ROLLUPS, DURATION_ROLLUPS, METHOD_ROLLUPS)


def _count_error(dialect: DialectName) -> dict[str, str]:
    """One more error; late news does not take the last moment back."""
    return {
        "count": "coalesce(stored.count, 0) + 1",
        "last_seen": later("last_seen", dialect),
    }


def _errors_united(dialect: DialectName) -> dict[str, str]:
    return {
        "count": "sum(coalesce(count, 0))",
        "first_seen": f"min({comparable('first_seen', dialect)})",
        "last_seen": f"max({comparable('last_seen', dialect)})",
    }


COUNT_ERROR = Upsert(("host", "status_code"), _count_error, united=_errors_united)


def adding(table: Table, given: tuple[str, ...]) -> Upsert:
    """Of a table of rollups: the given numbers are added to those that are there, the last moment stays."""
    key = tuple(column.name for column in table.columns.values() if column.key)
    sums = [name for name in given if table.columns[name].kind in (INTEGER, REAL) and name not in key]

    def changes(dialect: DialectName) -> dict[str, str]:
        added = {name: f"coalesce(stored.{name}, 0) + excluded.{name}" for name in sums}
        return added | ({"last_seen": _LAST_SEEN} if "last_seen" in given else {})

    return Upsert(key, changes)


#: Of moments in one form.
_LAST_SEEN = "CASE WHEN stored.last_seen > excluded.last_seen THEN stored.last_seen ELSE excluded.last_seen END"
