"""The public names: what programs outside this project rely on."""

from __future__ import annotations

import importlib
import inspect

import pytest

import telemetry_bus
from telemetry_bus import TelemetryError, TelemetryStore, errors

#: The errors that a program may meet, and the names that it types.
PUBLIC = {
    "TelemetryStore",
    "freeze_support",
    "get_store",
    "get_default_database_url",
    "Job",
    "Statement",
    "StoreStats",
    "WriterView",
    "__version__",
}

MEMBERS = {
    "submit",
    "execute",
    "executemany",
    "insert",
    "upsert",
    "flush",
    "aflush",
    "shutdown",
    "connection",
    "database_url",
    "dialect",
    "async_writes",
    "mode",
    "engine",
    "queue",
    "stats",
}


def test_names() -> None:
    """`__all__` is the documented names and every error of the tree, each once, in order."""
    tree = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, TelemetryError) and value.__module__ == errors.__name__
    }
    assert PUBLIC | tree == set(telemetry_bus.__all__)
    assert sorted(telemetry_bus.__all__, key=str.casefold) == sorted(set(telemetry_bus.__all__), key=str.casefold)


def test_nothing_else_looks_public() -> None:
    """What is importable from the package besides is a module."""
    others = {
        name
        for name, value in vars(importlib.import_module("telemetry_bus")).items()
        if not name.startswith("_") and name not in telemetry_bus.__all__ and not inspect.ismodule(value)
    }
    assert set() == others


@pytest.mark.parametrize("name", telemetry_bus.__all__)
def test_docstring(name: str) -> None:
    """Each public name says what it is."""
    public = getattr(telemetry_bus, name)
    if not isinstance(public, str):
        docstring = (vars(public)["__doc__"] if isinstance(public, type) else public.__doc__) or ""
        assert docstring.strip()
        assert not docstring.startswith(f"{name}(")


def test_members_of_a_store() -> None:
    """A store has the documented members and no other public ones; each method has a docstring."""
    public = {name for name in vars(TelemetryStore) if not name.startswith("_")}
    assert MEMBERS == public
    assert [] == [
        name
        for name in sorted(public)
        if inspect.isfunction(vars(TelemetryStore)[name]) and not vars(TelemetryStore)[name].__doc__
    ]


def test_signature_of_a_store() -> None:
    """Parameters, their order and their defaults are those of the contract."""
    signature = inspect.signature(TelemetryStore)
    given = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    assert {
        "database": None,
        "async_writes": True,
        "mode": None,
        "timeout": 30.0,
        "thread_name": None,
        "spawn": None,
        "on_full": None,
        "journal_bytes": None,
        "job_reads": None,
        "engine": None,
        "linger_ms": None,
    } == given
    positional = [name for name, each in signature.parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert ["database"] == positional


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("submit", "(self, task, *, ensure=None)"),
        ("flush", "(self, timeout=None, *, raise_on_failure=False)"),
        ("aflush", "(self, timeout=None, *, raise_on_failure=False)"),
        ("shutdown", "(self, wait=False)"),
        ("connection", "(self, readonly=True)"),
        ("stats", "(self)"),
    ],
)
def test_signature_of_a_method(name: str, signature: str) -> None:
    """So are those of its methods."""
    found = inspect.signature(getattr(TelemetryStore, name))
    bare = [parameter.replace(annotation=parameter.empty) for parameter in found.parameters.values()]
    assert signature == str(found.replace(parameters=bare, return_annotation=found.empty))


def test_errors_are_drawn() -> None:
    """The tree in the docstring names every error."""
    drawing = errors.__doc__ or ""
    assert [] == [name for name in telemetry_bus.__all__ if hasattr(errors, name) and name not in drawing]
