"""The archive: the same files give the same bytes, bounds are the server's, nothing from outside of the folder."""

import hashlib
import json
import os
import socket
import zipfile
from pathlib import Path

import pytest
from tailcut import ProjectError, _bundle
from tailcut._bundle import Bundle, Manifest, collect, pack

from gateway.contract import archive as contract_archive
from gateway.contract import bundle as contract

MANIFEST = Manifest(
    handler="main:handler",
    python="3.13",
    limits={"timeout_ms": 3000, "concurrency_max": 4, "workers_min": 1},
    env={"GREETING": "Grüße"},
    lock=["pillow==13.0.0"],
)


def packed(
    folder: Path,
    output: Path,
    *,
    packages: Path | None = None,
    exclude: tuple[str, ...] = (),
    manifest: Manifest = MANIFEST,
) -> Bundle:
    sources = collect(code=folder, packages=packages, exclude=exclude)
    return pack(sources=sources, manifest=manifest, output=output)


def names(bundle: Bundle) -> list[str]:
    with zipfile.ZipFile(bundle.path) as archive:
        return archive.namelist()


def project(folder: Path, order: list[str] | None = None) -> Path:
    contents = {
        "main.py": "def handler(): ...\n",
        "b/x.py": "x = 1\n",
        "b/é.txt": "é",
        "a.bin": "\0" * 3000,
        "empty": "",
    }
    for name in order or list(contents):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(contents[name])
    return folder


def test_other_times_order_modes_and_place_give_the_same_bytes(tmp_path):
    one = project(tmp_path / "one")
    two = project(tmp_path / "elsewhere" / "two", order=["empty", "b/é.txt", "main.py", "a.bin", "b/x.py"])
    for file in two.rglob("*"):
        os.utime(file, (1, 1))
        file.chmod(0o700)
    (two / "__pycache__").mkdir()
    (two / "__pycache__" / "main.cpython-313.pyc").write_bytes(b"stale")

    first, second = packed(one, tmp_path / "1.zip"), packed(two, tmp_path / "2.zip")

    assert first.sha256 == second.sha256
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "main.py").write_text("def handler(): return 1\n"),
        lambda folder: (folder / "new.py").write_text(""),
        lambda folder: (folder / "empty").unlink(),
        lambda folder: (folder / "empty").rename(folder / "empty2"),
    ],
)
def test_other_contents_or_names_give_other_bytes(tmp_path, change):
    before = packed(project(tmp_path / "p"), tmp_path / "1.zip").sha256
    change(tmp_path / "p")
    assert packed(tmp_path / "p", tmp_path / "2.zip").sha256 != before


def test_another_manifest_gives_other_bytes(tmp_path):
    folder = project(tmp_path / "p")
    other = Manifest(handler="main:other", python="3.13")
    assert packed(folder, tmp_path / "1.zip").sha256 != packed(folder, tmp_path / "2.zip", manifest=other).sha256


def test_packages_lie_beside_the_code(tmp_path):
    folder = project(tmp_path / "p")
    (tmp_path / "installed" / "lib").mkdir(parents=True)
    (tmp_path / "installed" / "lib" / "__init__.py").write_text("")
    bundle = packed(folder, tmp_path / "1.zip", packages=tmp_path / "installed")
    assert "_packages/lib/__init__.py" in names(bundle)
    assert names(bundle) == ["tailcut.json", *sorted(names(bundle)[1:], key=str.encode)]
    assert bundle.files == len(names(bundle))


def test_a_single_file_is_a_bundle(tmp_path):
    (tmp_path / "hello.py").write_text("def hello(): ...\n")
    (tmp_path / "other.py").write_text("secret = 1\n")
    sources = collect(code=tmp_path / "hello.py", packages=None, exclude=())
    assert names(pack(sources=sources, manifest=MANIFEST, output=tmp_path / "1.zip")) == ["tailcut.json", "hello.py"]


def test_the_manifest_is_the_contracts(tmp_path):
    bundle = packed(project(tmp_path / "p"), tmp_path / "1.zip")
    with zipfile.ZipFile(bundle.path) as archive:
        read = contract.Manifest.model_validate_json(archive.read(contract.MANIFEST_NAME))
    assert read.model_dump(exclude_unset=True) == json.loads(MANIFEST.to_json())
    assert set(json.loads(MANIFEST.to_json())) == set(contract.Manifest.model_fields)


