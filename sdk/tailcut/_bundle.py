"""Packs one version: a zip whose bytes depend only on the files' paths and contents.

Sorted names, one fixed time, one fixed mode, deflate at zlib's own level (6): the same code is the same SHA-256 and so
the same version. (Another build of zlib may compress differently: that costs a second version, nothing else.)
Bounds and the manifest mirror the server's contract (a test compares them), so that what the server would refuse is
said before anything is uploaded. Called by _deploy; calls _ignore.

Always holds: no link leads out of the folder, nothing but regular files goes in, no two names collide on a file
system that folds case or Unicode.
"""

import hashlib
import json
import os
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tailcut._errors import ProjectError
from tailcut._ignore import Ignore

MANIFEST_NAME = "tailcut.json"
PACKAGES_FOLDER = "_packages"
SCHEMA_VERSION = 1

ARCHIVE_BYTES_MAX = 64 * 2**20
UNPACKED_BYTES_MAX = 256 * 2**20
FILES_MAX = 20_000
RATIO_MAX = 100
RATIO_FREE_BYTES = 2**20
DEPTH_MAX = 32
PATH_BYTES_MAX = 512
NAME_BYTES_MAX = 200

TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can hold."""
FILE_MODE = (stat.S_IFREG | 0o644) << 16
CHUNK_BYTES = 2**18


@dataclass(frozen=True, slots=True)
class Manifest:
    """``tailcut.json``. ``limits`` holds only what was asked for: the server knows the defaults."""

    handler: str
    python: str
    limits: dict[str, int | str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    lock: list[str] = field(default_factory=list)
    tool: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        document = {
            "schema_version": SCHEMA_VERSION,
            "handler": self.handler,
            "python": self.python,
            "limits": self.limits,
            "env": self.env,
            "lock": self.lock,
            "tool": self.tool,
        }
        return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Bundle:
    path: Path
    sha256: str
    archive_bytes: int
    unpacked_bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file on this machine and its name in the archive."""

    path: Path
    name: str
    size_bytes: int


def pack(
    *, sources: list[Source], manifest: Manifest, output: Path, on_bytes: Callable[[int], None] = lambda count: None
) -> Bundle:
    """Writes the archive of what ``collect`` found to ``output``."""
    manifest_bytes = manifest.to_json()
    unpacked = len(manifest_bytes)
    with zipfile.ZipFile(output, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry(MANIFEST_NAME), manifest_bytes)
        for source in sources:
            unpacked += _add(archive, source, on_bytes)
            if unpacked > UNPACKED_BYTES_MAX:
                raise _too_large(unpacked, sources)
    archive_bytes = output.stat().st_size
    if archive_bytes > ARCHIVE_BYTES_MAX:
        raise ProjectError(
            f"the bundle has {archive_bytes:,} bytes packed; at most {ARCHIVE_BYTES_MAX:,} are allowed. "
            f"The largest files: {_largest(sources)}",
            hint="leave files out with `exclude` in tailcut.toml, or depend on smaller packages",
        )
    return Bundle(output, _sha256(output), archive_bytes, unpacked, len(sources) + 1)


def collect(*, code: Path, packages: Path | None, exclude: tuple[str, ...]) -> list[Source]:
    """What will be packed, in order, checked against every bound that can be checked before packing."""
    alone = [] if code.is_dir() else [Source(code, code.name, code.stat().st_size)]
    found = alone or list(_folder(code, Ignore(exclude)))
    for source in found:
        if source.name == MANIFEST_NAME or source.name.split("/", 1)[0] == PACKAGES_FOLDER:
            raise ProjectError(
                f"{source.path} has a name that the bundle needs itself ({MANIFEST_NAME}, {PACKAGES_FOLDER}/)",
                hint="rename it, or leave it out with `exclude` in tailcut.toml",
            )
    if packages is not None:
        installed = _folder(packages, Ignore())
        found += [Source(entry.path, f"{PACKAGES_FOLDER}/{entry.name}", entry.size_bytes) for entry in installed]
    found.sort(key=lambda source: source.name.encode("utf-8", "surrogateescape"))
    _check(found)
    return found


def _folder(root: Path, ignore: Ignore) -> Iterator[Source]:
    """Every file below ``root`` that is not excluded, links inside of it followed."""
    inside = root.resolve(strict=True)

    def walk(folder: Path, prefix: str, above: frozenset[Path]) -> Iterator[Source]:
        with _open_folder(folder) as entries:
            listed = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        for entry in listed:
            name = prefix + entry.name
            path = Path(entry.path)
            if ignore.excludes(name, is_folder=path.is_dir()):
                continue
            target = _target(path, inside) if entry.is_symlink() else path
            mode = target.stat().st_mode
            if stat.S_ISDIR(mode):
                real = target.resolve()
                if real in above:
                    raise ProjectError(
                        f"{path} leads back to a folder that contains it", hint="leave it out with `exclude`"
                    )
                if not (target / "pyvenv.cfg").is_file():  # a virtual environment under any name stays at home
                    yield from walk(path, name + "/", above | {real})
            elif stat.S_ISREG(mode):
                yield Source(target, name, target.stat().st_size)
            else:
                raise ProjectError(
                    f"{path} is a {_kind(mode)}; only regular files can be deployed",
                    hint="leave it out with `exclude` in tailcut.toml",
                )

    yield from walk(root, "", frozenset({inside}))


