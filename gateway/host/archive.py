"""A strict reader of bundles: a zip archive that says one thing only, or ArchiveRefused.

The control plane checks uploads too, but a gateway believes nobody: this reader shares no code with it, nor with
``zipfile``, which accepts what tools read differently (overlapping entries, names that differ between the two
directories). What it insists on (APPNOTE.TXT 6.3.10):

- one disk, no zip64, no comment, nothing before the first entry, between the parts or after the end;
- central and local headers agree, entries do not overlap, no encryption, methods stored and deflate only;
- regular files and folders only; relative paths without ``..``, NUL, backslash or control characters; no two paths
  that are equal after Unicode normalisation and case folding, no file where a folder must be;
- the bounds of gateway.contract.bundle, counted while decompressing; sizes and CRC-32 as declared.

Called by ``bundles`` in a thread. Always holds: nothing is written outside the target folder.
"""

import os
import stat
import struct
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gateway.contract import bundle

_END = struct.Struct("<4sHHHHIIH")
_CENTRAL = struct.Struct("<4sBBHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_STORED, _DEFLATED = 0, 8
_FLAG_ENCRYPTED, _FLAG_DESCRIPTOR, _FLAG_UTF8 = 1 << 0, 1 << 3, 1 << 11
_FLAGS_KNOWN = 0b110 | _FLAG_DESCRIPTOR | _FLAG_UTF8
"""Bits 1 and 2 tell how hard deflate tried."""
_EXTRA_ZIP64, _EXTRA_UNICODE_PATH = 0x0001, 0x7075
_RATIO_EXEMPT_BYTES = 2**20
_UNIX = 3
_CHUNK_BYTES = 256 * 1024


class ArchiveRefused(Exception):
    """The archive breaks a rule; the text names the rule, the value and the entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    path: PurePosixPath
    is_folder: bool
    method: int
    flags: int
    crc32: int
    packed_bytes: int
    unpacked_bytes: int
    offset: int
    raw_name: bytes


def unpack(archive: bytes, target: Path) -> int:
    """Writes the archive's files under ``target`` (which exists and is empty), read-only; returns how many.

    Raises ArchiveRefused; the caller then throws ``target`` away.
    """
    entries = read_entries(archive)
    folders = {target}
    files = 0
    for entry in entries:
        path = target.joinpath(*entry.path.parts)
        for folder in [*reversed(path.relative_to(target).parents), entry.path if entry.is_folder else PurePosixPath()]:
            folders.add(target / folder)
            (target / folder).mkdir(mode=0o700, exist_ok=True)
        if entry.is_folder:
            continue
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444)
        with os.fdopen(descriptor, "wb") as file:
            for chunk in _content(archive, entry):
                file.write(chunk)
        files += 1
    for folder in folders:
        Path(folder).chmod(0o555)
    return files


def read_entries(archive: bytes) -> list[Entry]:
    """The checked directory of the archive. Raises ArchiveRefused."""
    if len(archive) > bundle.ARCHIVE_BYTES_MAX:
        raise ArchiveRefused(f"the archive has {len(archive)} bytes, at most {bundle.ARCHIVE_BYTES_MAX} are allowed")
    count, directory_start, directory_end = _end_record(archive)
    if count > bundle.FILES_MAX:
        raise ArchiveRefused(f"{count} entries, at most {bundle.FILES_MAX} are allowed")
    entries = list(_central_directory(archive, count, directory_start, directory_end))
    unpacked_bytes = sum(entry.unpacked_bytes for entry in entries)
    if unpacked_bytes > bundle.UNPACKED_BYTES_MAX:
        raise ArchiveRefused(f"{unpacked_bytes} bytes unpacked, at most {bundle.UNPACKED_BYTES_MAX} are allowed")
    _check_layout(archive, entries, directory_start)
    _check_collisions(entries)
    return entries


def _end_record(archive: bytes) -> tuple[int, int, int]:
    at = len(archive) - _END.size
    if at < 0 or archive[at : at + 4] != b"PK\5\6":
        raise ArchiveRefused("no end record in the last 22 bytes: not a zip archive, or one with a comment or a tail")
    _, disk, directory_disk, count_here, count, size, start, comment_bytes = _END.unpack_from(archive, at)
    if disk or directory_disk or count_here != count:
        raise ArchiveRefused("an archive of several disks")
    if comment_bytes:
        raise ArchiveRefused(f"a comment of {comment_bytes} bytes is announced after the end record")
    if count == 0xFFFF or 0xFFFFFFFF in (size, start):
        raise ArchiveRefused("a zip64 archive")
    if start + size != at:
        raise ArchiveRefused(f"the directory at {start} with {size} bytes does not end at the end record at {at}")
    return count, start, at


def _central_directory(archive: bytes, count: int, at: int, end: int) -> Iterator[Entry]:
    for number in range(count):
        if end - at < _CENTRAL.size:
            raise ArchiveRefused(f"the directory ends in the middle of entry {number} of {count}")
        (signature, _, system, _, flags, method, _, _, crc, packed, unpacked, name_bytes, extra_bytes, comment_bytes,
         disk, _, attributes, offset) = _CENTRAL.unpack_from(archive, at)  # fmt: skip
        if signature != b"PK\1\2":
            raise ArchiveRefused(f"entry {number} of the directory has no signature")
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_bytes
        at = extra_at + extra_bytes + comment_bytes
        if at > end:
            raise ArchiveRefused(f"entry {number} of the directory is longer than the directory")
        raw_name = archive[name_at:extra_at]
        _check_extra(archive[extra_at : extra_at + extra_bytes], raw_name)
        if disk:
            raise ArchiveRefused(f"{raw_name!r} is on disk {disk}")
        if 0xFFFFFFFF in (packed, unpacked, offset):
            raise ArchiveRefused(f"{raw_name!r} needs zip64")
        yield _entry(raw_name, system, flags, method, crc, packed, unpacked, attributes, offset)
    if at != end:
        raise ArchiveRefused(f"{end - at} bytes after the last entry of the directory")


def _entry(
    raw_name: bytes, system: int, flags: int, method: int, crc: int, packed: int, unpacked: int, attributes: int, offset: int
) -> Entry:
    if flags & ~_FLAGS_KNOWN:
        kind = "is encrypted" if flags & _FLAG_ENCRYPTED else f"has flags {flags:#06x}"
        raise ArchiveRefused(f"{raw_name!r} {kind}: only plain entries are allowed")
    if method not in (_STORED, _DEFLATED):
        raise ArchiveRefused(f"{raw_name!r} uses method {method}: only stored (0) and deflate (8) are allowed")
    mode = attributes >> 16 if system == _UNIX else 0
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveRefused(f"{raw_name!r} is a link or a device (mode {mode:#o}): only files and folders are allowed")
    is_folder = raw_name.endswith(b"/")
    if mode and stat.S_IFMT(mode) and stat.S_ISDIR(mode) != is_folder:
        raise ArchiveRefused(f"{raw_name!r}: the name and the mode {mode:#o} disagree on whether it is a folder")
    if is_folder and (packed or unpacked) and not (unpacked == 0 and packed <= 2):
        raise ArchiveRefused(f"{raw_name!r} is a folder with content")
    if method == _STORED and packed != unpacked:
        raise ArchiveRefused(f"{raw_name!r} is stored, but {packed} bytes become {unpacked}")
    if unpacked > _RATIO_EXEMPT_BYTES and unpacked > packed * bundle.RATIO_MAX:
        raise ArchiveRefused(
            f"{raw_name!r}: {packed} bytes become {unpacked}, at most {bundle.RATIO_MAX} times as many are allowed"
        )
    return Entry(_path(raw_name, flags), is_folder, method, flags, crc, packed, unpacked, offset, raw_name)


def _path(raw_name: bytes, flags: int) -> PurePosixPath:
    if len(raw_name) > bundle.PATH_BYTES_MAX:
        raise ArchiveRefused(f"a path of {len(raw_name)} bytes, at most {bundle.PATH_BYTES_MAX} are allowed")
    try:
        name = raw_name.decode("utf-8" if flags & _FLAG_UTF8 else "ascii")
    except UnicodeDecodeError:
        raise ArchiveRefused(f"{raw_name!r} is neither ASCII nor marked and valid UTF-8") from None
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in name) or "\\" in name:
        raise ArchiveRefused(f"{raw_name!r} contains a backslash, a control or a format character")
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ArchiveRefused(f"{raw_name!r} is absolute, empty or has a part that is empty, '.' or '..'")
    if len(parts) > bundle.DEPTH_MAX:
        raise ArchiveRefused(f"{raw_name!r} is {len(parts)} levels deep, at most {bundle.DEPTH_MAX} are allowed")
    if any(len(part.encode()) > bundle.NAME_BYTES_MAX for part in parts):
        raise ArchiveRefused(f"{raw_name!r}: a name over {bundle.NAME_BYTES_MAX} bytes")
    return PurePosixPath(*parts)


def _check_extra(extra: bytes, raw_name: bytes) -> None:
    """Time stamps and owners are ignored; fields that change the sizes or the name are refused."""
    at = 0
    while at < len(extra):
        if len(extra) - at < 4:
            raise ArchiveRefused(f"{raw_name!r}: a torn extra field")
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind in (_EXTRA_ZIP64, _EXTRA_UNICODE_PATH):
            raise ArchiveRefused(f"{raw_name!r}: extra field {kind:#06x} (zip64 or a second name)")
        at += 4 + size
    if at != len(extra):
        raise ArchiveRefused(f"{raw_name!r}: an extra field longer than its room")


def _check_layout(archive: bytes, entries: list[Entry], directory_start: int) -> None:
    """The entries fill the bytes before the directory, in order, without holes (but for data descriptors) or overlaps."""
    at = 0
    for entry in sorted(entries, key=lambda one: one.offset):
        if entry.offset != at:
            raise ArchiveRefused(
                f"{entry.raw_name!r} begins at {entry.offset}, the one before it ends at {at}: overlap or hole"
            )
        at = _data_start(archive, entry, directory_start) + entry.packed_bytes
        if entry.flags & _FLAG_DESCRIPTOR:
            at += _descriptor_bytes(archive, entry, at)
    if at != directory_start:
        raise ArchiveRefused(f"the entries end at {at}, the directory begins at {directory_start}")


def _data_start(archive: bytes, entry: Entry, limit: int) -> int:
    """Checks the local header against the central one; returns where the content begins."""
    if limit - entry.offset < _LOCAL.size:
        raise ArchiveRefused(f"{entry.raw_name!r}: no room for a local header at {entry.offset}")
    signature, _, flags, method, _, _, crc, packed, unpacked, name_bytes, extra_bytes = _LOCAL.unpack_from(
        archive, entry.offset
    )
    name_at = entry.offset + _LOCAL.size
    start = name_at + name_bytes + extra_bytes
    if signature != b"PK\3\4" or start + entry.packed_bytes > limit:
        raise ArchiveRefused(f"{entry.raw_name!r}: no local header at {entry.offset}, or content past the directory")
    name = archive[name_at : name_at + name_bytes]
    described = entry.flags & _FLAG_DESCRIPTOR and (crc, packed, unpacked) == (0, 0, 0)
    if (name, flags, method) != (entry.raw_name, entry.flags, entry.method) or not (
        described or (crc, packed, unpacked) == (entry.crc32, entry.packed_bytes, entry.unpacked_bytes)
    ):
        raise ArchiveRefused(f"{entry.raw_name!r}: the local header (name {name!r}) differs from the directory")
    _check_extra(archive[name_at + name_bytes : start], entry.raw_name)
    return start


def _descriptor_bytes(archive: bytes, entry: Entry, at: int) -> int:
    fields = struct.pack("<III", entry.crc32, entry.packed_bytes, entry.unpacked_bytes)
    for descriptor in (b"PK\7\10" + fields, fields):
        if archive[at : at + len(descriptor)] == descriptor:
            return len(descriptor)
    raise ArchiveRefused(f"{entry.raw_name!r}: the data descriptor at {at} is missing or differs from the directory")


def _check_collisions(entries: list[Entry]) -> None:
    """A case-insensitive or normalising reader must see the same files; a path is a file or a folder, once."""
    seen: dict[str, tuple[PurePosixPath, bool]] = {}
    for entry in entries:
        for ancestor in reversed(entry.path.parents[:-1]):
            known = seen.setdefault(_folded(ancestor), (ancestor, True))
            if known != (ancestor, True):
                raise ArchiveRefused(f"{entry.raw_name!r}: {ancestor} collides with {known[0]}")
        key = _folded(entry.path)
        if key in seen and not (entry.is_folder and seen[key] == (entry.path, True)):
            raise ArchiveRefused(f"{entry.raw_name!r} collides with {seen[key][0]}")
        seen[key] = (entry.path, entry.is_folder)
    explicit = [entry.path for entry in entries if entry.is_folder]
    if len(explicit) != len(set(explicit)):
        raise ArchiveRefused("a folder is listed twice")


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", str(path)).casefold())


def _content(archive: bytes, entry: Entry) -> Iterator[bytes]:
    """The decompressed bytes, never more than declared. Raises ArchiveRefused at the first that is too many."""
    start = _data_start(archive, entry, len(archive))
    packed = memoryview(archive)[start : start + entry.packed_bytes]
    crc = 0
    total = 0
    for chunk in [bytes(packed)] if entry.method == _STORED else _inflate(packed, entry):
        total += len(chunk)
        if total > entry.unpacked_bytes:
            raise ArchiveRefused(f"{entry.raw_name!r} unpacks to more than the declared {entry.unpacked_bytes} bytes")
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if (total, crc) != (entry.unpacked_bytes, entry.crc32):
        raise ArchiveRefused(
            f"{entry.raw_name!r}: {total} bytes with CRC {crc:08x}, declared {entry.unpacked_bytes} with {entry.crc32:08x}"
        )


def _inflate(packed: memoryview, entry: Entry) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    rest = bytes(packed)
    try:
        while not inflater.eof:
            chunk = inflater.decompress(rest, _CHUNK_BYTES)
            rest = inflater.unconsumed_tail
            if not chunk and not inflater.eof:
                raise ArchiveRefused(f"{entry.raw_name!r}: the compressed data ends too early")
            yield chunk
    except zlib.error as error:
        raise ArchiveRefused(f"{entry.raw_name!r}: {error}") from None
    if inflater.unused_data or rest:
        raise ArchiveRefused(f"{entry.raw_name!r}: bytes after the end of the compressed data")
