"""Receives an upload: multipart/form-data, streamed to a staging file while its SHA-256 is computed.

Called by ``functions.endpoints``. What always holds: no more than ``archive_bytes_max`` is written to disk, fields are
small and known, memory does not grow with the upload, and the staging file is gone when the ``async with`` ends.
"""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import structlog
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from control_plane.problems import Problem
from control_plane.settings import Settings

log = structlog.get_logger(__name__)

FILE_FIELD: Final = "bundle"
FIELD_BYTES_MAX: Final = 1024
PARTS_MAX: Final = 8
BOUNDARY_BYTES_MAX: Final = 70
"""RFC 2046 section 5.1.1."""
PART_HEADER_BYTES_MAX: Final = 4096
_STALE_AFTER_S: Final = 3600.0


@dataclass(slots=True)
class StagedUpload:
    path: Path
    sha256: str = ""
    bytes_count: int = 0
    fields: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def receive_upload(request: Request, settings: Settings, fields: frozenset[str]) -> AsyncIterator[StagedUpload]:
    """``fields``: the form fields that may stand beside the file."""
    upload = StagedUpload(settings.staging_dir / f"{secrets.token_hex(16)}.zip")
    try:
        with upload.path.open("xb") as file:
            parser = _Parser(upload, file, fields, settings.archive_bytes_max)
            await _feed(request, parser, settings)
        yield upload
    finally:
        upload.path.unlink(missing_ok=True)


def sweep_staging(staging_dir: Path) -> None:
    """Remove what a killed process left. Another control plane may be receiving into the same folder: only old ones."""
    for path in staging_dir.glob("*.zip"):
        try:
            if time.time() - path.stat().st_mtime > _STALE_AFTER_S:
                path.unlink()
        except FileNotFoundError:
            continue


async def _feed(request: Request, parser: "_Parser", settings: Settings) -> None:
    stream = request.stream()
    timeout_s = settings.upload_idle_timeout.total_seconds()
    multipart = MultipartParser(_boundary(request), parser.callbacks())  # type: ignore[arg-type]
    try:
        while True:
            async with asyncio.timeout(timeout_s):
                chunk = await anext(stream, None)
            if chunk is None:
                break
            multipart.write(chunk)
            if parser.pending:
                await asyncio.to_thread(parser.flush)
        multipart.finalize()
    except TimeoutError:
        raise Problem(
            "request-timeout", f"No byte of the upload arrived for {timeout_s:g} s.", headers={"Connection": "close"}
        ) from None
    except FormParserError:
        raise Problem("bad-request", "The body is not well-formed multipart/form-data.") from None
    except ClientDisconnect:
        raise Problem("bad-request", "The client went away during the upload.") from None
    parser.finish()


def _boundary(request: Request) -> bytes:
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    if content_type != b"multipart/form-data":
        raise Problem(
            "unsupported-media-type",
            f"Send multipart/form-data with the archive in the file field {FILE_FIELD!r}, "
            f"not {content_type.decode('ascii', 'replace')[:60] or 'a body without a type'!r}.",
        )
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= BOUNDARY_BYTES_MAX:
        raise Problem("bad-request", f"The boundary of the multipart body needs 1 to {BOUNDARY_BYTES_MAX} characters.")
    return boundary


class _Parser:
    """What python_multipart calls, as a state machine over the parts."""

    def __init__(self, upload: StagedUpload, file: BinaryIO, fields: frozenset[str], bytes_max: int) -> None:
        self._upload = upload
        self._file = file
        self._allowed = fields
        self._bytes_max = bytes_max
        self._digest = hashlib.sha256()
        self._parts = 0
        self._has_file = False
        self._in_file = False
        self._complete = False
        self._name = ""
        self._value = bytearray()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self.pending: list[bytes] = []

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def flush(self) -> None:
        """Write and hash what has arrived; in a thread, since disks and SHA-256 take their time."""
        for block in self.pending:
            self._digest.update(block)
            self._file.write(block)
        self.pending.clear()

    def finish(self) -> None:
        if not self._complete:
            raise Problem("bad-request", "The multipart body ends before its closing boundary.")
        if not self._has_file:
            raise Problem("invalid-request", f"The form has no file field {FILE_FIELD!r} with the archive.")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._upload.sha256 = self._digest.hexdigest()

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise Problem("invalid-request", f"The form has more than {PARTS_MAX} parts.")
        self._headers = {}
        self._value.clear()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._bound_headers()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._bound_headers()

    def _bound_headers(self) -> None:
        held = sum(len(name) + len(value) for name, value in self._headers.items())
        if held + len(self._header_name) + len(self._header_value) > PART_HEADER_BYTES_MAX:
            raise Problem("content-too-large", f"The headers of a part have more than {PART_HEADER_BYTES_MAX} bytes.")

    def _header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = self._name == FILE_FIELD
        repeated = self._has_file if self._in_file else self._name in self._upload.fields
        if repeated or not (self._in_file or self._name in self._allowed):
            raise Problem(
                "invalid-request",
                f"The form field {self._name[:60]!r} is {'repeated' if repeated else 'not known'}; "
                f"fields are {', '.join(sorted({FILE_FIELD, *self._allowed}))}.",
            )
        self._has_file = self._has_file or self._in_file

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._value += data[start:end]
            if len(self._value) > FIELD_BYTES_MAX:
                raise Problem(
                    "content-too-large", f"The form field {self._name!r} has more than {FIELD_BYTES_MAX} bytes."
                )
            return
        self._upload.bytes_count += end - start
        if self._upload.bytes_count > self._bytes_max:
            raise Problem(
                "content-too-large",
                f"The archive has more than {self._bytes_max} bytes. Leave out files that the function does not need "
                "(.tailcutignore).",
                headers={"Connection": "close"},
                limit="archive",
                allowed_bytes=self._bytes_max,
            )
        self.pending.append(data[start:end])

    def _part_end(self) -> None:
        if not self._in_file:
            self._upload.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self._complete = True