def _target(link: Path, inside: Path) -> Path:
    """Where a link inside the folder leads; a link that leads out of it is refused."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        raise ProjectError(
            f"{link} is a link to {_shown_link(link)}, which does not exist", hint="remove it or exclude it"
        ) from None
    if not target.is_relative_to(inside):
        raise ProjectError(
            f"{link} is a link to {target}, which is outside of {inside}: only what is in the folder is deployed",
            hint="copy the file into the folder, or leave the link out with `exclude` in tailcut.toml",
        )
    return target


def _open_folder(folder: Path) -> Any:
    try:
        return os.scandir(folder)
    except OSError as error:
        raise ProjectError(f"cannot read the folder {folder}: {error.strerror}") from None


def _check(sources: list[Source]) -> None:
    if len(sources) + 1 > FILES_MAX:
        raise ProjectError(
            f"{len(sources) + 1:,} files; at most {FILES_MAX:,} can be deployed",
            hint="leave files out with `exclude` in tailcut.toml",
        )
    unpacked = sum(source.size_bytes for source in sources)
    if unpacked > UNPACKED_BYTES_MAX:
        raise _too_large(unpacked, sources)
    seen: dict[str, str] = {}
    for source in sources:
        _check_name(source.name)
        folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", source.name).casefold())
        if folded in seen:
            raise ProjectError(
                f"{seen[folded]!r} and {source.name!r} differ only in case or in how Unicode is written: one would "
                "hide the other on some machines",
                hint="rename one of them",
            )
        seen[folded] = source.name


def _check_name(name: str) -> None:
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise ProjectError(f"the file name {name!r} is not UTF-8", hint="rename the file") from None
    parts = name.split("/")
    longest = max(len(part.encode()) for part in parts)
    for what, value, bound in (
        ("bytes long", len(encoded), PATH_BYTES_MAX),
        ("folders deep", len(parts), DEPTH_MAX),
        ("bytes long in one part", longest, NAME_BYTES_MAX),
    ):
        if value > bound:
            raise ProjectError(f"the path {name!r} is {value} {what}; at most {bound} are allowed")
    if any(ord(character) < 0x20 or character in "\\\x7f" for character in name):
        raise ProjectError(f"the file name {name!r} has a control character or a backslash", hint="rename the file")


def _add(archive: zipfile.ZipFile, source: Source, on_bytes: Callable[[int], None]) -> int:
    """Packs one file; returns how many bytes it had."""
    count = 0
    try:
        with source.path.open("rb") as reader:
            entry = _entry(source.name)
            if _looks_like_a_bomb(reader, source.size_bytes):
                entry.compress_type = zipfile.ZIP_STORED
            with archive.open(entry, "w") as writer:
                while chunk := reader.read(CHUNK_BYTES):
                    writer.write(chunk)
                    count += len(chunk)
                    on_bytes(len(chunk))
    except OSError as error:
        raise ProjectError(f"cannot pack {source.path}: {error.strerror}") from None
    return count


def _looks_like_a_bomb(reader: BinaryIO, size_bytes: int) -> bool:
    """Whether a file would be refused for growing too much when unpacked: such a one is stored as it is.

    Not as rare as it sounds: wheels hold shared libraries of megabytes that are nearly all padding. Compresses until
    the answer is clear, which for most files is after some percent of them.
    """
    if size_bytes < RATIO_FREE_BYTES:
        return False
    compressor = zlib.compressobj()
    packed_bytes = 0
    while chunk := reader.read(CHUNK_BYTES):
        packed_bytes += len(compressor.compress(chunk))
        if packed_bytes * RATIO_MAX > size_bytes:
            break
    else:
        packed_bytes += len(compressor.flush())
    reader.seek(0)
    return packed_bytes * RATIO_MAX <= size_bytes


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, TIME)
    entry.create_system = 3
    entry.external_attr = FILE_MODE
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _too_large(unpacked: int, sources: list[Source]) -> ProjectError:
    return ProjectError(
        f"{unpacked:,} bytes unpacked; at most {UNPACKED_BYTES_MAX:,} can be deployed. "
        f"The largest files: {_largest(sources)}",
        hint="leave files out with `exclude` in tailcut.toml, or depend on smaller packages",
    )


def _largest(sources: list[Source]) -> str:
    largest = sorted(sources, key=lambda source: -source.size_bytes)[:5]
    return ", ".join(f"{source.name} ({source.size_bytes:,})" for source in largest)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shown_link(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return "a place that cannot be read"


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return kinds.get(stat.S_IFMT(mode), "special file")
