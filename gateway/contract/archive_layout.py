"""The layout of a zip archive: headers that agree, and entries that tile the file without gap or overlap.

Called by ``archive``. Reads everything but the compressed data. Format: PKWARE APPNOTE.TXT 6.3.10; section numbers
below are from there.
"""

import os
import struct
from typing import BinaryIO

from gateway.contract.archive_model import (
    DEFAULT_BOUNDS,
    BadArchive,
    Bounds,
    CentralRecord,
    Entry,
    Listing,
    Reason,
    quoted,
)
from gateway.contract.archive_names import FLAG_UTF8, Paths

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
_FLAGS_ENCRYPTION = 1 << 0 | 1 << 6 | 1 << 13
_FLAGS_ALLOWED = 1 << 1 | 1 << 2 | _FLAG_DESCRIPTOR | FLAG_UTF8
_METHOD_STORED, _METHOD_DEFLATED = 0, 8
_VERSION_NEEDED_MAX = 20
"""2.0: folders and deflate. Zip64 says 4.5."""
_EXTRAS_ALLOWED = {0x5455, 0x5855, 0x7875, 0x000A}
"""Time stamps and owners (Info-ZIP UT, UX, ux; NTFS times). Not zip64 (1), Unicode path (7075), AES (9901), …"""


def read_listing(file: BinaryIO, bounds: Bounds = DEFAULT_BOUNDS) -> Listing:
    """Check everything but the compressed data."""
    size = file.seek(0, os.SEEK_END)
    if size > bounds.archive_bytes_max:
        raise BadArchive(Reason.TOO_LARGE, f"The archive has {size} bytes; at most {bounds.archive_bytes_max}.")
    entry_count, directory_offset, directory_end = _read_end_record(file, size, bounds)
    file.seek(directory_offset)
    directory = file.read(directory_end - directory_offset)
    centrals = _read_directory(directory, entry_count, bounds)

    paths = Paths(bounds)
    entries = []
    unpacked_bytes = 0
    order = sorted(centrals, key=lambda central: central.header_offset)
    # Where each entry ends is where the next one begins; the first begins the file, the directory follows the last.
    begins = [*(central.header_offset for central in order), directory_offset]
    if begins[0] != 0:
        raise BadArchive(Reason.GAP, f"{begins[0]} bytes stand before the first header of the archive.")
    if order and order[-1].header_offset >= directory_offset:
        raise BadArchive(Reason.OVERLAP, f"{quoted(order[-1].name)} is said to lie in or behind the central directory.")
    for central, end in zip(order, begins[1:], strict=True):
        path, is_folder = paths.accept(central)
        unpacked_bytes += central.unpacked_bytes
        if unpacked_bytes > bounds.unpacked_bytes_max:
            raise BadArchive(
                Reason.UNPACKED, f"The archive unpacks to more than {bounds.unpacked_bytes_max} bytes in all."
            )
        _check_ratio(central, bounds)
        data_offset = _check_local(file, central, end, bounds)
        entries.append(_entry(central, path, is_folder, data_offset))
    return Listing(entries=tuple(entries), unpacked_bytes=unpacked_bytes)


def _entry(central: CentralRecord, path: str, is_folder: bool, data_offset: int) -> Entry:
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
        file.seek(0)
        if file.read(len(_LOCAL_SIGNATURE)) == _LOCAL_SIGNATURE:
            raise BadArchive(Reason.TRUNCATED, "The archive is cut off: its end record is missing or not whole.")
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


def _read_directory(directory: bytes, entry_count: int, bounds: Bounds) -> list[CentralRecord]:
    centrals: list[CentralRecord] = []
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
                f"The comment of {quoted(name)} has {comment_bytes} bytes (at most {bounds.comment_bytes_max}) "
                "or contains a zip signature.",
            )
        at += comment_bytes
        if 0xFFFFFFFF in (packed, unpacked, offset) or disk == 0xFFFF:
            raise BadArchive(Reason.ZIP64, f"{quoted(name)} uses zip64 sizes, which are not accepted.")
        if disk != 0:
            raise BadArchive(Reason.MULTI_DISK, f"{quoted(name)} is said to be on disk {disk}.")
        central = CentralRecord(needed, flags, method, time, date, crc, packed, unpacked, external, offset, name)
        _check_features(central)
        centrals.append(central)
    if at != len(directory):
        raise BadArchive(Reason.DIRECTORY, f"{len(directory) - at} bytes of the central directory belong to no record.")
    return centrals


def _check_features(central: CentralRecord) -> None:
    shown = quoted(central.name)
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


def _check_ratio(central: CentralRecord, bounds: Bounds) -> None:
    if central.unpacked_bytes <= bounds.ratio_exempt_bytes:
        return
    if central.unpacked_bytes > bounds.ratio_max * central.packed_bytes:
        raise BadArchive(
            Reason.RATIO,
            f"{quoted(central.name)} unpacks {central.packed_bytes} bytes to {central.unpacked_bytes}; "
            f"at most {bounds.ratio_max} times.",
        )


def _check_local(file: BinaryIO, central: CentralRecord, end: int, bounds: Bounds) -> int:
    """Compare the local header with the central record; the entry must end exactly at ``end``. → data offset"""
    shown = quoted(central.name)
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


def _check_descriptor(descriptor: bytes, descriptor_bytes: int, central: CentralRecord) -> None:
    expected = _DESCRIPTOR.pack(central.crc32, central.packed_bytes, central.unpacked_bytes)
    if descriptor_bytes != len(descriptor) or descriptor not in (expected, _DESCRIPTOR_SIGNATURE + expected):
        raise BadArchive(
            Reason.DESCRIPTOR,
            f"The data descriptor of {quoted(central.name)} is missing or contradicts the central directory.",
        )


def _check_extra(extra: bytes, name: bytes, bounds: Bounds) -> None:
    """4.5: a sequence of (id, length, data)."""
    if len(extra) > bounds.extra_bytes_max:
        raise BadArchive(
            Reason.EXTRA,
            f"{quoted(name)} has {len(extra)} bytes of extra fields; at most {bounds.extra_bytes_max}.",
        )
    at = 0
    while at < len(extra):
        if len(extra) - at < 4:
            raise BadArchive(Reason.EXTRA, f"The extra fields of {quoted(name)} end in the middle.")
        identifier, length = struct.unpack_from("<2H", extra, at)
        at += 4 + length
        if at > len(extra):
            raise BadArchive(Reason.EXTRA, f"An extra field of {quoted(name)} is longer than the fields together.")
        if identifier == 0x0001:
            raise BadArchive(Reason.ZIP64, f"{quoted(name)} uses zip64 sizes, which are not accepted.")
        if identifier not in _EXTRAS_ALLOWED:
            raise BadArchive(Reason.EXTRA, f"{quoted(name)} has an extra field {identifier:#06x}, not accepted here.")
