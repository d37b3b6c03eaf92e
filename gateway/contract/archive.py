"""A strict reader of zip archives: what it lists is what every other reader would unpack, or it refuses.

An uploaded bundle is hostile. CPython's zipfile accepts overlapping entries, prepended data and local headers that
contradict the central directory; two readers may then see two archives. This one accepts only files that tile from
the first byte to the last: local header, data, (descriptor), next local header, …, central directory, end record.

Called by the control plane at upload (``verify``) and by the gateway before a version runs (``unpack``). Both read
every byte. What always holds: no more than the bounds of ``bundle.py`` is ever decompressed or written, nothing is
written outside ``target_dir``, and hostile input gives ``BadArchive``, never another exception.

In reading order: this file (contents), ``archive_layout`` (structure), ``archive_names``, ``archive_model`` (words).
"""

import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gateway.contract.archive_layout import read_listing
from gateway.contract.archive_model import (
    DEFAULT_BOUNDS,
    BadArchive,
    Bounds,
    Entry,
    Listing,
    Reason,
    quoted,
)

__all__ = [
    "DEFAULT_BOUNDS",
    "BadArchive",
    "Bounds",
    "Entry",
    "Listing",
    "Reason",
    "read_entry",
    "read_file",
    "read_listing",
    "unpack",
    "verify",
]


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
        raise BadArchive(Reason.SIZE, f"{quoted(entry.path)} has {entry.unpacked_bytes} bytes; at most {bytes_max}.")
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
                Reason.SIZE,
                f"{quoted(entry.path)} unpacks to more than the {entry.unpacked_bytes} bytes it declares.",
            )
        crc = zlib.crc32(block, crc)
        yield block
    if produced != entry.unpacked_bytes:
        raise BadArchive(
            Reason.SIZE, f"{quoted(entry.path)} unpacks to {produced} bytes but declares {entry.unpacked_bytes}."
        )
    if crc != entry.crc32:
        raise BadArchive(
            Reason.CRC, f"{quoted(entry.path)} is damaged: its CRC is {crc:08x}, declared {entry.crc32:08x}."
        )


def _stored(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    file.seek(entry.data_offset)
    left = entry.packed_bytes
    while left > 0:
        block = file.read(min(left, _BLOCK_BYTES))
        if not block:
            raise BadArchive(Reason.TRUNCATED, f"The data of {quoted(entry.path)} ends early.")
        left -= len(block)
        yield block


def _inflate(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for block in _stored(file, entry):
            if inflater.eof:
                raise BadArchive(Reason.DEFLATE, f"{quoted(entry.path)} has data after the end of its deflate stream.")
            packed = block
            while packed:
                output = inflater.decompress(packed, _BLOCK_BYTES)
                packed = inflater.unconsumed_tail
                if output:
                    yield output
                if inflater.unused_data:
                    raise BadArchive(
                        Reason.DEFLATE, f"{quoted(entry.path)} has data after the end of its deflate stream."
                    )
        # The window may still hold output although all input is consumed.
        while not inflater.eof and (output := inflater.decompress(b"", _BLOCK_BYTES)):
            yield output
    except zlib.error as error:
        raise BadArchive(Reason.DEFLATE, f"{quoted(entry.path)} is not a valid deflate stream ({error}).") from None
    if not inflater.eof:
        raise BadArchive(Reason.DEFLATE, f"The deflate stream of {quoted(entry.path)} ends early.")
