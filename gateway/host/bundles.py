"""Bundles: from the store (local disk, S3, … by URL) to a read-only folder named by the SHA-256.

``var/gateway/versions/<sha256>/`` exists only when all of it was verified, unpacked and synced: it is staged beside
and renamed. Staging folders carry the process id, so that what a killed gateway left is swept by the next one while
a gateway that runs beside it (reload) is left alone.

The archive is read again by gateway.contract.archive, with every rule of an upload: a gateway believes neither the
store nor the control plane.

Called by ``node``. Raises BundleRefused (never try again: the same bytes will be wrong again) or
BundleUnavailable (try later).
"""

import asyncio
import hashlib
import os
from pathlib import Path
from weakref import WeakValueDictionary

import obstore
from obstore.exceptions import BaseError as StoreError
from obstore.store import ObjectStore, from_url

from gateway.contract import archive, bundle
from gateway.host.files import remove_tree, sync_folder

_STAGING_PREFIX = ".staging-"
_SYNC_EACH_FILES_MAX = 256
"""More files than this are synced by one sync(2) instead of one fsync(2) each."""


class BundleRefused(Exception):  # noqa: N818 - named after what happened
    """The bundle's bytes are wrong: hash, size or what the archive says."""


class BundleUnavailable(Exception):  # noqa: N818 - named after what happened
    """The store or the disk did not do it this time."""


class Bundles:
    """The unpacked bundles of this node."""

    def __init__(self, store_url: str, folder: Path) -> None:
        """``folder`` is created; what dead processes left in it is removed."""
        self._store_url = store_url
        self._store: ObjectStore | None = None
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._sweep()

    def path(self, sha256: str) -> Path:
        return self._folder / sha256

    def is_here(self, sha256: str) -> bool:
        return self.path(sha256).is_dir()

    async def fetch(self, sha256: str, size: int) -> Path:
        """The bundle's folder; fetched, verified and unpacked unless it is here already."""
        if size > bundle.ARCHIVE_BYTES_MAX:
            raise BundleRefused(f"a bundle of {size} bytes, at most {bundle.ARCHIVE_BYTES_MAX} are allowed")
        async with self._turn(sha256):
            target = self.path(sha256)
            if target.is_dir():
                return target
            staging = self._folder / f"{_STAGING_PREFIX}{os.getpid()}-{sha256}"
            packed = staging.with_name(staging.name + ".zip")
            try:
                await self._download(sha256, size, packed)
                return await asyncio.to_thread(self._install, sha256, packed, staging)
            finally:
                await asyncio.to_thread(_remove_all, staging, packed)

    async def remove(self, sha256: str) -> None:
        """Throws the folder away, if there is one."""
        async with self._turn(sha256):
            await asyncio.to_thread(self._discard, sha256)

    def _turn(self, sha256: str) -> asyncio.Lock:
        """One at a time for each bundle: many versions may have the same one, and they come at once."""
        return self._turns.setdefault(sha256, asyncio.Lock())

    def on_disk(self) -> set[str]:
        """SHA-256 of each unpacked bundle."""
        return {path.name for path in self._folder.iterdir() if not path.name.startswith(".")}

    async def _download(self, sha256: str, size: int, path: Path) -> None:
        """Streams the stored object into ``path`` and checks its size and hash on the way."""
        found_bytes = 0
        digest = hashlib.sha256()
        try:
            if self._store is None:
                self._store = await asyncio.to_thread(_open_store, self._store_url)
            answer = await obstore.get_async(self._store, bundle.object_name(sha256))
            with path.open("xb") as file:
                async for chunk in answer.stream(min_chunk_size=2**20):
                    found_bytes += len(chunk)
                    if found_bytes > size:
                        raise BundleRefused(f"the stored bundle {sha256} is longer than the {size} bytes in the table")
                    digest.update(chunk)
                    file.write(chunk)
        except (StoreError, OSError, ValueError) as error:
            raise BundleUnavailable(f"bundle {sha256} from {self._store_url.partition('?')[0]}: {error}") from error
        if found_bytes != size:
            raise BundleRefused(f"the stored bundle {sha256} has {found_bytes} bytes, the table says {size}")
        if digest.hexdigest() != sha256:
            raise BundleRefused(f"the stored bundle {sha256} has the SHA-256 {digest.hexdigest()}")

    def _install(self, sha256: str, packed: Path, staging: Path) -> Path:
        target = self.path(sha256)
        try:
            listing = archive.unpack(packed, staging)
            _sync(staging, len(listing.entries))
            try:
                staging.rename(target)
            except OSError:
                if not target.is_dir():  # else a gateway beside us was faster, with the same bytes
                    raise
            _make_folders_read_only(target)
            sync_folder(self._folder)
        except archive.BadArchive as error:
            raise BundleRefused(str(error)) from error
        except OSError as error:
            raise BundleUnavailable(f"unpacking bundle {sha256}: {error}") from error
        return target

    def _discard(self, sha256: str) -> None:
        # Renamed first: a crash in the middle must not leave half a folder under the good name.
        going = self._folder / f"{_STAGING_PREFIX}{os.getpid()}-gone-{sha256}"
        target = self.path(sha256)
        if target.is_dir():
            target.chmod(0o755)
            target.rename(going)
        remove_tree(going)

    def _sweep(self) -> None:
        for path in self._folder.glob(f"{_STAGING_PREFIX}*"):
            owner = path.name.removeprefix(_STAGING_PREFIX).partition("-")[0]
            if owner == str(os.getpid()) or not (owner.isdigit() and Path(f"/proc/{owner}").exists()):
                remove_tree(path)


def _open_store(url: str) -> ObjectStore:
    if url.startswith("file://"):
        Path(url.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
    return from_url(url)


def _remove_all(*paths: Path) -> None:
    for path in paths:
        remove_tree(path)


def _make_folders_read_only(folder: Path) -> None:
    """Files are read-only already; a folder is made so after its rename, which changes its ``..``."""
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o555)


def _sync(folder: Path, files: int) -> None:
    if files > _SYNC_EACH_FILES_MAX:
        os.sync()
        return
    for parent, _, names in os.walk(folder):
        for name in names:
            with (Path(parent) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))
