"""A strict reader of zip archives: what it lists is what every other reader would unpack, or it refuses.

An uploaded bundle is hostile. CPython's zipfile accepts overlapping entries, prepended data and local headers that
contradict the central directory; two readers may then see two archives. This one accepts only files that tile from
the first byte to the last: local header, data, (descriptor), next local header, …, central directory, end record.

Called by the control plane at upload (``verify``) and by the gateway before a version runs (``unpack``). Both read
every byte. What always holds: no more than the bounds of ``bundle.py`` is ever decompressed or written, nothing is
written outside ``target_dir``, and hostile input gives ``BadArchive``, never another exception.

Format: PKWARE APPNOTE.TXT 6.3.10; section numbers below are from there.
"""

import os
import re
import shutil
import stat
import struct
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from gateway.contract import bundle


class Reason(StrEnum):
    """Why an archive is refused; one word per rule, stable, shown to users."""

    TOO_LARGE = "too-large"
    NOT_ZIP = "not-a-zip"
    TRUNCATED = "truncated"
    TRAILING_DATA = "trailing-data"
    COMMENT = "comment"
    MULTI_DISK = "multi-disk"
    ZIP64 = "zip64"
    DIRECTORY = "central-directory"
    FILES = "too-many-files"
    MISMATCH = "headers-differ"
    OVERLAP = "overlap"
    GAP = "gap"
    DESCRIPTOR = "data-descriptor"
    ENCRYPTED = "encrypted"
    FLAGS = "unsupported-flags"
    METHOD = "unsupported-method"
    VERSION = "unsupported-version"
    EXTRA = "extra-field"
    NAME_ENCODING = "name-encoding"
    NAME_EMPTY = "name-empty"
    NAME_CHARACTER = "name-character"
    NAME_ABSOLUTE = "name-absolute"
    NAME_TRAVERSAL = "name-traversal"
    NAME_LENGTH = "name-too-long"
    DEPTH = "too-deep"
    DUPLICATE = "duplicate"
    COLLISION = "name-collision"
    LINK = "link"
    FILE_TYPE = "file-type"
    DIRECTORY_DATA = "directory-with-data"
    UNPACKED = "unpacked-too-large"
    RATIO = "ratio"
    SIZE = "size-differs"
    DEFLATE = "bad-deflate"
    CRC = "crc"


class BadArchive(Exception):  # noqa: N818 - the name says what it is
    """The archive is refused. ``str()`` is one sentence for the person who uploaded it."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Bounds:
    archive_bytes_max: int = bundle.ARCHIVE_BYTES_MAX
    unpacked_bytes_max: int = bundle.UNPACKED_BYTES_MAX
    files_max: int = bundle.FILES_MAX
    ratio_max: int = bundle.RATIO_MAX
    ratio_exempt_bytes: int = 2**20
    depth_max: int = bundle.DEPTH_MAX
    path_bytes_max: int = bundle.PATH_BYTES_MAX
    name_bytes_max: int = bundle.NAME_BYTES_MAX
    comment_bytes_max: int = 1024
    extra_bytes_max: int = 1024


DEFAULT_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder; ``path`` has no trailing slash."""

    path: str
    is_folder: bool
    is_executable: bool
    is_deflated: bool
    header_offset: int
    data_offset: int
    packed_bytes: int
    unpacked_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Listing:
    entries: tuple[Entry, ...]
    unpacked_bytes: int

    def find(self, path: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.path == path), None)


def verify(archive_path: Path, bounds: Bounds = DEFAULT_BOUNDS) -> Listing:
    """Read every byte of the archive; raise ``BadArchive`` unless it is sound."""
    with archive_path.open("rb") as file:
        listing = read_listing(file, bounds)
        for entry in listing.entries:
            for _ in read_entry(file, entry):
                pass
    return listing


