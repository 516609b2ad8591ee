"""The reports on extractions: publisher scorecards, HTTP errors, methods, fields."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Protocol

from .report import Column, Grouping, Report, Row, share

#: Of each kind of error so many hosts are shown.
MOST_HOSTS = 10

_ATTEMPTS = Column("total_attempts", "tries", "count")
_SUCCESSES = Column("successful", "ok", "count")
_RATE = Column("success_rate", "success", "rate")
_COUNT = Column("count", "count", "count")

_FIELDS = ("title", "author", "content", "date")


class ExtractionReads(Protocol):
    """What these reports read: `ComprehensiveExtractionTelemetry`, or something that answers as it does."""

    def get_error_summary(self, days: Any = ...) -> list[dict[str, Any]]: ...

    def get_method_effectiveness(self, publisher: Any = ...) -> list[dict[str, Any]]: ...

    def get_publisher_stats(self) -> list[dict[str, Any]]: ...

    def get_field_extraction_stats(self, publisher: Any = ..., method: Any = ...) -> list[dict[str, Any]]: ...


def publishers(
    reads: ExtractionReads, *, publisher: str | None = None, limit: int | None = None, **within: Any
) -> Report:
    """A row per publisher and host: the publisher with the worst rate first, its hosts by their attempts.

    `within` may hold `days`.
    """
    stats = [
        {**row, "success_rate": share(row["successful"], row["total_attempts"])}
        for row in reads.get_publisher_stats(**within)
        if publisher is None or row["publisher"] == publisher
    ]
    stats.sort(key=lambda row: str(row["publisher"] or ""))
    groups = [list(rows) for _, rows in groupby(stats, key=lambda row: row["publisher"])]
    groups.sort(key=lambda rows: (_rate(rows), -_attempts(rows)))
    rows = [row for rows in groups for row in sorted(rows, key=lambda row: -(row["total_attempts"] or 0))]
    return Report(
        title="Publisher scorecards, worst first",
        columns=(
            Column("publisher", "publisher", "name", width=32),
            Column("host", "host", width=29),
            _ATTEMPTS,
            _SUCCESSES,
            _RATE,
            Column("avg_duration_ms", "time", "duration"),
            Column("p95_duration_ms", "p95", "duration"),
            Column("most_common_method", "method", optional=True),
        ),
        rows=rows[:limit],
        counted="combination",
        nothing="No extractions have been recorded" + _of(publisher) + ".",
        closing=f"of {len(rows):,}" if limit is not None and limit < len(rows) else "",
    )


def errors(reads: ExtractionReads, *, days: float = 7) -> Report:
    """HTTP errors of the last days by their kind, failures without a response among them; most frequent first.

    A host application's own telemetry may have nothing but a summary.
    """
    read = getattr(reads, "get_error_counts", reads.get_error_summary)
    rows = sorted(read(days=days), key=lambda row: (str(row["error_type"] or ""), -_number(row["count"])))
    return Report(
        title=f"HTTP errors of the last {_days(days)}",
        columns=(
            Column("error_type", "error type"),
            Column("host", "host", width=40),
            Column("status_code", "status"),
            _COUNT,
            Column("last_seen", "last seen", "moment"),
        ),
        rows=rows,
        counted="record",
        nothing=f"No HTTP errors in the last {_days(days)}.",
        grouping=Grouping("error_type", _total, MOST_HOSTS),
    )


def methods(reads: ExtractionReads, *, publisher: str | None = None, **within: Any) -> Report:
    """How often each method was tried, succeeded, and how long it took."""
    return Report(
        title="Extraction methods" + _of(publisher),
        columns=(
            Column("successful_method", "method"),
            _COUNT,
            _RATE,
            Column("avg_duration", "time", "duration"),
        ),
        rows=reads.get_method_effectiveness(publisher=publisher, **within),
        counted="record",
        nothing="No method has been recorded" + _of(publisher) + ".",
    )


def fields(reads: ExtractionReads, *, publisher: str | None = None, method: str | None = None, **within: Any) -> Report:
    """How often each method found each field, and all of them together."""
    rows = reads.get_field_extraction_stats(publisher=publisher, method=method, **within)
    total = sum(row["count"] for row in rows)
    overall = [
        f"{name} {sum(row[f'{name}_success_rate'] * row['count'] for row in rows) / total:.1%}"
        for name in _FIELDS
        if total
    ]
    return Report(
        title="Fields found" + _of(publisher),
        columns=(
            Column("method", "method"),
            *(Column(f"{name}_success_rate", name, "rate") for name in _FIELDS),
            _COUNT,
        ),
        rows=rows,
        counted="method",
        nothing="No fields have been recorded" + _of(publisher) + ".",
        closing="overall " + ", ".join(overall),
    )


def _total(rows: Sequence[Row]) -> list[tuple[Column, Any]]:
    return [(_COUNT, sum(_number(row["count"]) for row in rows))]


def _attempts(rows: Sequence[Row]) -> int:
    return sum(row["total_attempts"] or 0 for row in rows)


def _rate(rows: Sequence[Row]) -> float:
    return share(sum(row["successful"] or 0 for row in rows), _attempts(rows)) or 0.0


def _number(value: Any) -> int | float:
    """0 for what is none: a column may hold anything in SQLite."""
    return value if isinstance(value, int | float) else 0


def _days(days: float) -> str:
    return "day" if days == 1 else f"{days:g} days"


def _of(publisher: str | None) -> str:
    return f" of {publisher}" if publisher else ""
