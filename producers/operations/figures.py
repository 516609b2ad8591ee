"""Figures and texts as columns take them that have no NULL, and shares in percent."""

from __future__ import annotations

import math
from typing import Any

from ..values import number, plain_text


def text(value: object) -> str:
    """Its text; that of None is empty."""
    return "" if value is None else plain_text(value)


def real(value: object) -> float:
    """A finite number; 0.0 for everything else."""
    found = number(value)
    return found if found is not None and math.isfinite(found) else 0.0


def whole(value: Any) -> int:
    """A whole number; 0 for what is none."""
    return int(value) if isinstance(value, int) else int(real(value))


def whole_or_none(value: Any) -> int | None:
    """A whole number; None for what is none."""
    return None if number(value) is None else whole(value)


def percent(part: float, of: float) -> float:
    """The share in percent, to two decimals; 0 of nothing."""
    return round(float(part) / float(of) * 100, 2) if of else 0
