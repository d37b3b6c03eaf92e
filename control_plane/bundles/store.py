"""Where bundles lie: any store that ``obstore`` knows (file://, s3://, …), named by the SHA-256 of their bytes.

``put`` is called before the version is written: an object that no version names is harmless, a version
without its object is not.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import obstore
from obstore.store import LocalStore, from_url

from gateway.contract.bundle import object_name


class BundleStore:
    def __init__(self, url: str) -> None:
        self._store: Any = _open(url)

    async def put(self, sha256: str, archive: Path) -> None:
        """Store the archive, unless it is there. The write is atomic: readers see the whole object or none."""
        size = (await asyncio.to_thread(archive.stat)).st_size
        if await self._stored_bytes(sha256) != size:
            await obstore.put_async(self._store, object_name(sha256), archive, mode="overwrite")

    async def get(self, sha256: str, target: Path) -> bool:
        """Copy the archive to ``target``. False: it is not there."""
        try:
            found = await obstore.get_async(self._store, object_name(sha256))
        except FileNotFoundError:
            return False
        with target.open("xb") as file:
            async for block in found.stream():
                await asyncio.to_thread(file.write, block)
        return True

    async def delete(self, sha256: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._store, object_name(sha256))

    async def _stored_bytes(self, sha256: str) -> int | None:
        """None: not there. A power cut may have left fewer bytes than were written; then it is written again."""
        try:
            return int((await obstore.head_async(self._store, object_name(sha256)))["size"])
        except FileNotFoundError:
            return None


def _open(url: str) -> Any:
    parsed = urlparse(url)
    if parsed.scheme == "file":
        folder = Path(unquote(parsed.path))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalStore(folder)
    return from_url(url)
