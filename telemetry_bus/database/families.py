"""Foreign keys and the order of jobs: a child that was submitted before its parent fails, however batches fall.

Rows of many jobs are inserted with parents first, so that a child could find a parent that a later job brings. So the
values by which children name their parents are kept until their rows are inserted; a row that would be one of these
parents comes after them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ..jobs import Row
from .dialects import TableFacts

#: Stands for a value that is not known: of a literal, a default, a counter.
_ANY = object()

#: Places in a row of values that make a key, or a reference to one; None: not known.
Places = tuple[int, ...] | None


class OutOfOrder(ValueError):
    """Only jobs in transactions of their own mean what order means."""


class Ties(NamedTuple):
    """What the rows of an insert have to do with foreign keys: keys that others may name, and the parents they name."""

    keys: tuple[Places, ...] = ()
    references: tuple[tuple[str, Places], ...] = ()
    deferred: bool = False


NO_TIES = Ties()


def ties_of(
    insert: tuple[tuple[str, ...], tuple[int | None, ...]],
    facts: TableFacts,
    rewrites: bool,
    keys: Iterable[tuple[str, ...]],
    fold: Callable[[str], str],
) -> Ties:
    """The ties of an insert with these `inserted_values`; `keys` are the columns of its table that others refer to."""
    if not facts.parents and not facts.referenced:
        return NO_TIES
    named, values = insert
    place = dict(zip([fold(name) for name in named] or facts.columns, values, strict=False))

    def places(columns: Sequence[str]) -> Places:
        found = [index for column in columns if (index := place.get(column)) is not None]
        return tuple(found) if found and len(found) == len(columns) else None

    references = [
        (link.parent, None if rewrites else places(link.columns))
        for link in facts.links
        if rewrites or all(column in place or column in facts.filled for column in link.columns)  # else it is NULL
    ]
    return Ties(tuple(map(places, keys)), tuple(references), facts.deferred)


class Awaited:
    """The parents that rows name which wait to be inserted."""

    def __init__(self) -> None:
        self._values: dict[str, set[Any]] = {}
        self._deferred: set[str] = set()

    def has(self, lane: str, ties: Ties, rows: Sequence[Row]) -> bool:
        """Whether one of these rows may be a parent that is awaited.

        Raises `OutOfOrder` when its child is judged at the end of the transaction only.
        """
        values = self._values.get(lane)
        if not values or not ties.keys:
            return False
        met = _ANY in values or any(
            places is None or not values.isdisjoint(_values(places, rows)) for places in ties.keys
        )
        if met and lane in self._deferred:
            raise OutOfOrder("a parent comes after its child")
        return met

    def add(self, ties: Ties, rows: Sequence[Row]) -> None:
        """These rows wait."""
        for parent, places in ties.references:
            self._values.setdefault(parent, set()).update([_ANY] if places is None else _values(places, rows))
            if ties.deferred:
                self._deferred.add(parent)


def precedes(ties: Ties, rows: Sequence[Row], parent: str, parent_ties: Ties, parents: Sequence[Row]) -> bool:
    """Whether row number n of `rows` may name as its parent one of `parents` with a higher number."""
    for wanted, places in ties.references:
        if wanted != parent or not parent_ties.keys:
            continue
        if places is None or None in parent_ties.keys:
            return True
        for key in parent_ties.keys:
            if key is not None and _any_later(_values(key, parents), _values(places, rows)):
                return True
    return False


def _any_later(keys: list[Any], references: list[Any]) -> bool:
    if keys == references:
        return False
    last = {key: number for number, key in enumerate(keys)}
    return any(last.get(reference, -1) > number for number, reference in enumerate(references))


def _values(places: tuple[int, ...], rows: Sequence[Row]) -> list[Any]:
    try:
        if len(places) == 1:
            (place,) = places
            return [_folded(row[place]) for row in rows]
        return [tuple(_folded(row[place]) for place in places) for row in rows]
    except IndexError:
        raise OutOfOrder("a row has too few values") from None


def _folded(value: Any) -> Any:
    """The same for values that a column may hold for equal, whatever its affinity and its collation."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    if text[:1] in "+-.0123456789" and text:
        try:
            return float(text)
        except ValueError:
            pass
    return text
