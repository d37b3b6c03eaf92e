"""The server's own catalogue with a free month that a test can use up; for TAILCUT_TIER_CATALOG."""

import tomllib
from pathlib import Path
from typing import Any

from control_plane.tiers.catalog import DEFAULT_PATH


def write(path: Path, *, free_invocations: int) -> Path:
    """As the file is, but for that number: whatever else it says is what the test runs with."""
    text = DEFAULT_PATH.read_text()
    document: dict[str, Any] = tomllib.loads(text)
    free = next(tier for tier in document["tiers"] if tier["name"] == "free")
    held = f"invocations = {free['month']['invocations']:_}"
    assert text.count(held) == 1, f"{DEFAULT_PATH} says {held!r} other than once"
    path.write_text(text.replace(held, f"invocations = {free_invocations}"))
    return path
