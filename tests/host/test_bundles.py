"""Bundles from the store to a read-only folder, and everything that must not become one."""

import asyncio
import stat
import struct
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from gateway.contract.bundle import object_name
from gateway.host.bundles import BundleRefused, Bundles, BundleUnavailable
from tests.support.server import bundle, sha256


class Store:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "store"
        self.folder.mkdir()
        self.versions = folder / "versions"
        self.bundles = Bundles(self.folder.as_uri(), self.versions)

    def put(self, data: bytes, name: str | None = None) -> str:
        name = name or sha256(data)
        (self.folder / object_name(name)).write_bytes(data)
        return name

    def fetch(self, name: str, size: int) -> Path:
        return asyncio.run(self.bundles.fetch(name, size))

    def left_over(self) -> list[str]:
        return sorted(path.name for path in self.versions.iterdir())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_bundle_becomes_a_read_only_folder_once(store: Store) -> None:
    data = bundle({"main.py": "x = 1\n", "_packages/lib/__init__.py": "y = 2\n"})
    name = store.put(data)
    folder = store.fetch(name, len(data))
    assert (folder / "main.py").read_text() == "x = 1\n"
    assert (folder / "_packages/lib/__init__.py").read_text() == "y = 2\n"
    for path in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0, path
    (store.folder / object_name(name)).unlink()
    assert store.fetch(name, len(data)) == folder, "what is here is not fetched again"
    assert store.left_over() == [name]


def test_many_versions_that_want_one_bundle_at_once_get_all_of_it(store: Store) -> None:
    files = {f"part{number}.py": f"x = {number}\n" for number in range(300)}
    data = bundle(files)
    name = store.put(data)

    async def all_at_once() -> list[Path]:
        return await asyncio.gather(*(store.bundles.fetch(name, len(data)) for _ in range(20)))

    folders = set(asyncio.run(all_at_once()))
    assert {path.name for folder in folders for path in folder.iterdir()} >= set(files)
    assert store.left_over() == [name]


def test_wrong_bytes_are_refused_and_leave_nothing(store: Store) -> None:
    data = bundle({"main.py": "x = 1\n"})
    other = sha256(b"something else")
    store.put(data, other)
    with pytest.raises(BundleRefused, match="SHA-256"):
        store.fetch(other, len(data))
    name = store.put(data)
    with pytest.raises(BundleRefused, match="longer"):
        store.fetch(name, len(data) - 1)
    with pytest.raises(BundleRefused, match="bytes"):
        store.fetch(name, len(data) + 1)
    with pytest.raises(BundleRefused, match="at most"):
        store.fetch(name, 2**40)
    assert store.left_over() == []


def test_a_store_that_is_away_or_lacks_it_is_tried_again_later(store: Store) -> None:
    data = bundle({"main.py": "x = 1\n"})
    with pytest.raises(BundleUnavailable):
        store.fetch(sha256(data), len(data))
    assert store.left_over() == []
    store.put(data)
    assert store.fetch(sha256(data), len(data)).is_dir()


def _archive(*entries: tuple[str, bytes, int]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo("placeholder" if "\0" in name else name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _bomb() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(20 * 2**20))
    return buffer.getvalue()


def _lying_size() -> bytes:
    """Both directories say that the content unpacks to 10 bytes; it is 1000."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"x" * 1000)
    return buffer.getvalue().replace(struct.pack("<I", 1000), struct.pack("<I", 10))


REGULAR, LINK, DEVICE = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o644
BAD_ARCHIVES = {
    "not an archive": b"PK\3\4 but no more",
    "empty": b"",
    "parent folder": _archive(("../escaped", b"x", REGULAR)),
    "parent inside": _archive(("a/../../escaped", b"x", REGULAR)),
    "absolute": _archive(("/escaped", b"x", REGULAR)),
    "symbolic link": _archive(("escaped", b"/etc", LINK)),
    "device": _archive(("null", b"", DEVICE)),
    "twice": _archive(("a", b"1", REGULAR), ("A", b"2", REGULAR)),
    "file as folder": _archive(("a", b"1", REGULAR), ("a/b", b"2", REGULAR)),
    "trailing bytes": bundle({"main.py": ""}) + b"tail",
    "leading bytes": b"#!/bin/sh\n" + bundle({"main.py": ""}),
    "bomb": _bomb(),
    "lying size": _lying_size(),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", BAD_ARCHIVES)
def test_a_bad_archive_is_refused_although_its_hash_is_right(store: Store, tmp_path: Path, case: str) -> None:
    data = BAD_ARCHIVES[case]
    name = store.put(data)
    with pytest.raises(BundleRefused):
        store.fetch(name, len(data))
    assert store.left_over() == []
    assert not (tmp_path / "escaped").exists()
    assert not (store.versions / "escaped").exists()


def test_what_a_killed_gateway_left_is_swept_and_a_living_one_is_left_alone(store: Store) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    for owner in (int(dead.stdout), 1):
        folder = store.versions / f".staging-{owner}-{sha256(b'x')}"
        folder.mkdir()
        (folder / "half").write_text("half")
    Bundles(store.folder.as_uri(), store.versions)
    assert store.left_over() == [f".staging-1-{sha256(b'x')}"]


def test_removing_a_bundle_takes_its_read_only_folder_away(store: Store) -> None:
    data = bundle({"main.py": "", "deep/er/file.txt": "x"})
    name = store.put(data)
    store.fetch(name, len(data))
    asyncio.run(store.bundles.remove(name))
    assert not store.bundles.is_here(name)
    assert store.left_over() == []