@pytest.mark.parametrize(
    "name",
    [
        "MANIFEST_NAME",
        "PACKAGES_FOLDER",
        "ARCHIVE_BYTES_MAX",
        "UNPACKED_BYTES_MAX",
        "FILES_MAX",
        "RATIO_MAX",
        "DEPTH_MAX",
        "PATH_BYTES_MAX",
        "NAME_BYTES_MAX",
    ],
)
def test_the_bounds_are_the_contracts(name):
    assert getattr(_bundle, name) == getattr(contract, name)


def test_entries_are_plain_files_with_one_time_and_mode(tmp_path):
    with zipfile.ZipFile(packed(project(tmp_path / "p"), tmp_path / "1.zip").path) as archive:
        for entry in archive.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.external_attr >> 16 == 0o100644
            assert entry.flag_bits & ~0x800 == 0  # UTF-8 names; no encryption, no data descriptor


EXCLUDED = [
    ".git/config",
    "pkg/.git/config",
    ".venv/bin/python",
    "deep/node_modules/x/index.js",
    "pkg/__pycache__/m.cpython-313.pyc",
    "old.pyc",
    ".env",
    ".env.production",
    "tailcut.toml",
    "tailcut.lock",
    "myenv/pyvenv.cfg",
    "myenv/lib/thing.py",
]
KEPT = ["main.py", "env.py", "pkg/tailcut.toml", "data/.hidden", "gitignore", "requirements.txt", "git/config"]


def test_what_is_not_code_stays_at_home(tmp_path):
    for name in (*EXCLUDED, *KEPT):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_text("x")
    assert sorted(names(packed(tmp_path / "p", tmp_path / "1.zip"))[1:]) == sorted(KEPT)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("*.md",), ["a/b/c.txt", "a/c.txt", "docs/x.txt", "main.py"]),
        (("docs/",), ["a/b/c.txt", "a/c.txt", "a/n.md", "main.py", "r.md"]),
        (("/r.md", "c.txt"), ["a/n.md", "docs/x.txt", "main.py"]),
        (("a/c.txt",), ["a/b/c.txt", "a/n.md", "docs/x.txt", "main.py", "r.md"]),
        (("a/**/c.txt",), ["a/n.md", "docs/x.txt", "main.py", "r.md"]),
        (("a/**",), ["docs/x.txt", "main.py", "r.md"]),
        (("*.md", "!a/n.md"), ["a/b/c.txt", "a/c.txt", "a/n.md", "docs/x.txt", "main.py"]),
        (("?.md",), ["a/b/c.txt", "a/c.txt", "docs/x.txt", "main.py"]),
        (("main.py/",), ["a/b/c.txt", "a/c.txt", "a/n.md", "docs/x.txt", "main.py", "r.md"]),
        (("# main.py", ""), ["a/b/c.txt", "a/c.txt", "a/n.md", "docs/x.txt", "main.py", "r.md"]),
        (("[m]ain.py",), ["a/b/c.txt", "a/c.txt", "a/n.md", "docs/x.txt", "main.py", "r.md"]),
    ],
)
def test_patterns_of_the_project(tmp_path, patterns, expected):
    for name in ("main.py", "r.md", "a/n.md", "a/c.txt", "a/b/c.txt", "docs/x.txt"):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_text("x")
    assert sorted(names(packed(tmp_path / "p", tmp_path / "1.zip", exclude=patterns))[1:]) == expected


def test_a_link_inside_the_folder_is_packed_as_what_it_leads_to(tmp_path):
    folder = project(tmp_path / "p")
    (folder / "link.py").symlink_to("main.py")
    (folder / "c").symlink_to("b")
    bundle = packed(folder, tmp_path / "1.zip")
    with zipfile.ZipFile(bundle.path) as archive:
        assert archive.read("link.py") == (folder / "main.py").read_bytes()
        assert archive.read("c/x.py") == b"x = 1\n"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/etc/passwd", "outside"),
        ("../secret", "outside"),
        ("b/../../secret", "outside"),
        ("..", "outside"),
        ("nowhere", "does not exist"),
        ("link", "does not exist"),
        (".", "leads back"),
    ],
)
def test_a_link_that_leads_elsewhere_is_refused(tmp_path, target, reason):
    (tmp_path / "secret").write_text("secret")
    folder = project(tmp_path / "p")
    (folder / "link").symlink_to(target)
    with pytest.raises(ProjectError, match=reason):
        packed(folder, tmp_path / "1.zip")
    # The same link, excluded, does no harm.
    assert "link" not in names(packed(folder, tmp_path / "2.zip", exclude=("link",)))


