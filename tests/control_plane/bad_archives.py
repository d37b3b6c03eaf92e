"""The table of attacks: name → (what it changes in the good archive, the reason it must be refused for).

Each attack takes ``good()`` and changes one thing. ``twins`` holds, for attacks that need more than one change (many
files, long names), the nearest archive that is still good.
"""

import struct
import zlib
from collections.abc import Callable

from gateway.contract.archive import Reason
from gateway.contract.bundle import DEPTH_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX
from tests.control_plane.zips import FILE_MODE, FOLDER_MODE, Member, Spec, deflate, extra_field, streamed

Attack = Callable[[Spec], None]
MANIFEST, MAIN, FOLDER, PART, STORED, EMPTY = range(6)
FULL_16, FULL_32 = 0xFFFF, 0xFFFFFFFF


def member_set(index: int, **values: object) -> Attack:
    def attack(spec: Spec) -> None:
        for name, value in values.items():
            assert hasattr(spec.members[index], name)
            setattr(spec.members[index], name, value)

    return attack


def spec_set(**values: object) -> Attack:
    def attack(spec: Spec) -> None:
        for name, value in values.items():
            assert hasattr(spec, name)
            setattr(spec, name, value)

    return attack


def added(*members: Member) -> Attack:
    def attack(spec: Spec) -> None:
        spec.members.extend(members)

    return attack


def named(name: bytes) -> Attack:
    return added(Member(name, b"x = 1\n"))


def mode(value: int) -> Attack:
    return added(Member(b"special", b"main.py", attributes=value << 16))


def flagged(bits: int) -> Attack:
    return lambda spec: setattr(spec.members[MAIN], "flags", spec.members[MAIN].flags | bits)


def stream(index: int, **values: object) -> Attack:
    def attack(spec: Spec) -> None:
        streamed(spec.members[index])
        member_set(index, **values)(spec)

    return attack


def overlap_by(distance: int) -> Attack:
    """The first file claims bytes of what follows: its sizes grow in both headers alike."""

    def attack(spec: Spec) -> None:
        stored = spec.members[STORED]
        stored.packed_bytes = stored.unpacked_bytes = len(stored.content) + distance

    return attack


def same_data_twice(spec: Spec) -> None:
    """Two records of the central directory for one local header (a classic bomb)."""
    main = spec.members[MAIN]
    spec.members.append(Member(main.name, main.content, offset=_offset_of(spec, MAIN), record_only=True))
    # Another name, or it would be refused as a duplicate before anybody looks at the bytes.
    spec.members[-1].name = b"copy.py"
    spec.members[-1].packed = main.data()


def quoted_overlap(spec: Spec) -> None:
    """Fifield's bomb: a file's data begins with a stored block that quotes the local header of the next file."""
    inner = Member(b"inner", b"A" * 1000)
    header = struct.pack(
        "<4s5H3L2H", b"PK\x03\x04", 20, 0x0800, 8, 0, 0x21, zlib.crc32(inner.content), len(inner.data()), 1000, 5, 0
    )
    quoted = header + inner.name
    block = b"\x00" + struct.pack("<2H", len(quoted), len(quoted) ^ FULL_16)
    outer = Member(b"outer", quoted + inner.content, packed=block + quoted + inner.data())
    spec.members.append(outer)
    inner.offset = _offset_of(spec, len(spec.members) - 1) + 30 + len(outer.name) + len(block)
    inner.record_only = True
    spec.members.append(inner)


def _offset_of(spec: Spec, index: int) -> int:
    offset = len(spec.prefix)
    for member in spec.members[:index]:
        name = member.name if member.local_name is None else member.local_name
        offset += len(member.before) + 30 + len(name) + len(member.local_extra) + len(member.data())
    return offset


def _unsigned(spec: Spec) -> None:
    member = streamed(spec.members[MAIN])
    member.descriptor = struct.pack("<3L", zlib.crc32(member.content), len(member.data()), len(member.content))


