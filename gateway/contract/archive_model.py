"""The words of the archive reader: why an archive is refused, its bounds, what an entry and a listing are.

Called by the other ``archive`` modules; ``archive`` re-exports what others need.
"""

from dataclasses import dataclass
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class CentralRecord:
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


def quoted(name: str | bytes) -> str:
    """A hostile name as it may stand in a message: ASCII, quoted, short."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    return ascii(text if len(text) <= 96 else f"{text[:96]}…")