def unpack(archive_path: Path, target_dir: Path, bounds: Bounds = DEFAULT_BOUNDS) -> Listing:
    """Unpack into ``target_dir``, which must not exist yet; files become read-only.

    Raises ``BadArchive``, ``FileExistsError`` or ``OSError``; after any of them ``target_dir`` is gone again (unless
    it was there before).
    """
    with archive_path.open("rb") as file:
        listing = read_listing(file, bounds)
        target_dir.mkdir(mode=0o755)
        try:
            target_dir.chmod(0o755)
            made = {""}
            for entry in listing.entries:
                folder = entry.path if entry.is_folder else entry.path.rpartition("/")[0]
                _make_folders(target_dir, folder, made)
                if not entry.is_folder:
                    _write_file(target_dir / entry.path, file, entry)
        except BaseException:
            shutil.rmtree(target_dir, ignore_errors=True)
            raise
    return listing


def read_file(archive_path: Path, entry: Entry, bytes_max: int) -> bytes:
    """The content of one small file, e.g. the manifest."""
    if entry.unpacked_bytes > bytes_max:
        raise BadArchive(Reason.SIZE, f"{_shown(entry.path)} has {entry.unpacked_bytes} bytes; at most {bytes_max}.")
    with archive_path.open("rb") as file:
        return b"".join(read_entry(file, entry))


def _make_folders(target_dir: Path, folder: str, made: set[str]) -> None:
    missing = []
    while folder not in made:
        missing.append(folder)
        folder = folder.rpartition("/")[0]
    for path in reversed(missing):
        (target_dir / path).mkdir(mode=0o755)
        (target_dir / path).chmod(0o755)
        made.add(path)


def _write_file(path: Path, file: BinaryIO, entry: Entry) -> None:
    # O_EXCL and O_NOFOLLOW: the folder is fresh and ours; whatever else is there was put there by somebody else.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        for block in read_entry(file, entry):
            output.write(block)
        os.fchmod(output.fileno(), 0o555 if entry.is_executable else 0o444)


# -- Contents ---------------------------------------------------------------------------------------------------------

_BLOCK_BYTES = 256 * 1024


