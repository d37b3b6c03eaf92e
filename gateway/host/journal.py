"""The files of the node's journal: made ahead of need, synced, recovered after a crash, removed once booked.

Under ``var/gateway/journal``, for each start of a gateway (an epoch) and each of its reactors:

    <node and epoch>-<reactor>.inflight          what has begun and not ended; locked while its gateway lives
    <node and epoch>-<reactor>-<number>.segment  8 MiB of usage records (zigcore/src/meter/journal.zig)

Zig writes them through mappings and never waits for a disk: a segment is allocated here before it is needed. When that
fails (the disk is full) Zig runs out of promised places and refuses calls with 503, so that none runs unrecorded.
Called by ``node`` (``begin``, ``feed``) and by ``shipping``, which reads segments and says which are booked.
"""

import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.contract.usage import (
    HEADER,
    HEADER_BYTES,
    MAGIC,
    SEGMENT_BYTES,
    SEGMENT_NUMBER_MAX,
    SLOT_BYTES,
    START,
    Position,
    aborted_slot,
    slots,
    stream_name,
)
from gateway.core.binding import CoreError
from gateway.core.data_plane import DataPlane, valid_slots

_log = structlog.get_logger("journal")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
INFLIGHT_BYTES: Final = 512 * 1024
"""Behind it in the file: the boot id."""
_LAST_SLOTS: Final = 64
_INFLIGHT: Final = struct.Struct("<16sQ32s8x")
_SEGMENT_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{2})-([0-9a-f]{8})\.segment")
_INFLIGHT_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{2})\.inflight")


@dataclass(frozen=True, slots=True)
class Segment:
    path: Path
    stream: str
    number: int

    def committed(self) -> tuple[int, bool]:
        """(bytes that are whole, whether no more will follow). Raises OSError, ValueError for a file that is none."""
        with self.path.open("rb", buffering=0) as file:
            header = file.read(HEADER.size)
            if len(header) == HEADER.size and HEADER.unpack(header)[4]:
                header = os.pread(file.fileno(), HEADER.size, 0)  # read before ``sealed``, ``committed`` could be older
        if len(header) < HEADER.size:
            return HEADER_BYTES, False  # made, not yet allocated
        magic, _, number, committed, sealed = HEADER.unpack(header)
        if committed == 0:
            return HEADER_BYTES, False  # allocated, not yet taken
        if magic != MAGIC or number != self.number or not HEADER_BYTES <= committed <= SEGMENT_BYTES:
            raise ValueError(f"{self.path.name} is no segment {self.number} of the journal: {magic!r}, {committed}")
        return committed, bool(sealed)

    def read(self, offset: int, end: int) -> bytes:
        with self.path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), end - offset, offset)

    def arrived_unix_ns(self, offset: int) -> int:
        """Of the record at ``offset``."""
        return int.from_bytes(self.read(offset + 24, offset + 32), "little")


