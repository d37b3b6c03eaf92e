"""The code of a version, to be read by people of its tenant: which files there are, and the text of one.

Called by ``dashboard.function_pages``. The bundle comes from the store into a staging file and is read by the strict
reader; its manifest is not shown, because it holds the values of the environment; dependencies are only counted.
"""

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from control_plane.bundles.store import BundleStore
from control_plane.models import Version
from control_plane.problems import Problem, not_found
from gateway.contract import archive
from gateway.contract.bundle import MANIFEST_NAME, PACKAGES_FOLDER

TEXT_BYTES_MAX: Final = 256 * 1024
FILES_SHOWN_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: str
    bytes_count: int


@dataclass(frozen=True, slots=True)
class Source:
    files: tuple[SourceFile, ...]
    packages_files: int
    path: str
    """Of the file whose text follows."""
    text: str | None
    """None: not a text, or too long."""


async def read_source(store: BundleStore, staging: Path, version: Version, wanted: str) -> Source:
    """``wanted`` empty: the handler's file. Raises Problem."""
    path = staging / f"{secrets.token_hex(16)}.zip"
    try:
        if not await store.get(version.sha256, path):
            raise Problem("not-found", f"The bundle of {version.id} is not in the store any more.")
        return await asyncio.to_thread(_read, path, version.handler, wanted)
    finally:
        path.unlink(missing_ok=True)


def _read(path: Path, handler: str, wanted: str) -> Source:
    with path.open("rb") as file:
        listing = archive.read_listing(file, archive.DEFAULT_BOUNDS)
        own = [
            entry
            for entry in listing.entries
            if not entry.is_folder and entry.path != MANIFEST_NAME and not entry.path.startswith(f"{PACKAGES_FOLDER}/")
        ]
        packages = sum(
            not entry.is_folder and entry.path.startswith(f"{PACKAGES_FOLDER}/") for entry in listing.entries
        )
        place = handler.partition(":")[0].replace(".", "/")
        names = (wanted,) if wanted else (f"{place}.py", f"{place}/__init__.py")
        chosen = next((entry for name in names for entry in own if entry.path == name), None)
        if chosen is None and wanted:
            raise not_found("file", wanted[:200])
        text = None
        if chosen is not None and chosen.unpacked_bytes <= TEXT_BYTES_MAX:
            content = b"".join(archive.read_entry(file, chosen))
            text = None if b"\0" in content else content.decode("utf-8", "replace")
    files = tuple(SourceFile(entry.path, entry.unpacked_bytes) for entry in sorted(own, key=lambda each: each.path))
    return Source(files[:FILES_SHOWN_MAX], packages, chosen.path if chosen else "", text)