def _sums_in_front(spec: Spec) -> None:
    member = streamed(spec.members[MAIN])
    member.local_crc = member.local_packed_bytes = member.local_unpacked_bytes = None


def cut(bytes_count: int) -> Callable[[bytes], bytes]:
    return lambda archive: archive[:-bytes_count]


EXTENDED_TIME = extra_field(0x5455, b"\x03" + struct.pack("<2L", 0, 0))
ZIP64_EXTRA = extra_field(0x0001, struct.pack("<2Q", 5, 5))
LOCATOR = b"PK\x06\x07" + struct.pack("<LQL", 0, 0, 1)
DEEP = b"/".join([b"d"] * DEPTH_MAX) + b"/f.py"
LONG_PART = b"n" * (NAME_BYTES_MAX + 1)
LONG_PATH = b"/".join([b"p" * 100] * 6)
assert len(LONG_PATH) > PATH_BYTES_MAX

ATTACKS: dict[str, tuple[Attack, Reason]] = {
    # Names that leave the folder, or that file systems read differently.
    "parent folder": (named(b"../evil.py"), Reason.NAME_TRAVERSAL),
    "parent folder inside": (named(b"sub/../../evil.py"), Reason.NAME_TRAVERSAL),
    "parent folder at the end": (named(b"sub/.."), Reason.NAME_TRAVERSAL),
    "only the parent": (named(b".."), Reason.NAME_TRAVERSAL),
    "a parent as folder": (added(Member(b"../", deflated=False, attributes=FOLDER_MODE)), Reason.NAME_TRAVERSAL),
    "this folder": (named(b"./evil.py"), Reason.NAME_TRAVERSAL),
    "this folder inside": (named(b"sub/./evil.py"), Reason.NAME_TRAVERSAL),
    "an empty part": (named(b"sub//evil.py"), Reason.NAME_TRAVERSAL),
    "two slashes at the end": (
        added(Member(b"two//", deflated=False, attributes=FOLDER_MODE)),
        Reason.NAME_TRAVERSAL,
    ),
    "absolute": (named(b"/etc/cron.d/evil"), Reason.NAME_ABSOLUTE),
    "only a slash": (added(Member(b"/", deflated=False, attributes=FOLDER_MODE)), Reason.NAME_EMPTY),
    "two slashes in front": (named(b"//server/share"), Reason.NAME_ABSOLUTE),
    "a drive": (named(b"C:/evil.py"), Reason.NAME_ABSOLUTE),
    "a drive without a slash": (named(b"c:evil.py"), Reason.NAME_ABSOLUTE),
    "a backslash": (named(b"sub\\evil.py"), Reason.NAME_CHARACTER),
    "a backslash parent": (named(b"..\\evil.py"), Reason.NAME_CHARACTER),
    "a network path": (named(b"\\\\server\\share"), Reason.NAME_CHARACTER),
    "NUL in the name": (named(b"evil.py\x00.txt"), Reason.NAME_CHARACTER),
    "NUL at the end": (named(b"evil.py\x00"), Reason.NAME_CHARACTER),
    "a line feed in the name": (named(b"evil\n.py"), Reason.NAME_CHARACTER),
    "an escape in the name": (named(b"evil\x1b[2J.py"), Reason.NAME_CHARACTER),
    "DEL in the name": (named(b"evil\x7f.py"), Reason.NAME_CHARACTER),
    "a C1 control": (named("evil\x85.py".encode()), Reason.NAME_CHARACTER),
    "no name": (named(b""), Reason.NAME_EMPTY),
    "not UTF-8": (named(b"evil\xff.py"), Reason.NAME_ENCODING),
    "an overlong slash": (named(b"..\xc0\xafevil.py"), Reason.NAME_ENCODING),
    "a surrogate": (named(b"evil\xed\xa0\x80.py"), Reason.NAME_ENCODING),
    "beyond ASCII without the UTF-8 flag": (
        added(Member("é.py".encode(), b"x = 1\n", flags=0)),
        Reason.NAME_ENCODING,
    ),
    "too deep": (named(DEEP), Reason.DEPTH),
    "a part too long": (named(LONG_PART), Reason.NAME_LENGTH),
    "a path too long": (named(LONG_PATH), Reason.NAME_LENGTH),
    "characters that are many bytes": (named("é".encode() * (NAME_BYTES_MAX // 2 + 1)), Reason.NAME_LENGTH),
    # Names that collide.
    "the same name twice": (named(b"main.py"), Reason.DUPLICATE),
    "the same folder twice": (added(Member(b"sub/", deflated=False, attributes=FOLDER_MODE)), Reason.DUPLICATE),
    "another case": (named(b"MAIN.py"), Reason.COLLISION),
    "another case of a folder": (named(b"Sub/other.py"), Reason.COLLISION),
    "sharp s and ss": (
        added(Member("straße".encode(), b"1"), Member(b"STRASSE", b"2")),
        Reason.COLLISION,
    ),
    "composed and decomposed": (
        added(Member("caf\u00e9.py".encode(), b"1"), Member("cafe\u0301.py".encode(), b"2")),
        Reason.COLLISION,
    ),
    "decomposed in another case": (
        added(Member("CAF\u00c9.py".encode(), b"1"), Member("cafe\u0301.py".encode(), b"2")),
        Reason.COLLISION,
    ),
    "a file that is a folder": (named(b"main.py/evil.py"), Reason.COLLISION),
    "a folder that is a file": (added(Member(b"sub", b"not a folder")), Reason.DUPLICATE),
    "an implied folder that is a file": (
        added(Member(b"new/inside.py", b"1"), Member(b"new", b"2")),
        Reason.COLLISION,
    ),
    "a folder entry over a file": (
        added(Member(b"main.py/", deflated=False, attributes=FOLDER_MODE)),
        Reason.DUPLICATE,
    ),
    # Things that are not files.
    "a symbolic link": (mode(0o120777), Reason.LINK),
    "a link said to be from MS-DOS": (
        added(Member(b"special", b"main.py", attributes=0o120777 << 16, made_by=20)),
        Reason.LINK,
    ),
    "a character device": (mode(0o020666), Reason.FILE_TYPE),
    "a block device": (mode(0o060666), Reason.FILE_TYPE),
    "a pipe": (mode(0o010666), Reason.FILE_TYPE),
    "a socket": (mode(0o140666), Reason.FILE_TYPE),
    "an unknown type": (mode(0o150666), Reason.FILE_TYPE),
    "set-user-id": (mode(0o104755), Reason.FILE_TYPE),
    "set-group-id": (mode(0o102755), Reason.FILE_TYPE),
    "a volume label": (added(Member(b"label", attributes=0x08, deflated=False)), Reason.FILE_TYPE),
    "a folder's mode on a file": (mode(0o040755), Reason.FILE_TYPE),
    "a folder's attribute on a file": (added(Member(b"special", b"x", attributes=FILE_MODE | 0x10)), Reason.FILE_TYPE),
    "a file's mode on a folder": (
        added(Member(b"folder/", deflated=False, attributes=FILE_MODE)),
        Reason.FILE_TYPE,
    ),
    "a folder with data": (
        added(Member(b"folder/", b"data", deflated=False, attributes=FOLDER_MODE)),
        Reason.DIRECTORY_DATA,
    ),
    # Local headers that contradict the central directory.
    "another name": (member_set(MAIN, local_name=b"evil.py"), Reason.MISMATCH),
    "another name, longer": (member_set(MAIN, local_name=b"../../main.py"), Reason.MISMATCH),
    "another method": (member_set(MAIN, local_method=0), Reason.MISMATCH),
    "another CRC": (member_set(MAIN, local_crc=1), Reason.MISMATCH),
    "another packed size": (member_set(MAIN, local_packed_bytes=1), Reason.MISMATCH),
    "another unpacked size": (member_set(MAIN, local_unpacked_bytes=1), Reason.MISMATCH),
    "other flags": (member_set(MAIN, local_flags=0), Reason.MISMATCH),
    "encrypted only locally": (member_set(MAIN, local_flags=0x0801), Reason.MISMATCH),
    "another version": (member_set(MAIN, local_version_needed=10), Reason.MISMATCH),
    "another time": (member_set(MAIN, local_time=1), Reason.MISMATCH),
    "another date": (member_set(MAIN, local_date=1), Reason.MISMATCH),
    "zeros in front without the flag": (
        member_set(MAIN, local_crc=0, local_packed_bytes=0, local_unpacked_bytes=0),
        Reason.MISMATCH,
    ),
    "no local header": (member_set(MAIN, local_signature=b"PK\x00\x00"), Reason.MISMATCH),
    "an offset beyond the file": (member_set(EMPTY, offset=2**31), Reason.OVERLAP),
    # Bytes used twice, or by nobody.
    "one file's data twice": (same_data_twice, Reason.OVERLAP),
    "a quoted overlap": (quoted_overlap, Reason.OVERLAP),
    "into the next header": (overlap_by(1), Reason.OVERLAP),
    "over the whole next entry": (overlap_by(39), Reason.OVERLAP),
    "into the central directory": (
        member_set(EMPTY, packed_bytes=46, unpacked_bytes=46),
        Reason.OVERLAP,
    ),
    "a gap between files": (member_set(MAIN, before=b"hidden bytes"), Reason.GAP),
    "a gap of one byte": (member_set(MAIN, before=b"\x00"), Reason.GAP),
    "a gap before the directory": (spec_set(before_directory=b"hidden bytes"), Reason.GAP),
    "a hidden file": (
        member_set(MAIN, before=struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"h"),
        Reason.GAP,
    ),
    "a program in front": (spec_set(prefix=b"#!/bin/sh\nexit\n"), Reason.GAP),
    "trailing bytes": (spec_set(suffix=b"garbage"), Reason.TRAILING_DATA),
    "one trailing byte": (spec_set(suffix=b"\x00"), Reason.TRAILING_DATA),
    "bytes before the end record": (spec_set(before_end=b"hidden"), Reason.DIRECTORY),
    "bytes in the directory": (spec_set(in_directory=b"hidden bytes"), Reason.DIRECTORY),
    # The end record and the directory.
    "a comment too long": (spec_set(comment=b"c" * 1025), Reason.COMMENT),
    "an end record in the comment": (
        spec_set(comment=b"PK\x05\x06" + bytes(12) + struct.pack("<LH", 0, 0)),
        Reason.DIRECTORY,
    ),
    "a header in the comment": (spec_set(comment=b"PK\x03\x04"), Reason.COMMENT),
    "a comment that ends early": (spec_set(comment_bytes=10), Reason.TRUNCATED),
    "a file's comment too long": (member_set(MAIN, comment=b"c" * 1025), Reason.COMMENT),
    "a header in a file's comment": (member_set(MAIN, comment=b"PK\x01\x02"), Reason.COMMENT),
    "on disk 1": (spec_set(disk=1), Reason.MULTI_DISK),
    "the directory on disk 1": (spec_set(directory_disk=1), Reason.MULTI_DISK),
    "fewer entries on this disk": (spec_set(disk_entries=1), Reason.MULTI_DISK),
    "a file on disk 1": (member_set(MAIN, disk=1), Reason.MULTI_DISK),
    "more entries than records": (spec_set(entries=7), Reason.DIRECTORY),
    "fewer entries than records": (spec_set(entries=5), Reason.DIRECTORY),
    "no entries claimed": (spec_set(entries=0), Reason.DIRECTORY),
    "a directory elsewhere": (spec_set(directory_offset=0), Reason.DIRECTORY),
    "a directory beyond the file": (spec_set(directory_offset=2**31), Reason.DIRECTORY),
    "a directory too short": (spec_set(directory_bytes=10), Reason.DIRECTORY),
    "a broken record": (member_set(MAIN, central_signature=b"PK\x00\x00"), Reason.DIRECTORY),
    # zip64
    "zip64 entries": (spec_set(entries=FULL_16), Reason.ZIP64),
    "zip64 directory size": (spec_set(directory_bytes=FULL_32), Reason.ZIP64),
    "zip64 directory offset": (spec_set(directory_offset=FULL_32), Reason.ZIP64),
    "a zip64 locator": (spec_set(before_end=LOCATOR), Reason.ZIP64),
    "a zip64 locator in an extra field": (
        member_set(EMPTY, extra=extra_field(0x5455, LOCATOR)),
        Reason.ZIP64,
    ),
    "zip64 sizes": (member_set(MAIN, packed_bytes=FULL_32, unpacked_bytes=FULL_32), Reason.ZIP64),
    "a zip64 offset": (member_set(MAIN, offset=FULL_32), Reason.ZIP64),
    "a zip64 extra field": (member_set(MAIN, extra=ZIP64_EXTRA), Reason.ZIP64),
    "a zip64 extra field, only local": (member_set(MAIN, local_extra=ZIP64_EXTRA), Reason.ZIP64),
    "needs zip64": (member_set(MAIN, version_needed=45), Reason.VERSION),
    # Features nobody needs.
    "encrypted": (flagged(0x0001), Reason.ENCRYPTED),
    "strongly encrypted": (flagged(0x0041), Reason.ENCRYPTED),
    "an encrypted directory": (flagged(0x2000), Reason.ENCRYPTED),
    "a patch": (flagged(0x0020), Reason.FLAGS),
    "reserved flags": (flagged(0x8000), Reason.FLAGS),
    "bzip2": (member_set(MAIN, method=12), Reason.METHOD),
    "LZMA": (member_set(MAIN, method=14), Reason.METHOD),
    "deflate64": (member_set(MAIN, method=9), Reason.METHOD),
    "Zstandard": (member_set(MAIN, method=93), Reason.METHOD),
    "AES": (member_set(MAIN, extra=extra_field(0x9901, bytes(7))), Reason.EXTRA),
    "a Unicode path": (
        member_set(MAIN, extra=extra_field(0x7075, b"\x01" + bytes(4) + b"../evil.py")),
        Reason.EXTRA,
    ),
    "an extra field too long": (member_set(MAIN, extra=struct.pack("<2H", 0x5455, 100) + b"short"), Reason.EXTRA),
    "an extra field cut off": (member_set(MAIN, local_extra=b"UT"), Reason.EXTRA),
    "too many extra bytes": (member_set(MAIN, extra=extra_field(0x5455, bytes(1100))), Reason.EXTRA),
    # Descriptors.
    "a descriptor that is missing": (stream(MAIN, descriptor=b""), Reason.DESCRIPTOR),
    "a descriptor that lies": (stream(MAIN, descriptor=b"PK\x07\x08" + bytes(12)), Reason.DESCRIPTOR),
    "a descriptor with zip64 sizes": (stream(MAIN, descriptor=b"PK\x07\x08" + bytes(20)), Reason.DESCRIPTOR),
    "a descriptor and more": (stream(MAIN, descriptor=b"PK\x07\x08" + bytes(13)), Reason.DESCRIPTOR),
    "a descriptor not announced": (member_set(MAIN, descriptor=b"auto"), Reason.GAP),
    "a descriptor after stored data": (stream(STORED), Reason.DESCRIPTOR),
    # Contents.
    "a wrong CRC": (member_set(MAIN, crc=1), Reason.CRC),
    "a wrong CRC of stored data": (member_set(STORED, crc=1), Reason.CRC),
    "more than declared": (member_set(MAIN, unpacked_bytes=10), Reason.SIZE),
    "less than declared": (member_set(MAIN, unpacked_bytes=10_000), Reason.SIZE),
    "stored with two sizes": (member_set(STORED, unpacked_bytes=10), Reason.SIZE),
    "not deflate": (member_set(MAIN, packed=b"\xff\xff\xff\xff"), Reason.DEFLATE),
    "deflate cut off": (member_set(MAIN, packed=deflate(b"def handle(name):\n    return name\n")[:-4]), Reason.DEFLATE),
    "bytes after deflate": (
        lambda spec: setattr(spec.members[MAIN], "packed", spec.members[MAIN].data() + b"hidden"),
        Reason.DEFLATE,
    ),
    "two deflate streams": (
        lambda spec: setattr(spec.members[MAIN], "packed", spec.members[MAIN].data() * 2),
        Reason.DEFLATE,
    ),
    "empty deflate": (member_set(MAIN, packed=b"", packed_bytes=0), Reason.DEFLATE),
    "a bomb": (added(Member(b"bomb", bytes(8 * 2**20))), Reason.RATIO),
    "a bomb that declares little": (
        added(Member(b"bomb", bytes(8 * 2**20), unpacked_bytes=1000)),
        Reason.SIZE,
    ),
}
"""Attacks on the structure."""

CUTS: dict[str, tuple[Callable[[bytes], bytes], Reason]] = {
    "nothing": (lambda _: b"", Reason.NOT_ZIP),
    "text": (lambda _: b"def handle(): pass\n", Reason.NOT_ZIP),
    "a tar file": (lambda _: b"main.py".ljust(257, b"\x00") + b"ustar\x0000" + bytes(1024), Reason.NOT_ZIP),
    "gzip": (lambda _: zlib.compress(b"x" * 100, wbits=31), Reason.NOT_ZIP),
    "only the end signature": (lambda _: b"PK\x05\x06", Reason.NOT_ZIP),
    "without the last byte": (cut(1), Reason.TRUNCATED),
    "without the end record": (cut(22), Reason.TRUNCATED),
    "half": (lambda archive: archive[: len(archive) // 2], Reason.TRUNCATED),
}
"""Attacks on the finished bytes."""

TWINS: dict[str, Attack] = {
    "the good one": lambda spec: None,
    "as deep as allowed": named(DEEP[2:]),
    "a part as long as allowed": named(LONG_PART[1:]),
    "a path as long as allowed": named(b"/".join([b"p" * 127] * 4) + b"/"[:0]),
    "names beyond ASCII": named("ünï/文字.py".encode()),
    "an ASCII name without the UTF-8 flag": added(Member(b"plain.py", b"1", flags=0)),
    "no attributes at all": added(Member(b"dos.py", b"1", attributes=0, made_by=20)),
    "an executable": mode(0o100755),
    "a folder with set-group-id": added(Member(b"g/", deflated=False, attributes=(0o042755 << 16) | 0x10)),
    "a folder without a mode": added(Member(b"g/", deflated=False, attributes=0x10)),
    "a deflated folder": added(Member(b"g/", deflated=True, attributes=FOLDER_MODE)),
    "a time stamp": member_set(
        MAIN, extra=EXTENDED_TIME[:9][:2] + b"\x05\x00\x03" + bytes(4), local_extra=EXTENDED_TIME
    ),
    "owners": member_set(MAIN, extra=extra_field(0x7875, b"\x01\x04" + bytes(4) + b"\x04" + bytes(4))),
    "a comment": spec_set(comment=b"made by hand"),
    "a comment as long as allowed": spec_set(comment=b"c" * 1024),
    "a file's comment": member_set(MAIN, comment=b"the handler"),
    "a streamed file": stream(MAIN),
    "a streamed file without the descriptor's signature": _unsigned,
    "a streamed file with its sums in front too": _sums_in_front,
    "a streamed empty file": stream(EMPTY),
    "a directory in another order": spec_set(central_order=[5, 3, 1, 0, 2, 4]),
    "the largest ratio of a small file": added(Member(b"zeros", bytes(2**20))),
    "a large file that hardly packs": added(
        Member(b"large", b"".join(struct.pack("<L", i * 2654435761 % 2**32) for i in range(2**19)))
    ),
    "version 1.0": member_set(STORED, version_needed=10),
    "the fastest deflate": flagged(0x0006),
    "names that only look alike": added(Member("Ａ.py".encode(), b"1"), Member(b"A.py", b"2")),
}
"""Good archives, each beside an attack."""