class Journal:
    """One gateway's journal, and what gateways before it left in the same folder."""

    def __init__(self, folder: Path, node: int, data_plane: DataPlane, reactors: int) -> None:
        self.folder = folder
        self.full = False
        """The disk had no room for the next segment."""
        self._node = node
        self._data_plane = data_plane
        self._locks: list[int] = []
        self._next = [1] * reactors
        self._open: dict[int, list[int]] = {reactor: [] for reactor in range(reactors)}
        """Descriptors of the segments that may be written still: the last two."""
        self._written: list[int] = []
        """Of those before: ``sync`` writes them out and closes them, so that ``feed`` never waits for the disk."""
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self) -> None:
        """Before the data plane starts. Raises OSError: a gateway that cannot keep books must not serve. May be tried
        again."""
        boot = _BOOT_ID.read_bytes().strip()
        for reactor in list(self._open)[len(self._locks) :]:
            path = self.folder / f"{self._node:016x}-{reactor:02x}.inflight"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                os.posix_fallocate(descriptor, 0, INFLIGHT_BYTES + len(boot))
                os.pwrite(descriptor, boot, INFLIGHT_BYTES)
                self._data_plane.begin_journal(reactor, descriptor)
            except (OSError, CoreError):
                path.unlink()
                os.close(descriptor)
                raise
            self._locks.append(descriptor)
        self.feed()
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))

    def feed(self) -> None:
        """Gives each reactor that has none a segment in waiting. Cheap when there is nothing to do."""
        for reactor in self._open:
            if self._data_plane.journal_wants(reactor):
                self._give(reactor)

    def sync(self) -> None:
        """What a power cut can take is at most what came since (in a helper thread: it waits for the disk)."""
        for descriptors in list(self._open.values()):
            for descriptor in list(descriptors):
                os.fdatasync(descriptor)
        while self._written:
            descriptor = self._written.pop()
            os.fdatasync(descriptor)
            os.close(descriptor)

    @property
    def node(self) -> str:
        """As it is named in Redis; the same for every start."""
        return f"{self._node >> 32:08x}"

    def streams(self) -> list[str]:
        return [stream_name(self._node, reactor) for reactor in self._open]

    def segments(self) -> dict[str, list[Segment]]:
        """By stream, in order; those of gateways that have ended included."""
        found: dict[str, list[Segment]] = {}
        for path in sorted(self.folder.iterdir()):
            match = _SEGMENT_NAME.fullmatch(path.name)
            if match is not None:
                stream = f"{match[1]}:{match[2]}"
                found.setdefault(stream, []).append(Segment(path, stream, int(match[3], 16)))
        return found

    def recover(self) -> dict[str, Position]:
        """Brings the journals of gateways that have died to their end. → stream → the position of its end.

        What lies behind ``committed`` and is whole is taken in; what had begun and never ended gets a record of its
        own in one last segment. Done twice it changes nothing.
        """
        ends: dict[str, Position] = {}
        for path in sorted(self.folder.iterdir()):
            match = _INFLIGHT_NAME.fullmatch(path.name)
            if match is None or int(match[1], 16) == self._node:
                continue
            stream = f"{match[1]}:{match[2]}"
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # that gateway lives: it is draining, or we are the next one
            else:
                if os.fstat(descriptor).st_nlink:  # else another gateway did it at this very moment
                    ends[stream] = self._end(stream, path, descriptor)
            finally:
                os.close(descriptor)
        for stream, segments in self.segments().items():
            # Without a table of what is in flight the stream had been brought to its end before.
            if stream not in ends and int(stream[:16], 16) != self._node and not self._inflight(stream).exists():
                ends[stream] = Position(segments[-1].number, segments[-1].committed()[0])
        return ends

    def remove(self, stream: str, booked: Position, *, ended: bool) -> None:
        """Deletes the segments of which everything is booked and to which nothing will be added."""
        for segment in self.segments().get(stream, []):
            committed, sealed = segment.committed()
            if Position(segment.number, committed) <= booked and (sealed or ended):
                segment.path.unlink()

    def close(self) -> None:
        """The locks go with the process, too; a draining gateway lets go when it has answered everything."""
        for descriptor in [*self._locks, *self._written, *(one for each in self._open.values() for one in each)]:
            os.close(descriptor)
        self._locks, self._open = [], {}

    # -- one segment -----------------------------------------------------------------------------------------------

    def _give(self, reactor: int) -> None:
        number = self._next[reactor]
        if number > SEGMENT_NUMBER_MAX:
            raise OverflowError("the journal's numbers of segments are used up: a new gateway begins a new epoch")
        path = self.folder / f"{self._node:016x}-{reactor:02x}-{number:08x}.segment"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SEGMENT_BYTES)
            self._data_plane.give_segment(reactor, descriptor, number)
        except (OSError, CoreError) as error:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            if not self.full:
                no_room = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
                reason = "the disk is full" if no_room else str(error)
                _log.error("no journal segment: calls are refused once the last one is full", reason=reason)
            self.full = True
            return
        if self.full:
            _log.info("the journal has room again")
        self.full = False
        self._next[reactor] += 1
        kept = self._open[reactor]
        kept.append(descriptor)
        while len(kept) > 2:
            self._written.append(kept.pop(0))

    # -- recovery --------------------------------------------------------------------------------------------------

    def _inflight(self, stream: str) -> Path:
        return self.folder / f"{stream[:16]}-{stream[17:]}.inflight"

    def _end(self, stream: str, inflight: Path, descriptor: int) -> Position:
        known: set[bytes] = set()
        last = START
        number = 0
        for segment in self.segments().get(stream, []):
            number = segment.number
            end = self._seal(segment)
            if end is None:
                continue
            last = Position(segment.number, end)
            # What was written last may still be listed as in flight; older records are not.
            tail = max(HEADER_BYTES, end - _LAST_SLOTS * SLOT_BYTES)
            known |= {slot[8:24] for slot in slots(segment.read(tail, end))}
        aborted = [row for row in _begun(descriptor) if row[0] not in known]
        if aborted:
            last = self._write_aborted(stream, number + 1, aborted)
            _log.warning(
                "invocations had begun when a gateway died; they cost nothing", stream=stream, count=len(aborted)
            )
        inflight.unlink()
        return last

    def _seal(self, segment: Segment) -> int | None:
        """Takes in what is whole behind ``committed``. → its end; None: there is nothing in it, and it has gone."""
        try:
            committed, _ = segment.committed()
        except ValueError as error:
            _log.error("a segment of the journal cannot be read; it is kept and passed over", error=str(error))
            segment.path.rename(segment.path.with_suffix(".unreadable"))
            return None
        tail = segment.read(committed, SEGMENT_BYTES)
        whole = 0
        for at in range(0, len(tail), SLOT_BYTES):
            slot = tail[at : at + SLOT_BYTES]
            if not any(slot) or not valid_slots(slot):
                break
            whole = at + SLOT_BYTES
        end = committed + whole
        if end == HEADER_BYTES:
            segment.path.unlink()
            return None
        with segment.path.open("r+b") as file:
            _, node, number, _, _ = HEADER.unpack(file.read(HEADER.size))
            file.seek(0)
            file.write(HEADER.pack(MAGIC, node, number, end, 1))
            file.flush()
            os.fsync(file.fileno())
        return end

    def _write_aborted(self, stream: str, number: int, rows: list[tuple[bytes, int, bytes]]) -> Position:
        path = self.folder / f"{stream[:16]}-{stream[17:]}-{number:08x}.segment"
        body = b"".join(aborted_slot(one, version_id, arrived) for one, arrived, version_id in rows)
        end = HEADER_BYTES + len(body)
        header = HEADER.pack(MAGIC, int(stream[:16], 16), number, end, 1).ljust(HEADER_BYTES, b"\0")
        temporary = path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(header + body)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        return Position(number, end)


def _begun(descriptor: int) -> Iterator[tuple[bytes, int, bytes]]:
    """(invocation id, arrived, version id) of each row that is taken. The table is never synced: after a power cut it
    may list what has long ended, and is not believed."""
    if os.pread(descriptor, 64, INFLIGHT_BYTES) != _BOOT_ID.read_bytes().strip():
        return
    for invocation_id, arrived_unix_ns, version_id in _INFLIGHT.iter_unpack(os.pread(descriptor, INFLIGHT_BYTES, 0)):
        if any(invocation_id[8:]):
            yield invocation_id, arrived_unix_ns, version_id
