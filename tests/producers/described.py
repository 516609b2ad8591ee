"""The tables that the producers describe."""

from __future__ import annotations

import importlib
import pkgutil

import producers
from producers import verification
from producers.schema import Table


def described() -> dict[str, Table]:
    """All of them by name, without the one that stands in for another program's."""
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(producers.__path__, "producers.")
        if module.name.endswith(".schema")
    ]
    found = (each for module in [*modules, verification] for each in vars(module).values() if isinstance(each, Table))
    return {table.name: table for table in found if table is not verification.VERIFICATIONS_APART}
