"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`message` says what is so, `hint` how to mend it; what is ok has none."""

    state: State
    message: str
    hint: str = ""


def ok(message: str) -> Finding:
    return Finding("ok", message)


def warning(message: str, hint: str) -> Finding:
    return Finding("warning", message, hint)


def problem(message: str, hint: str) -> Finding:
    return Finding("problem", message, hint)
