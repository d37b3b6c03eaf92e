"""Mutated archives: the reader never crashes, and what it accepts unpacks inside the folder, as zipfile reads it."""

import contextlib
import io
import tempfile
import zipfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.contract import archive
from gateway.contract.archive import BadArchive, Bounds
from tests.control_plane.bad_archives import ATTACKS
from tests.control_plane.zips import Member, Spec, build, good, streamed

_BOUNDS = Bounds(unpacked_bytes_max=2**20, files_max=64)


def _seeds() -> list[bytes]:
    with_descriptors = good()
    for member in with_descriptors.members:
        if member.deflated:
            streamed(member)
    hostile = []
    for name in ("parent folder", "a symbolic link", "a quoted overlap", "another case", "absolute"):
        spec = good()
        ATTACKS[name][0](spec)
        hostile.append(build(spec))
    return [build(good()), build(with_descriptors), build(Spec([Member(b"one", b"1")])), *hostile]


SEEDS = _seeds()
INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, ord("."), ord("/"), ord("\\"), ord("P"), ord("K")]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(["set", "flip", "insert", "delete", "copy"])):
            case "set":
                content[at : at + 1] = bytes([draw(st.sampled_from(INTERESTING))])
            case "flip":
                content[at : at + 1] = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in content[at : at + 1])
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del content[at : at + draw(st.integers(1, 8))]
            case _:
                length = draw(st.integers(1, 64))
                source = draw(st.integers(0, max(len(content) - 1, 0)))
                content[at : at + length] = content[source : source + length]
    return bytes(content)


@given(mutated())
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
def test_mutations_never_crash_and_never_leave_the_folder(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.zip").write_bytes(content)
        with contextlib.suppress(BadArchive):
            archive.unpack(folder / "a.zip", folder / "inside", _BOUNDS)
        assert {path.name for path in folder.iterdir()} <= {"a.zip", "inside"}
        if not (folder / "inside").exists():
            return
        inside = list((folder / "inside").rglob("*"))
        assert all(not path.is_symlink() and path.resolve().is_relative_to(folder / "inside") for path in inside)
        with zipfile.ZipFile(io.BytesIO(content)) as other:
            for each in other.infolist():
                if not each.is_dir():
                    assert (folder / "inside" / each.filename).read_bytes() == other.read(each)


def test_the_seeds_are_what_they_should_be(tmp_path: Path) -> None:
    """The control: mutations start from archives of both kinds."""
    verdicts = []
    for seed in SEEDS:
        (tmp_path / "a.zip").write_bytes(seed)
        try:
            archive.verify(tmp_path / "a.zip")
            verdicts.append(True)
        except BadArchive:
            verdicts.append(False)
    assert verdicts == [True, True, True, False, False, False, False, False]
