"""The modes in which producers are tested: written at once, and through a writer process."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["sync", pytest.param("daemon", marks=pytest.mark.integration)])
def mode(request: pytest.FixtureRequest) -> str:
    """Of the modes of `store` and `open_store`, these two in turn."""
    return str(request.param)
