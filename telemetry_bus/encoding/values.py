"""Values and whole jobs to bytes and back: msgpack, with extension types for what msgpack does not know.

A row is a msgpack array of values. `None`, `bool`, 64-bit `int`, `float`, `str` and `bytes` are msgpack's own;
`datetime`, `date`, `time`, `Decimal` and `UUID` travel as extension types that hold their text, so that a
database that stores text takes it as it is, and one with richer types can parse it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, NoReturn
from uuid import UUID

import msgpack

from ..errors import JobTooLarge, ProtocolError, TelemetryError, UnsupportedValue, shorten
from ..jobs import MAX_JOB_BYTES, MAX_JOB_ROWS, Job, Row, Statement

#: Arrays of one job: one for each row, two for each statement, and a few around them.
_MAX_ARRAYS = 2 * MAX_JOB_ROWS + 1000

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
#: The msgpack type byte of an unsigned 64-bit integer, the only one that can exceed a signed one.
UINT64 = 0xCF

#: The heads of arrays that msgpack writes in one byte, by their length.
_SHORT_ARRAYS = [bytes((0x90 | length,)) for length in range(16)]

_TEXT_FORMS: dict[type, tuple[int, Callable[[Any], str]]] = {
    datetime: (1, lambda value: value.isoformat(" ")),  # the form of sqlite3's default adapter
    date: (2, date.isoformat),
    time: (3, time.isoformat),
    Decimal: (4, str),
    UUID: (5, str),
}
_EXTENSION_CODES = frozenset(code for code, _ in _TEXT_FORMS.values())
_STORABLE = frozenset({type(None), bool, int, float, str, bytes, *_TEXT_FORMS})

ExtHook = Callable[[int, bytes], Any]


def packer() -> msgpack.Packer:
    """A packer for rows. Not for use by two threads at once.

    Strict: what is not exactly one of msgpack's own types comes to `_extension`, and so do tuples.
    """
    return msgpack.Packer(default=_extension, use_bin_type=True, strict_types=True)


def pack_row(pack: Callable[[Any], bytes], row: Row) -> bytes:
    """One row as msgpack. `pack` is the method of a `packer()`.

    Raises `UnsupportedValue`, naming type and position, for what no column can hold.
    """
    try:
        hash(tuple(row))  # the quickest way to find lists and mappings, which msgpack would take as they are
        data = pack([*row])
    except Exception:  # of whatever kind: the hash may be the program's own code
        data = _pack_with_care(pack, row)
    if UINT64 in data:
        _check_integers(msgpack.unpackb(data))  # not the row: an object may have become an integer
    return data


def pack_rows(pack: Callable[[Any], bytes], rows: Iterable[Row]) -> bytes:
    """Many rows as one msgpack array of rows. Raises as `pack_row`, naming the row too."""
    parts: list[bytes] = []
    try:
        for row in rows:
            parts.append(pack_row(pack, row))
    except UnsupportedValue as error:
        error.message = f"row {len(parts) + 1}, {error.message}"
        raise
    return pack_parts(parts)


def pack_parts(parts: Sequence[bytes]) -> bytes:
    """A msgpack array of objects that are packed already."""
    count = len(parts)
    head = _SHORT_ARRAYS[count] if count < len(_SHORT_ARRAYS) else b"\xdd" + count.to_bytes(4, "big")
    return head + b"".join(parts)


def refuse_nul(rows: Iterable[Row], sql: str) -> None:
    """Raises `UnsupportedValue` for a text with the character NUL, which PostgreSQL does not store."""
    for row in rows:
        for position, value in enumerate(row, 1):
            if isinstance(value, str) and "\0" in value:
                raise UnsupportedValue(
                    f"value {position}: PostgreSQL stores no text with a NUL in it",
                    operation="submit",
                    subject=sql,
                    hint="take the NUL out, or store bytes in a column of type bytea",
                )


def is_no_value(value: Any) -> bool:
    """Whether it stands for none where a date or a number is expected: NaN of decimal, NaT and NA of pandas, NaT of
    numpy."""
    if isinstance(value, Decimal):
        return value.is_nan()
    kind = type(value)
    if kind.__module__ == "numpy":
        return kind.__name__ in ("datetime64", "timedelta64") and bool(value != value)
    return kind.__name__ in ("NaTType", "NAType") and kind.__module__.startswith("pandas.")


def from_numpy(value: Any) -> Any:
    """What Python has for a scalar of numpy; anything else stays as it is, as do those that Python has no form for,
    like a point in time in nanoseconds."""
    kind = type(value)
    if kind.__module__ != "numpy" or kind.__mro__[-2].__name__ != "generic":
        return value
    plain = value.item()
    is_number_of_units = type(plain) is int and not hasattr(kind, "__index__")
    return value if is_number_of_units or type(plain) is kind else plain


def check_rows(job: Job, size: int) -> None:
    """Raises `JobTooLarge` when one job, of `size` bytes encoded, has more rows and statements than the limit."""
    if size <= MAX_JOB_ROWS // 2:  # a byte holds a statement and its only row at most
        return
    rows = len(job.statements) + sum(len(statement.rows) for statement in job.statements)
    if rows > MAX_JOB_ROWS:
        raise JobTooLarge(
            f"the job has {rows:,} rows and statements, at most {MAX_JOB_ROWS:,} are taken",
            operation="submit",
            subject=job.statements[0].sql,
            hint="split it into several jobs",
        )


def check_size(size: int, subject: str = "") -> None:
    """Raises `JobTooLarge` when one encoded job is over the limit."""
    if size > MAX_JOB_BYTES:
        raise JobTooLarge(
            f"the job is {size} bytes encoded, at most {MAX_JOB_BYTES} are taken",
            operation="submit",
            subject=subject,
            hint="split it into several jobs",
        )


def unpack(data: bytes, *, ext_hook: ExtHook | None = None) -> Any:
    """One msgpack object; extension types become text unless `ext_hook` says otherwise.

    Raises `ProtocolError` for anything that is not exactly one well-formed object without maps, and for more arrays
    than a job can have, of which 8 MiB would take more than a gigabyte.
    """
    try:
        return msgpack.unpackb(
            data,
            ext_hook=ext_hook or text_of_extension,
            max_map_len=0,
            raw=False,
            strict_map_key=True,
            list_hook=_counted_arrays() if len(data) > _MAX_ARRAYS else None,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise ProtocolError(f"malformed msgpack: {error}", operation="decode") from None


def _counted_arrays() -> Callable[[list[Any]], list[Any]]:
    left = iter(range(_MAX_ARRAYS))

    def hook(array: list[Any]) -> list[Any]:
        if next(left, None) is None:
            raise ValueError(f"more than {_MAX_ARRAYS} arrays")
        return array

    return hook


def unpack_sequence(count: int, data: bytes, *, ext_hook: ExtHook | None = None) -> list[Any]:
    """`count` msgpack objects that lie one behind the other. Raises `ProtocolError`.

    One call of the C decoder for all of them: an array header in front makes them one object.
    """
    objects: list[Any] = unpack(b"\xdd" + count.to_bytes(4, "big") + data, ext_hook=ext_hook)
    return objects


def text_of_extension(code: int, data: bytes) -> str | msgpack.ExtType:
    """The text that an extension type holds: what a database without richer types stores.

    One that is not ours, or no text, stays as it is: the database refuses it, and the job is a dead letter.
    """
    if code in _EXTENSION_CODES:
        with suppress(UnicodeDecodeError):
            return str(data, "utf-8")
    return msgpack.ExtType(code, data)


def pack_job(job: Job) -> bytes:
    """A job as bytes that need nothing else to be understood (dead letters)."""
    pack = packer().pack
    statements = [pack_parts([pack(statement.sql), pack_rows(pack, statement.rows)]) for statement in job.statements]
    return pack_parts([pack([*job.ensure]), pack_parts(statements)])


def unpack_job(data: bytes) -> Job:
    """The inverse of `pack_job`, values ready for the database's driver. Raises `ProtocolError`."""
    try:
        ensure, statements = unpack(data)
        return Job(tuple(Statement(sql, tuple(map(tuple, rows))) for sql, rows in statements), tuple(ensure))
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"not a job: {error}", operation="decode") from None