def test_a_chain_of_links_that_ends_outside_is_refused(tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = project(tmp_path / "p")
    (folder / "first").symlink_to("second")
    (folder / "second").symlink_to(tmp_path / "secret")
    with pytest.raises(ProjectError, match="outside"):
        packed(folder, tmp_path / "1.zip")


def test_the_folder_itself_may_be_a_link(tmp_path):
    project(tmp_path / "p")
    (tmp_path / "link").symlink_to("p")
    assert packed(tmp_path / "link", tmp_path / "1.zip").sha256 == packed(tmp_path / "p", tmp_path / "2.zip").sha256


def test_pipes_and_sockets_are_refused(tmp_path):
    folder = project(tmp_path / "p")
    os.mkfifo(folder / "pipe")
    with pytest.raises(ProjectError, match="pipe"):
        packed(folder, tmp_path / "1.zip")
    (folder / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        with pytest.raises(ProjectError, match="socket"):
            packed(folder, tmp_path / "1.zip")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("_packages/x.py", "needs itself"),
        ("tailcut.json", "needs itself"),
        ("MAIN.py", "differ only in case"),
        ("e\N{COMBINING ACUTE ACCENT}.txt", "differ only in case"),
        ("/".join(["d"] * 33), "deep"),
        ("n" * 201, "bytes long in one part"),
        ("/".join(["p" * 100] * 6), "bytes long"),
        ("a\nb", "control character"),
        ("a\\b", "backslash"),
        (b"\xff".decode("utf-8", "surrogateescape"), "not UTF-8"),
    ],
)
def test_names_that_the_server_would_refuse(tmp_path, name, reason):
    folder = project(tmp_path / "p")
    (folder / "é.txt").write_text("composed")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")
    with pytest.raises(ProjectError, match=reason):
        packed(folder, tmp_path / "1.zip")


def sparse(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)


def test_too_large_unpacked_is_said_before_packing(tmp_path):
    folder = project(tmp_path / "p")
    sparse(folder / "huge.bin", contract.UNPACKED_BYTES_MAX)
    with pytest.raises(ProjectError, match=r"huge\.bin"):
        collect(code=folder, packages=None, exclude=())


def test_too_large_packed_names_the_largest(tmp_path, monkeypatch):
    folder = project(tmp_path / "p")
    (folder / "noise.bin").write_bytes(os.urandom(200_000))
    monkeypatch.setattr(_bundle, "ARCHIVE_BYTES_MAX", 100_000)
    with pytest.raises(ProjectError, match=r"noise\.bin"):
        packed(folder, tmp_path / "1.zip")


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(_bundle, "FILES_MAX", 5)
    with pytest.raises(ProjectError, match="6 files"):
        packed(project(tmp_path / "p"), tmp_path / "1.zip")


@pytest.mark.parametrize(
    ("size_bytes", "is_stored"),
    [(contract.RATIO_MAX, False), (2**20 - 1, False), (2**20, True), (4 * 2**20 + 17, True)],
)
def test_a_file_that_would_look_like_a_bomb_is_stored(tmp_path, size_bytes, is_stored):
    folder = project(tmp_path / "p")
    sparse(folder / "padding.so", size_bytes)
    (folder / "noise.so").write_bytes(os.urandom(2**20) + bytes(3 * 2**20))
    bundle = packed(folder, tmp_path / "1.zip")
    with zipfile.ZipFile(bundle.path) as archive:
        assert (archive.getinfo("padding.so").compress_type == zipfile.ZIP_STORED) == is_stored
        assert archive.getinfo("noise.so").compress_type == zipfile.ZIP_DEFLATED
        assert archive.read("padding.so") == bytes(size_bytes)
    contract_archive.verify(bundle.path)


def test_the_servers_own_check_accepts_it(tmp_path):
    bundle = packed(project(tmp_path / "p"), tmp_path / "1.zip")
    listing = contract_archive.verify(bundle.path)
    assert [entry.path for entry in listing.entries] == names(bundle)
    assert listing.unpacked_bytes == bundle.unpacked_bytes
