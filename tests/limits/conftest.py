"""Functions that go over their limits, each deployed once for all tests of this folder."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.server import Server

Deploy = Callable[..., str]


@pytest.fixture(scope="package")
def deploy(server: Server) -> Deploy:
    """``deploy(source, **limits)``: its name; the same source with the same limits is deployed once."""
    known: dict[tuple[str, Any], str] = {}

    def once(source: str, **limits: Any) -> str:
        key = (source, tuple(sorted(limits.items())))
        if key not in known:
            name = f"limits-{len(known)}"
            server.deploy(name, source, public=True, **limits)
            known[key] = name
        return known[key]

    return once
