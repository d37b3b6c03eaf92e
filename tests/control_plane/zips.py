"""Writes zip archives byte by byte, so that each field can lie.

A ``Spec`` describes a good archive; an attack changes one thing in it. ``build`` computes every field that the
attack left alone, so that a bad archive differs from the good one in the attack only.
"""

import struct
import zlib
from dataclasses import dataclass, field

FOLDER_MODE = 0o40755 << 16 | 0x10
FILE_MODE = 0o100644 << 16


@dataclass
class Member:
    """``None``: what is right. ``local_…`` is in the local header, the others in both or in the central record."""

    name: bytes
    content: bytes = b""
    deflated: bool = True
    attributes: int = FILE_MODE
    flags: int = 0x0800
    local_flags: int | None = None
    version_needed: int = 20
    local_version_needed: int | None = None
    made_by: int = 3 << 8 | 20
    method: int | None = None
    local_method: int | None = None
    time: int = 0
    local_time: int | None = None
    date: int = 0x21
    local_date: int | None = None
    crc: int | None = None
    local_crc: int | None = None
    packed_bytes: int | None = None
    local_packed_bytes: int | None = None
    unpacked_bytes: int | None = None
    local_unpacked_bytes: int | None = None
    local_name: bytes | None = None
    extra: bytes = b""
    local_extra: bytes = b""
    comment: bytes = b""
    disk: int = 0
    offset: int | None = None
    descriptor: bytes | None = None
    """Follows the data. ``auto`` (b"auto"): the right one, with its signature."""
    packed: bytes | None = None
    """The data as it lies in the archive."""
    before: bytes = b""
    """Lies between the entry before and this one's local header."""
    record_only: bool = False
    """Only a record in the central directory; its local header and data are another member's bytes."""
    central_signature: bytes = b"PK\x01\x02"
    local_signature: bytes = b"PK\x03\x04"

    def data(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflate(self.content) if self.deflated else self.content


@dataclass
class Spec:
    members: list[Member]
    prefix: bytes = b""
    before_directory: bytes = b""
    before_end: bytes = b""
    suffix: bytes = b""
    comment: bytes = b""
    comment_bytes: int | None = None
    disk: int = 0
    directory_disk: int = 0
    entries: int | None = None
    disk_entries: int | None = None
    directory_bytes: int | None = None
    directory_offset: int | None = None
    in_directory: bytes = b""
    """After the last record, counted as part of the directory."""
    central_order: list[int] = field(default_factory=list)


def deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(content) + compressor.flush()


def good() -> Spec:
    """A bundle: a manifest, a module, a folder, a module in it, one stored and one empty file."""
    return Spec(
        [
            Member(b"tailcut.json", b'{"handler": "main:handle", "python": "3.13"}'),
            Member(b"main.py", b"def handle(name: str) -> dict:\n    return {'hello': name}\n" * 20),
            Member(b"sub/", deflated=False, attributes=FOLDER_MODE),
            Member(b"sub/part.py", b"VALUE = 1\n" * 50),
            Member(b"data.bin", bytes(range(256)), deflated=False),
            Member(b"empty.txt", deflated=False),
        ]
    )


def build(spec: Spec) -> bytes:
    output = bytearray(spec.prefix)
    directory: list[bytes] = []
    for member in spec.members:
        offset = len(output) + len(member.before) if member.offset is None else member.offset
        data = member.data()
        crc = zlib.crc32(member.content) if member.crc is None else member.crc
        packed = len(data) if member.packed_bytes is None else member.packed_bytes
        unpacked = len(member.content) if member.unpacked_bytes is None else member.unpacked_bytes
        method = (8 if member.deflated else 0) if member.method is None else member.method
        if not member.record_only:
            output += _local(member, method, crc, packed, unpacked)
        directory.append(
            struct.pack(
                "<4s6H3L5H2L",
                member.central_signature,
                member.made_by,
                member.version_needed,
                member.flags,
                method,
                member.time,
                member.date,
                crc,
                packed,
                unpacked,
                len(member.name),
                len(member.extra),
                len(member.comment),
                member.disk,
                0,
                member.attributes,
                offset,
            )
            + member.name
            + member.extra
            + member.comment
        )
    output += spec.before_directory
    order = spec.central_order or range(len(directory))
    central = b"".join(directory[index] for index in order) + spec.in_directory
    count = len(spec.members)
    end = struct.pack(
        "<4s4H2LH",
        b"PK\x05\x06",
        spec.disk,
        spec.directory_disk,
        _either(spec.disk_entries, count if spec.entries is None else spec.entries),
        _either(spec.entries, count),
        _either(spec.directory_bytes, len(central)),
        _either(spec.directory_offset, len(output)),
        _either(spec.comment_bytes, len(spec.comment)),
    )
    return bytes(output) + central + spec.before_end + end + spec.comment + spec.suffix


def _local(member: Member, method: int, crc: int, packed: int, unpacked: int) -> bytes:
    """What comes before the local header, the header, the data and the descriptor."""
    local_name = _either(member.local_name, member.name)
    header = struct.pack(
        "<4s5H3L2H",
        member.local_signature,
        _either(member.local_version_needed, member.version_needed),
        _either(member.local_flags, member.flags),
        _either(member.local_method, method),
        _either(member.local_time, member.time),
        _either(member.local_date, member.date),
        _either(member.local_crc, crc),
        _either(member.local_packed_bytes, packed),
        _either(member.local_unpacked_bytes, unpacked),
        len(local_name),
        len(member.local_extra),
    )
    descriptor = member.descriptor or b""
    if descriptor == b"auto":
        descriptor = b"PK\x07\x08" + struct.pack("<3L", crc, packed, unpacked)
    return member.before + header + local_name + member.local_extra + member.data() + descriptor


def streamed(member: Member) -> Member:
    """As a writer to a pipe leaves it: sums are zero in front and in a descriptor behind."""
    member.flags |= 8
    member.local_crc = member.local_packed_bytes = member.local_unpacked_bytes = 0
    member.descriptor = b"auto"
    return member


def extra_field(identifier: int, data: bytes) -> bytes:
    return struct.pack("<2H", identifier, len(data)) + data


def _either[Value](value: Value | None, default: Value) -> Value:
    return default if value is None else value
