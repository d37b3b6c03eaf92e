"""The archive reader against a table of attacks: each is refused for its reason, and the archive without it is not."""

import io
import os
import shutil
import stat
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.contract import archive
from gateway.contract.archive import BadArchive, Bounds, Reason
from tests.control_plane.bad_archives import ATTACKS, CUTS, TWINS, Attack
from tests.control_plane.zips import Member, Spec, build, good


def accepted(path: Path, content: bytes) -> archive.Listing:
    path.write_bytes(content)
    return archive.verify(path)


def refusal(path: Path, content: bytes, bounds: Bounds = archive.DEFAULT_BOUNDS) -> BadArchive:
    path.write_bytes(content)
    with pytest.raises(BadArchive) as caught:
        archive.verify(path, bounds)
    return caught.value


def test_the_table_is_large_and_covers_every_reason() -> None:
    table = [*ATTACKS.values(), *CUTS.values()]
    assert len(table) >= 80
    bounded = {Reason.TOO_LARGE, Reason.FILES, Reason.UNPACKED}
    assert {reason for _, reason in table} | bounded == set(Reason)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_for_its_reason(name: str, tmp_path: Path) -> None:
    attack, reason = ATTACKS[name]
    spec = good()
    attack(spec)
    error = refusal(tmp_path / "bad.zip", build(spec))
    assert error.reason == reason, str(error)
    assert str(error).isascii()
    assert str(error).endswith(".")
    assert "\x00" not in str(error)
    assert len(str(error)) < 500
    # The control: without the attack the same archive is good.
    assert len(accepted(tmp_path / "good.zip", build(good())).entries) == 6


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_of_an_attack_is_left_on_disk(name: str, tmp_path: Path) -> None:
    attack, _ = ATTACKS[name]
    spec = good()
    attack(spec)
    (tmp_path / "bad.zip").write_bytes(build(spec))
    with pytest.raises(BadArchive):
        archive.unpack(tmp_path / "bad.zip", tmp_path / "inside")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zip"]


@pytest.mark.parametrize("name", CUTS)
def test_what_is_no_whole_archive_is_refused(name: str, tmp_path: Path) -> None:
    change, reason = CUTS[name]
    assert refusal(tmp_path / "bad.zip", change(build(good()))).reason == reason


@pytest.mark.parametrize("name", TWINS)
def test_good_archives_are_accepted_as_zipfile_reads_them(name: str, tmp_path: Path) -> None:
    spec = good()
    TWINS[name](spec)
    content = build(spec)
    listing = accepted(tmp_path / "good.zip", content)
    with zipfile.ZipFile(io.BytesIO(content)) as other:
        assert {entry.path for entry in listing.entries} == {
            each.filename.removesuffix("/") for each in other.infolist()
        }
        archive.unpack(tmp_path / "good.zip", tmp_path / "unpacked")
        for each in other.infolist():
            if not each.is_dir():
                assert (tmp_path / "unpacked" / each.filename).read_bytes() == other.read(each)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = build(good())
    for length in range(len(content)):
        refusal(tmp_path / "cut.zip", content[:length])
    assert accepted(tmp_path / "whole.zip", content).entries


BOUNDS: dict[str, tuple[Callable[[int], Bounds], Attack, int, Reason]] = {
    "archive": (lambda n: Bounds(archive_bytes_max=n), lambda spec: None, len(build(good())), Reason.TOO_LARGE),
    "files": (lambda n: Bounds(files_max=n), lambda spec: None, 6, Reason.FILES),
    "unpacked": (
        lambda n: Bounds(unpacked_bytes_max=n),
        lambda spec: None,
        sum(len(member.content) for member in good().members),
        Reason.UNPACKED,
    ),
    "ratio": (
        lambda n: Bounds(ratio_max=n, ratio_exempt_bytes=0),
        lambda spec: spec.members.__setitem__(slice(None), [Member(b"main.py", b"x" * 1000, packed=_stored(1000))]),
        1,
        Reason.RATIO,
    ),
    "depth": (lambda n: Bounds(depth_max=n), lambda spec: None, 2, Reason.DEPTH),
    "path": (lambda n: Bounds(path_bytes_max=n), lambda spec: None, len(b"tailcut.json"), Reason.NAME_LENGTH),
    "name": (lambda n: Bounds(name_bytes_max=n), lambda spec: None, len(b"tailcut.json"), Reason.NAME_LENGTH),
}


