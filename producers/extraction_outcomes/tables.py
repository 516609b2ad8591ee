"""The table of extraction outcomes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, Integer, MetaData, Table, text
from sqlalchemy.types import TypeEngine

from ..columns import Flag, JsonText, PlainText, Real, UtcTimestamp, added, defaults_to_now, serial_id

METADATA = MetaData()

#: Numbers in some crawlers, text in others. SQLite keeps text in a column of integers as it is.
ArticleId: TypeEngine[Any] = PlainText().with_variant(Integer(), "sqlite")


def _flag(name: str) -> Column[bool]:
    return Column(name, Flag(), nullable=False, server_default=text("FALSE"))


EXTRACTION_OUTCOMES = Table(
    "extraction_outcomes",
    METADATA,
    serial_id(),
    Column("operation_id", PlainText(), nullable=False),
    Column("article_id", ArticleId, nullable=False),
    Column("url", PlainText(), nullable=False),
    Column("outcome", PlainText(), nullable=False),
    Column("extraction_time_ms", Real, nullable=False, server_default=text("0.0")),
    Column("start_time", UtcTimestamp(), nullable=False),
    Column("end_time", UtcTimestamp(), nullable=False),
    Column("http_status_code", Integer),
    Column("response_size_bytes", Integer),
    _flag("has_title"),
    _flag("has_content"),
    _flag("has_author"),
    _flag("has_publish_date"),
    Column("content_length", Integer),
    Column("title_length", Integer),
    Column("author_count", Integer),
    Column("content_quality_score", Real),
    Column("error_message", PlainText()),
    Column("error_type", PlainText()),
    _flag("is_success"),
    _flag("is_content_success"),
    _flag("is_technical_failure"),
    _flag("is_bot_protection"),
    Column("metadata", JsonText()),
    defaults_to_now("timestamp"),
    added(Column("title_quality_issues", JsonText())),
    added(Column("content_quality_issues", JsonText())),
    added(Column("author_quality_issues", JsonText())),
    added(Column("publish_date_quality_issues", JsonText())),
    added(Column("overall_quality_score", Real)),
    added(Column("title_has_issues", Flag())),
    added(Column("content_has_issues", Flag())),
    added(Column("author_has_issues", Flag())),
    added(Column("publish_date_has_issues", Flag())),
    Index("idx_extraction_operation", "operation_id"),
    Index("idx_extraction_article", "article_id"),
    Index("idx_extraction_outcome", "outcome"),
    Index("idx_extraction_success", "is_success"),
    Index("idx_extraction_content_success", "is_content_success"),
    Index("idx_extraction_timestamp", "timestamp"),
    Index("idx_extraction_url", "url"),
    Index("idx_extraction_quality", "content_quality_score"),
    sqlite_autoincrement=True,
)