def _pack_with_care(pack: Callable[[Any], bytes], row: Row) -> bytes:
    """A row that `pack` has refused, with what can be made storable; raises for the value to blame."""
    storable = [_storable_with_care(value, position) for position, value in enumerate(row, 1)]
    try:
        return pack(storable)
    except (UnicodeEncodeError, OverflowError, ValueError) as error:
        _blame(storable, error)


def _storable_with_care(value: Any, position: int) -> Any:
    """As `_storable`; a value whose own methods fail, as those of an array of numpy, cannot be stored either."""
    try:
        return _storable(value, position)
    except TelemetryError:
        raise
    except Exception as error:
        raise UnsupportedValue(
            f"value {position} is of type {_name_of(type(value))} and cannot be converted: {shorten(str(error))}",
            operation="submit",
            hint="store its text, or json.dumps() of it",
        ) from error


def _extension(value: Any) -> Any:
    """What msgpack asks for: types that it does not have, subclasses of those that it has, integers beyond 64 bit."""
    form = _TEXT_FORMS.get(type(value))
    if form is None or (form is _TEXT_FORMS[Decimal] and value.is_nan()):
        return _storable(value, 0)
    code, text = form
    return msgpack.ExtType(code, text(value).encode())


def _storable(value: Any, position: int) -> Any:
    """`value` as one of the storable types: subclasses become their base, enumerations their value as text (none and
    bytes as they are), scalars of numpy what Python has for them."""
    kind = type(value)
    if is_no_value(value):
        return None
    if kind in _STORABLE:
        return value
    if isinstance(value, Enum) and not isinstance(value, int):
        plain = value.value
        return plain if isinstance(plain, bytes) else None if plain is None or is_no_value(plain) else str(plain)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    for base, (code, text) in _TEXT_FORMS.items():
        if isinstance(value, base):
            return msgpack.ExtType(code, text(value).encode())
    if hasattr(kind, "__index__"):  # the integers of numpy
        return operator.index(value)
    if (plain := from_numpy(value)) is not value:
        return _storable(plain, position)
    raise UnsupportedValue(
        f"value {position} is of type {_name_of(kind)}",
        operation="submit",
        hint="store its text, or json.dumps() of it",
    )


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}".replace("builtins.", "")


def _check_integers(row: Row) -> None:
    for position, value in enumerate(row, 1):
        if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
            raise UnsupportedValue(
                f"value {position} is an integer beyond 64 bit",
                operation="submit",
                subject=f"{value.bit_length()} bits",  # not its digits, which Python refuses to make of a huge one
                hint="store it as text",
            )


def _blame(row: Row, error: Exception) -> NoReturn:
    """Find the value that msgpack refused."""
    _check_integers(row)
    for position, value in enumerate(row, 1):
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError as reason:
                raise UnsupportedValue(
                    f"value {position} is a str with a lone surrogate at index {reason.start}",
                    operation="submit",
                    hint='replace it, as with text.encode("utf-8", "replace").decode()',
                ) from None
    raise JobTooLarge(f"the row cannot be encoded: {error}", operation="submit") from error