def _stored(length: int) -> bytes:
    """A deflate stream that packs nothing."""
    return b"\x01" + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little") + b"x" * length


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_hold_exactly(name: str, tmp_path: Path) -> None:
    bounds_of, change, allowed, reason = BOUNDS[name]
    spec = good()
    change(spec)
    (tmp_path / "a.zip").write_bytes(build(spec))
    assert archive.verify(tmp_path / "a.zip", bounds_of(allowed)).entries
    with pytest.raises(BadArchive) as caught:
        archive.verify(tmp_path / "a.zip", bounds_of(allowed - 1))
    assert caught.value.reason == reason


def test_a_bomb_is_stopped_at_what_it_declares(tmp_path: Path) -> None:
    """No more than a few blocks beyond the declared size are ever decompressed."""
    spec = good()
    spec.members.append(Member(b"bomb", bytes(64 * 2**20), unpacked_bytes=1000))
    (tmp_path / "bomb.zip").write_bytes(build(spec))
    del spec
    tracemalloc.start()
    try:
        with pytest.raises(BadArchive) as caught:
            archive.verify(tmp_path / "bomb.zip")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.reason == Reason.SIZE
    assert peak_bytes < 4 * 2**20  # the bomb is sixteen times that


def test_unpacked_files_are_read_only_and_keep_their_executable_bit(tmp_path: Path) -> None:
    spec = good()
    spec.members.append(Member(b"bin/tool", b"#!/bin/sh\n", attributes=0o100777 << 16))
    (tmp_path / "a.zip").write_bytes(build(spec))
    before = os.umask(0o077)
    try:
        archive.unpack(tmp_path / "a.zip", tmp_path / "out")
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(tmp_path / "out")): stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "out").rglob("*")
    }
    assert modes["main.py"] == 0o444
    assert modes["bin/tool"] == 0o555
    assert modes["bin"] == modes["sub"] == 0o755


def test_unpack_refuses_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(build(good()))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(FileExistsError):
        archive.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "kept"


def test_python_writers_are_accepted(tmp_path: Path) -> None:
    """zipfile to a file, to a pipe (descriptors), stored, with folders; shutil's archives."""
    source = tmp_path / "source"
    (source / "package" / "empty").mkdir(parents=True)
    (source / "package" / "ö.py").write_text("x = 1\n" * 100)
    (source / "main.py").write_text("y = 2\n")
    shutil.make_archive(str(tmp_path / "made"), "zip", source)
    assert {entry.path for entry in archive.verify(tmp_path / "made.zip").entries} == {
        "main.py",
        "package",
        "package/empty",
        "package/ö.py",
    }
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        with zipfile.ZipFile(tmp_path / "written.zip", "w", method) as target:
            target.write(source / "main.py", "main.py")
            target.mkdir("folder")
            target.writestr("folder/text.txt", "text")
        assert len(archive.verify(tmp_path / "written.zip").entries) == 3
    piped = subprocess.run(
        [sys.executable, "-m", "zipfile", "-c", "/dev/stdout", "main.py"], cwd=source, capture_output=True, check=True
    )
    (tmp_path / "piped.zip").write_bytes(piped.stdout)
    assert len(archive.verify(tmp_path / "piped.zip").entries) == 1


def test_installed_packages_are_accepted(tmp_path: Path) -> None:
    """Real dependencies with compiled extensions, as an installer lays them out."""
    site = Path(pytest.__file__).parent.parent
    spec = Spec([])
    for package in ("pydantic", "msgspec", "jinja2"):
        for path in sorted((site / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                mode = (stat.S_IFREG | stat.S_IMODE(path.stat().st_mode)) << 16
                name = f"_packages/{path.relative_to(site)}".encode()
                spec.members.append(Member(name, path.read_bytes(), attributes=mode))
    assert any(member.name.endswith(b".so") for member in spec.members)
    listing = accepted(tmp_path / "packages.zip", build(spec))
    assert len(listing.entries) == len(spec.members) > 50