def read_entry(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """The content in blocks; it raises at the first byte more than the header promised, and at the end if the
    length or the CRC is not as promised. So the promise, checked by ``read_listing``, bounds what is decompressed."""
    crc, produced = 0, 0
    for block in _inflate(file, entry) if entry.is_deflated else _stored(file, entry):
        produced += len(block)
        if produced > entry.unpacked_bytes:
            raise BadArchive(
                Reason.SIZE, f"{_shown(entry.path)} unpacks to more than the {entry.unpacked_bytes} bytes it declares."
            )
        crc = zlib.crc32(block, crc)
        yield block
    if produced != entry.unpacked_bytes:
        raise BadArchive(
            Reason.SIZE, f"{_shown(entry.path)} unpacks to {produced} bytes but declares {entry.unpacked_bytes}."
        )
    if crc != entry.crc32:
        raise BadArchive(
            Reason.CRC, f"{_shown(entry.path)} is damaged: its CRC is {crc:08x}, declared {entry.crc32:08x}."
        )


def _stored(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    file.seek(entry.data_offset)
    left = entry.packed_bytes
    while left > 0:
        block = file.read(min(left, _BLOCK_BYTES))
        if not block:
            raise BadArchive(Reason.TRUNCATED, f"The data of {_shown(entry.path)} ends early.")
        left -= len(block)
        yield block


def _inflate(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for block in _stored(file, entry):
            if inflater.eof:
                raise BadArchive(Reason.DEFLATE, f"{_shown(entry.path)} has data after the end of its deflate stream.")
            packed = block
            while packed:
                output = inflater.decompress(packed, _BLOCK_BYTES)
                packed = inflater.unconsumed_tail
                if output:
                    yield output
                if inflater.unused_data:
                    raise BadArchive(
                        Reason.DEFLATE, f"{_shown(entry.path)} has data after the end of its deflate stream."
                    )
        # The window may still hold output although all input is consumed.
        while not inflater.eof and (output := inflater.decompress(b"", _BLOCK_BYTES)):
            yield output
    except zlib.error as error:
        raise BadArchive(Reason.DEFLATE, f"{_shown(entry.path)} is not a valid deflate stream ({error}).") from None
    if not inflater.eof:
        raise BadArchive(Reason.DEFLATE, f"The deflate stream of {_shown(entry.path)} ends early.")


# -- Structure --------------------------------------------------------------------------------------------------------

_END = struct.Struct("<4s4H2LH")  # 4.3.16
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
_DESCRIPTOR = struct.Struct("<3L")  # 4.3.9

_END_SIGNATURE = b"PK\x05\x06"
_CENTRAL_SIGNATURE = b"PK\x01\x02"
_LOCAL_SIGNATURE = b"PK\x03\x04"
_DESCRIPTOR_SIGNATURE = b"PK\x07\x08"
_ZIP64_LOCATOR_SIGNATURE = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20

_FLAG_DESCRIPTOR = 1 << 3
_FLAG_UTF8 = 1 << 11
_FLAGS_ENCRYPTION = 1 << 0 | 1 << 6 | 1 << 13
_FLAGS_ALLOWED = 1 << 1 | 1 << 2 | _FLAG_DESCRIPTOR | _FLAG_UTF8
_METHOD_STORED, _METHOD_DEFLATED = 0, 8
_VERSION_NEEDED_MAX = 20
"""2.0: folders and deflate. Zip64 says 4.5."""
_EXTRAS_ALLOWED = {0x5455, 0x5855, 0x7875, 0x000A}
"""Time stamps and owners (Info-ZIP UT, UX, ux; NTFS times). Not zip64 (1), Unicode path (7075), AES (9901), …"""
_DOS_VOLUME_LABEL, _DOS_FOLDER = 0x08, 0x10


@dataclass(frozen=True, slots=True)
class _Central:
    """One record of the central directory, as it stands there."""

    version_needed: int
    flags: int
    method: int
    time: int
    date: int
    crc32: int
    packed_bytes: int
    unpacked_bytes: int
    external_attributes: int
    header_offset: int
    name: bytes


def read_listing(file: BinaryIO, bounds: Bounds = DEFAULT_BOUNDS) -> Listing:
    """Check everything but the compressed data."""
    size = file.seek(0, os.SEEK_END)
    if size > bounds.archive_bytes_max:
        raise BadArchive(Reason.TOO_LARGE, f"The archive has {size} bytes; at most {bounds.archive_bytes_max}.")
    entry_count, directory_offset, directory_end = _read_end_record(file, size, bounds)
    file.seek(directory_offset)
    directory = file.read(directory_end - directory_offset)
    centrals = _read_directory(directory, entry_count, bounds)

    paths = _Paths(bounds)
    entries = []
    unpacked_bytes = 0
    # Where each entry ends is where the next one begins, in the order of the file.
    order = sorted(centrals, key=lambda central: central.header_offset)
    for index, central in enumerate(order):
        path, is_folder = paths.accept(central)
        unpacked_bytes += central.unpacked_bytes
        if unpacked_bytes > bounds.unpacked_bytes_max:
            raise BadArchive(
                Reason.UNPACKED, f"The archive unpacks to more than {bounds.unpacked_bytes_max} bytes in all."
            )
        _check_ratio(central, bounds)
        begin = order[index - 1].header_offset if index else 0
        if index == 0 and central.header_offset != begin:
            raise BadArchive(Reason.GAP, f"{central.header_offset} bytes stand before the first file.")
        end = order[index + 1].header_offset if index + 1 < len(order) else directory_offset
        data_offset = _check_local(file, central, end, bounds)
        entries.append(_entry(central, path, is_folder, data_offset))
    if not order and directory_offset != 0:
        raise BadArchive(Reason.GAP, f"{directory_offset} bytes stand before the central directory.")
    return Listing(entries=tuple(entries), unpacked_bytes=unpacked_bytes)


def _entry(central: _Central, path: str, is_folder: bool, data_offset: int) -> Entry:
    return Entry(
        path=path,
        is_folder=is_folder,
        is_executable=bool(central.external_attributes >> 16 & 0o111),
        is_deflated=central.method == _METHOD_DEFLATED,
        header_offset=central.header_offset,
        data_offset=data_offset,
        packed_bytes=central.packed_bytes,
        unpacked_bytes=central.unpacked_bytes,
        crc32=central.crc32,
    )


def _read_end_record(file: BinaryIO, size: int, bounds: Bounds) -> tuple[int, int, int]:
    """(entries, where the central directory begins, where it ends)"""
    window_bytes = min(size, _END.size + 0xFFFF)
    file.seek(size - window_bytes)
    window = file.read(window_bytes)
    at = window.rfind(_END_SIGNATURE)
    if at < 0 or len(window) - at < _END.size:
        truncated = window.startswith(_LOCAL_SIGNATURE) or size > window_bytes or at >= 0
        if truncated:
            raise BadArchive(Reason.TRUNCATED, "The archive has no end record: it is cut off, or not a zip file.")
        raise BadArchive(Reason.NOT_ZIP, "This is not a zip file (it has no end record).")
    (_, disk, directory_disk, disk_entries, entries, directory_bytes, directory_offset, comment_bytes) = (
        _END.unpack_from(window, at)
    )
    comment = window[at + _END.size :]
    if len(comment) < comment_bytes:
        raise BadArchive(Reason.TRUNCATED, f"The archive's comment should have {comment_bytes} bytes.")
    if len(comment) > comment_bytes:
        raise BadArchive(Reason.TRAILING_DATA, f"{len(comment) - comment_bytes} bytes follow the end of the archive.")
    if comment_bytes > bounds.comment_bytes_max or b"PK" in comment:
        raise BadArchive(
            Reason.COMMENT,
            f"The archive's comment may have {bounds.comment_bytes_max} bytes and must not contain zip signatures.",
        )
    locator_at = at - _ZIP64_LOCATOR_BYTES
    has_locator = locator_at >= 0 and window[locator_at : locator_at + 4] == _ZIP64_LOCATOR_SIGNATURE
    if has_locator or 0xFFFF in (disk, entries, disk_entries) or 0xFFFFFFFF in (directory_bytes, directory_offset):
        raise BadArchive(Reason.ZIP64, "Zip64 archives are not accepted (a bundle is far below 4 GiB).")
    if disk or directory_disk or disk_entries != entries:
        raise BadArchive(Reason.MULTI_DISK, "Archives that span several disks are not accepted.")
    if entries > bounds.files_max:
        raise BadArchive(Reason.FILES, f"The archive has {entries} entries; at most {bounds.files_max}.")
    directory_end = size - window_bytes + at
    if directory_offset + directory_bytes != directory_end:
        raise BadArchive(
            Reason.DIRECTORY,
            f"The central directory should end at byte {directory_offset + directory_bytes}, "
            f"but the end record stands at byte {directory_end}.",
        )
    return entries, directory_offset, directory_end


def _read_directory(directory: bytes, entry_count: int, bounds: Bounds) -> list[_Central]:
    centrals: list[_Central] = []
    at = 0
    for _ in range(entry_count):
        if len(directory) - at < _CENTRAL.size or directory[at : at + 4] != _CENTRAL_SIGNATURE:
            raise BadArchive(
                Reason.DIRECTORY, f"The central directory should have {entry_count} records; it has {len(centrals)}."
            )
        (_, _, needed, flags, method, time, date, crc, packed, unpacked, *rest) = _CENTRAL.unpack_from(directory, at)
        name_bytes, extra_bytes, comment_bytes, disk, _, external, offset = rest
        at += _CENTRAL.size
        if len(directory) - at < name_bytes + extra_bytes + comment_bytes:
            raise BadArchive(Reason.DIRECTORY, "A record of the central directory is longer than the directory.")
        name = directory[at : at + name_bytes]
        at += name_bytes
        _check_extra(directory[at : at + extra_bytes], name, bounds)
        at += extra_bytes
        comment = directory[at : at + comment_bytes]
        if comment_bytes > bounds.comment_bytes_max or b"PK" in comment:
            raise BadArchive(
                Reason.COMMENT,
                f"The comment of {_shown(name)} has {comment_bytes} bytes (at most {bounds.comment_bytes_max}) "
                "or contains a zip signature.",
            )
        at += comment_bytes
        if 0xFFFFFFFF in (packed, unpacked, offset) or disk == 0xFFFF:
            raise BadArchive(Reason.ZIP64, f"{_shown(name)} uses zip64 sizes, which are not accepted.")
        if disk != 0:
            raise BadArchive(Reason.MULTI_DISK, f"{_shown(name)} is said to be on disk {disk}.")
        central = _Central(needed, flags, method, time, date, crc, packed, unpacked, external, offset, name)
        _check_features(central)
        centrals.append(central)
    if at != len(directory):
        raise BadArchive(Reason.DIRECTORY, f"{len(directory) - at} bytes of the central directory belong to no record.")
    return centrals


def _check_features(central: _Central) -> None:
    shown = _shown(central.name)
    if central.flags & _FLAGS_ENCRYPTION:
        raise BadArchive(Reason.ENCRYPTED, f"{shown} is encrypted.")
    if central.flags & ~_FLAGS_ALLOWED:
        raise BadArchive(Reason.FLAGS, f"{shown} has flags {central.flags:#06x}; at most {_FLAGS_ALLOWED:#06x}.")
    if central.method not in (_METHOD_STORED, _METHOD_DEFLATED):
        raise BadArchive(
            Reason.METHOD, f"{shown} is compressed by method {central.method}; only stored (0) and deflate (8)."
        )
    if central.version_needed > _VERSION_NEEDED_MAX:
        raise BadArchive(
            Reason.VERSION, f"{shown} needs version {central.version_needed} of the format; at most 20 (2.0)."
        )
    if central.method == _METHOD_STORED:
        if central.packed_bytes != central.unpacked_bytes:
            raise BadArchive(
                Reason.SIZE, f"{shown} is stored, but {central.packed_bytes} is not {central.unpacked_bytes} bytes."
            )
        if central.flags & _FLAG_DESCRIPTOR and central.packed_bytes:
            # A reader of the stream could not know where the data ends.
            raise BadArchive(Reason.DESCRIPTOR, f"{shown} is stored without its size in front of the data.")


def _check_ratio(central: _Central, bounds: Bounds) -> None:
    if central.unpacked_bytes <= bounds.ratio_exempt_bytes:
        return
    if central.unpacked_bytes > bounds.ratio_max * central.packed_bytes:
        raise BadArchive(
            Reason.RATIO,
            f"{_shown(central.name)} unpacks {central.packed_bytes} bytes to {central.unpacked_bytes}; "
            f"at most {bounds.ratio_max} times.",
        )


def _check_local(file: BinaryIO, central: _Central, end: int, bounds: Bounds) -> int:
    """Compare the local header with the central record; the entry must end exactly at ``end``. → data offset"""
    shown = _shown(central.name)
    file.seek(central.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != _LOCAL_SIGNATURE:
        raise BadArchive(Reason.MISMATCH, f"There is no local header of {shown} at byte {central.header_offset}.")
    _, needed, flags, method, time, date, crc, packed, unpacked, name_bytes, extra_bytes = _LOCAL.unpack(header)
    data_offset: int = central.header_offset + _LOCAL.size + name_bytes + extra_bytes
    data_end = data_offset + central.packed_bytes
    if data_end > end:
        raise BadArchive(Reason.OVERLAP, f"{shown} reaches to byte {data_end}, into what begins at byte {end}.")
    name = file.read(name_bytes)
    _check_extra(file.read(extra_bytes), central.name, bounds)
    for what, local_value, central_value in (
        ("name", name, central.name),
        ("version", needed, central.version_needed),
        ("flags", flags, central.flags),
        ("method", method, central.method),
        ("time", (date, time), (central.date, central.time)),
    ):
        if local_value != central_value:
            raise BadArchive(
                Reason.MISMATCH, f"{shown} has another {what} in its local header than in the central directory."
            )
    sums = (crc, packed, unpacked)
    central_sums = (central.crc32, central.packed_bytes, central.unpacked_bytes)
    has_descriptor = bool(flags & _FLAG_DESCRIPTOR)
    if sums != central_sums and not (has_descriptor and sums == (0, 0, 0)):
        raise BadArchive(
            Reason.MISMATCH, f"{shown} has another CRC or size in its local header than in the central directory."
        )
    if has_descriptor:
        file.seek(data_end)
        _check_descriptor(file.read(min(end - data_end, 64)), end - data_end, central)
    elif data_end != end:
        raise BadArchive(Reason.GAP, f"{end - data_end} bytes after {shown} belong to no file.")
    return data_offset


def _check_descriptor(descriptor: bytes, descriptor_bytes: int, central: _Central) -> None:
    expected = _DESCRIPTOR.pack(central.crc32, central.packed_bytes, central.unpacked_bytes)
    if descriptor_bytes != len(descriptor) or descriptor not in (expected, _DESCRIPTOR_SIGNATURE + expected):
        raise BadArchive(
            Reason.DESCRIPTOR,
            f"The data descriptor of {_shown(central.name)} is missing or contradicts the central directory.",
        )


def _check_extra(extra: bytes, name: bytes, bounds: Bounds) -> None:
    """4.5: a sequence of (id, length, data)."""
    if len(extra) > bounds.extra_bytes_max:
        raise BadArchive(
            Reason.EXTRA, f"{_shown(name)} has {len(extra)} bytes of extra fields; at most {bounds.extra_bytes_max}."
        )
    at = 0
    while at < len(extra):
        if len(extra) - at < 4:
            raise BadArchive(Reason.EXTRA, f"The extra fields of {_shown(name)} end in the middle.")
        identifier, length = struct.unpack_from("<2H", extra, at)
        at += 4 + length
        if at > len(extra):
            raise BadArchive(Reason.EXTRA, f"An extra field of {_shown(name)} is longer than the fields together.")
        if identifier == 0x0001:
            raise BadArchive(Reason.ZIP64, f"{_shown(name)} uses zip64 sizes, which are not accepted.")
        if identifier not in _EXTRAS_ALLOWED:
            raise BadArchive(Reason.EXTRA, f"{_shown(name)} has an extra field {identifier:#06x}, not accepted here.")


# -- Names ------------------------------------------------------------------------------------------------------------

_DRIVE = re.compile(r"[A-Za-z]:")


class _Paths:
    """All paths of one archive so far: what another file system would merge is refused, on every level."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._spelling: dict[str, str] = {"": ""}
        """Caseless canonical form (Unicode D145) → the spelling seen first, of entries and of their folders."""
        self._folders: set[str] = {""}
        self._entries: set[str] = set()

    def accept(self, central: _Central) -> tuple[str, bool]:
        name = _decode(central)
        is_folder = _check_type(central, name)
        path = name.removesuffix("/") if is_folder else name
        self._check_name(name, path)
        shown = _shown(path)
        if path in self._entries:
            raise BadArchive(Reason.DUPLICATE, f"{shown} is in the archive twice.")
        self._entries.add(path)
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            prefix = "/".join(parts[:depth])
            first = self._spelling.setdefault(_caseless(prefix), prefix)
            if first != prefix:
                raise BadArchive(
                    Reason.COLLISION, f"{_shown(prefix)} and {_shown(first)} differ only in case or Unicode form."
                )
            if depth < len(parts) or is_folder:
                if prefix in self._entries and prefix not in self._folders and prefix != path:
                    raise BadArchive(Reason.COLLISION, f"{_shown(prefix)} is a file and a folder at once.")
                self._folders.add(prefix)
            elif prefix in self._folders:
                raise BadArchive(Reason.COLLISION, f"{shown} is a file and a folder at once.")
        return path, is_folder

    def _check_name(self, name: str, path: str) -> None:
        shown = _shown(name)
        if not path:
            raise BadArchive(Reason.NAME_EMPTY, "An entry of the archive has no name.")
        if any(unicodedata.category(character) == "Cc" for character in name) or "\\" in name:
            raise BadArchive(Reason.NAME_CHARACTER, f"{shown} contains a control character, NUL or a backslash.")
        if path.startswith("/") or _DRIVE.match(path):
            raise BadArchive(Reason.NAME_ABSOLUTE, f"{shown} is an absolute path.")
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise BadArchive(Reason.NAME_TRAVERSAL, f'{shown} contains "..", "." or an empty part.')
        if len(parts) > self._bounds.depth_max:
            raise BadArchive(Reason.DEPTH, f"{shown} is {len(parts)} levels deep; at most {self._bounds.depth_max}.")
        if len(path.encode()) > self._bounds.path_bytes_max:
            raise BadArchive(
                Reason.NAME_LENGTH, f"The path {shown} is longer than {self._bounds.path_bytes_max} bytes."
            )
        if any(len(part.encode()) > self._bounds.name_bytes_max for part in parts):
            raise BadArchive(
                Reason.NAME_LENGTH, f"A part of the path {shown} is longer than {self._bounds.name_bytes_max} bytes."
            )


def _decode(central: _Central) -> str:
    # Without the UTF-8 flag the encoding is code page 437 or whatever the writer's machine used: ASCII only.
    encoding = "utf-8" if central.flags & _FLAG_UTF8 else "ascii"
    try:
        return central.name.decode(encoding)
    except UnicodeDecodeError:
        raise BadArchive(Reason.NAME_ENCODING, f"The name {_shown(central.name)} is not valid {encoding}.") from None


def _check_type(central: _Central, name: str) -> bool:
    """Whether the entry is a folder. The upper half of the attributes is a Unix mode, whatever system is claimed."""
    mode, dos = central.external_attributes >> 16, central.external_attributes & 0xFF
    shown = _shown(name)
    file_type = stat.S_IFMT(mode)
    if file_type == stat.S_IFLNK:
        raise BadArchive(Reason.LINK, f"{shown} is a symbolic link.")
    if file_type not in (0, stat.S_IFREG, stat.S_IFDIR) or dos & _DOS_VOLUME_LABEL:
        raise BadArchive(Reason.FILE_TYPE, f"{shown} is neither a file nor a folder (mode {mode:#o}).")
    is_folder = name.endswith("/")
    if (file_type == stat.S_IFDIR and not is_folder) or (file_type == stat.S_IFREG and is_folder):
        raise BadArchive(Reason.FILE_TYPE, f"{shown}: the name and the mode {mode:#o} disagree whether it is a folder.")
    if dos & _DOS_FOLDER and not is_folder:
        raise BadArchive(Reason.FILE_TYPE, f"{shown} is a folder by its attributes and a file by its name.")
    if not is_folder and mode & (stat.S_ISUID | stat.S_ISGID):
        raise BadArchive(Reason.FILE_TYPE, f"{shown} has set-user-id or set-group-id in its mode {mode:#o}.")
    if is_folder and (central.unpacked_bytes or central.packed_bytes > 2 or central.crc32):
        raise BadArchive(Reason.DIRECTORY_DATA, f"{shown} is a folder with data in it.")
    return is_folder


def _caseless(path: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())


def _shown(name: str | bytes) -> str:
    """A hostile name as it may stand in a message: ASCII, quoted, short."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    return ascii(text if len(text) <= 96 else f"{text[:96]}…")
