"""What functions print, as JSON lines in ``var/log/functions.jsonl``, bounded by renaming to ``.1``, ``.2``, ….

One line per line of output: time, tenant, function, version, request_id, stream, text. Two gateways may append at
once (reload): lines are written whole, and a file that the other has renamed is noticed and left.
A disk that refuses loses output, never a request: it is counted and said.
"""

import fcntl
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

_log = structlog.get_logger("function_log")


@dataclass(frozen=True, slots=True)
class OutputLine:
    time: str
    tenant: str
    function: str
    version: str
    request_id: str
    """Empty: the worker was starting."""
    stream: str
    text: str


def rfc3339(time_ns: int) -> str:
    whole = datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{time_ns % 10**9 // 1000:06d}Z"


class FunctionLog:
    """Appends lines; opened at the first."""

    def __init__(self, path: Path, bytes_max: int, files_max: int) -> None:
        self.lost_lines = 0
        self._path = path
        self._bytes_max = bytes_max
        self._files_max = files_max
        self._descriptor: int | None = None
        self._encoder = msgspec.json.Encoder()

    def write(self, lines: Iterable[OutputLine]) -> None:
        records = [self._encoder.encode(line) + b"\n" for line in lines]
        if not records:
            return
        try:
            rest = memoryview(b"".join(records))
            descriptor = self._current()
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError as error:
            if self.lost_lines == 0:
                _log.error("output of functions cannot be written", path=str(self._path), error=str(error))
            self.lost_lines += len(records)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _current(self) -> int:
        """The descriptor of a file that is still under its name and has room."""
        if self._descriptor is not None:
            mine = os.fstat(self._descriptor)
            if mine.st_size < self._bytes_max and self._is_at_path(mine):
                return self._descriptor
            self._rotate(mine)
            self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._descriptor

    def _is_at_path(self, mine: os.stat_result) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def _rotate(self, mine: os.stat_result) -> None:
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._is_at_path(mine):
                return  # the other gateway has done it
            for number in range(self._files_max - 1, 0, -1):
                older = self._numbered(number)
                if older.exists():
                    older.replace(self._numbered(number + 1))
            self._numbered(self._files_max).unlink(missing_ok=True)
            if self._files_max > 1:
                self._path.replace(self._numbered(1))
            else:
                self._path.unlink()
        finally:
            os.close(lock)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
