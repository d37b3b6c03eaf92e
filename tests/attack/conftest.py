"""Data planes of their own with hostile workers, and the fixtures of tests/core for the rest."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.core.conftest import Plane, Zygote, make_plane, plane, zygote

__all__ = ["hostile_plane", "make_plane", "plane", "zygote"]

_PROGRAM = Path(__file__).with_name("hostile_zygote.py")


@pytest.fixture
def hostile_plane(tmp_path: Path) -> Iterator[Callable[..., Plane]]:
    """``hostile_plane(revision, **options)``: its workers do what the paths of tests/attack/hostile_zygote.py say."""
    with ExitStack() as stack:

        def make(document: dict[str, Any], **options: Any) -> Plane:
            zygote = Zygote(tmp_path / "zygote.sock", _PROGRAM)
            stack.callback(zygote.kill)
            plane = Plane(zygote, options)
            stack.callback(plane.end)
            plane.apply(document)
            plane.command("start")
            return plane

        yield make
