"""The last status codes of a stored list followed by a given one, inside one statement.

Both databases can take JSON lists apart and put them together, each in its own words. A stored text that is no list
counts as an empty one.
"""

from __future__ import annotations

from telemetry_bus.config import DialectName

#: How many codes are kept.
KEPT = 10


def last_status_codes(stored: str, given: str, dialect: DialectName) -> str:
    """The SQL for the last of both columns of JSON lists, in order, as a JSON list."""
    return _sqlite(stored, given) if dialect == "sqlite" else _postgresql(stored, given)


def _sqlite(stored: str, given: str) -> str:
    # the window gives the aggregate its order; its last row has all of them
    return f"""coalesce((
        SELECT json_group_array(value) OVER (ORDER BY part, place)
        FROM (
            SELECT 0 AS part, key AS place, value FROM json_each(
                CASE WHEN json_valid({stored}) THEN
                    CASE json_type({stored}) WHEN 'array' THEN {stored} ELSE '[]' END
                ELSE '[]' END)
            UNION ALL
            SELECT 1, key, value FROM json_each(coalesce({given}, '[]'))
            ORDER BY 1 DESC, 2 DESC LIMIT {KEPT}
        )
        ORDER BY part DESC, place DESC LIMIT 1
    ), '[]')"""


#: A list of numbers, words and plain strings. PostgreSQL before version 16 cannot be asked whether text is JSON.
_SCALAR = r'(-{0,1}(0|[1-9][0-9]*)([.][0-9]+){0,1}|null|true|false|"[^"\\[:cntrl:]]*")'
_LIST = f"^[[] *({_SCALAR}( *, *{_SCALAR})*){{0,1}} *[]]$"


def _postgresql(stored: str, given: str) -> str:
    return f"""(
        SELECT '[' || coalesce(string_agg(CAST(value AS text), ',' ORDER BY part, place), '') || ']'
        FROM (
            SELECT 0 AS part, place, value FROM jsonb_array_elements(
                CAST(CASE WHEN {stored} ~ '{_LIST}' THEN {stored} ELSE '[]' END AS jsonb)
            ) WITH ORDINALITY AS old(value, place)
            UNION ALL
            SELECT 1, place, value FROM jsonb_array_elements(
                CAST(coalesce({given}, '[]') AS jsonb)
            ) WITH ORDINALITY AS new(value, place)
            ORDER BY 1 DESC, 2 DESC LIMIT {KEPT}
        ) AS latest
    )"""
