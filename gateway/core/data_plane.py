"""The Zig data plane behind a typed class: ``zc_gateway_*`` of zigcore.h, events as frozen dataclasses.

One per process, used by gateway/host from its one thread (``apply`` may run in another: it waits for the reactors).
cffi releases the GIL during calls; Zig never calls back, it makes ``event_fd`` readable.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from gateway.contract.metrics import METRICS_BYTES_START, Metrics
from gateway.core import binding
from gateway.core._zigcore_abi import ffi  # type: ignore[import-not-found,unused-ignore]

EVENTS_BYTES = 1 << 20
"""Taken at once; a single event is at most 64 KiB (limits.event_bytes_max)."""
_EVENT = struct.Struct("<IHHIIQ16sii")


@dataclass(frozen=True, slots=True)
class DataPlaneConfig:
    reactor_cpus: tuple[int, ...]
    listen_fds: tuple[int, ...]
    """One listening socket per CPU; they stay ours."""
    zygote_path: str
    problem_base_url: str
    base_domain: str
    node: int
    """64 bits: node and boot epoch, the first half of every invocation id."""
    connections_max: int
    body_bytes_max: int
    header_timeout: timedelta
    body_timeout: timedelta
    idle_timeout: timedelta
    write_timeout: timedelta
    queue_timeout: timedelta
    worker_idle_timeout: timedelta
    reserved_cpus: tuple[int, ...] = ()
    """Where workers of tenants with a CPU reservation run; none of them is a reactor's."""
    reserved_sellable_ppm: int = 0
    """Of each, in millionths."""


class PurseReason(IntEnum):
    """Why a purse gets no more (``zc_gateway_purse_fill``)."""

    NONE = 0
    INVOCATIONS = 1
    CPU = 2
    MEMORY = 3
    SPEND = 4
    UNKNOWN = 5


@dataclass(frozen=True, slots=True)
class PurseState:
    """What is left of a purse's leases and what was spent since the start: (invocations, CPU µs, MiB·µs)."""

    name: str
    """``tenant`` or ``tenant/function``"""
    left: tuple[int, int, int]
    spent: tuple[int, int, int]


class LogStream(IntEnum):
    STDOUT = 1
    STDERR = 2
    RUNTIME = 3


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker of the version is up; ``document`` is its JSON (gateway.contract.worker.Ready), unchecked."""

    version: int
    pid: int
    document: bytes


@dataclass(frozen=True, slots=True)
class WorkerStartFailed:
    """No worker; ``ours``: the node's fault (time-out, no zygote), not the function's; ``document``: JSON, raw."""

    version: int
    pid: int
    ours: bool
    document: bytes


@dataclass(frozen=True, slots=True)
class FunctionOutput:
    """One line that a function wrote; ``invocation_id`` is empty when it was starting."""

    version: int
    time_ns: int
    invocation_id: str
    stream: int
    """A LogStream, or a number of a later library."""
    text: bytes


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """A worker ended that was not asked to."""

    version: int
    pid: int
    status: int | None
    """As waitpid gives it; None: nobody knows."""
    forbidden_call: int | None
    """The number of the system call that it was ended for."""
    time_ns: int
    invocation_id: str


@dataclass(frozen=True, slots=True)
class Drained:
    """All reactors have answered what they received and closed their connections; comes once."""


@dataclass(frozen=True, slots=True)
class EventsLost:
    """The ring was full: ``count`` lines of output are gone."""

    count: int


Event = WorkerReady | WorkerStartFailed | FunctionOutput | WorkerExited | Drained | EventsLost


class DataPlane:
    """init → start → apply … → listen → drain → stop. Raises binding.CoreError where Zig refuses."""

    def __init__(self, config: DataPlaneConfig) -> None:
        """Takes all memory and opens the rings; nothing runs yet."""
        if not config.listen_fds or len(config.listen_fds) != len(config.reactor_cpus):
            raise ValueError(
                f"{len(config.listen_fds)} listening sockets for {len(config.reactor_cpus)} reactor CPUs: "
                "each reactor needs one of its own (TAILCUT_LISTEN_FDS, TAILCUT_REACTOR_CPUS)"
            )
        self._library = binding.load()
        self._error = ffi.new("zc_error *")
        self._buffer = ffi.new("uint8_t[]", EVENTS_BYTES)
        # Zig copies the configuration; these live until init returns.
        cpus = ffi.new("uint32_t[]", list(config.reactor_cpus))
        fds = ffi.new("int[]", list(config.listen_fds))
        reserved_cpus = ffi.new("uint32_t[]", list(config.reserved_cpus))
        zygote_path = ffi.new("char[]", config.zygote_path.encode())
        problem_base_url = ffi.new("char[]", config.problem_base_url.encode())
        base_domain = ffi.new("char[]", config.base_domain.encode())
        native = ffi.new(
            "zc_gateway_config *",
            {
                "abi_version": binding.ABI_VERSION,
                "reactors_count": len(config.reactor_cpus),
                "reactor_cpus": cpus,
                "listen_fds": fds,
                "zygote_path": zygote_path,
                "problem_base_url": problem_base_url,
                "base_domain": base_domain,
                "node": config.node,
                "connections_max": config.connections_max,
                "body_bytes_max": config.body_bytes_max,
                "header_timeout_ns": _ns(config.header_timeout),
                "body_timeout_ns": _ns(config.body_timeout),
                "idle_timeout_ns": _ns(config.idle_timeout),
                "write_timeout_ns": _ns(config.write_timeout),
                "queue_timeout_ns": _ns(config.queue_timeout),
                "worker_idle_timeout_ns": _ns(config.worker_idle_timeout),
                "reserved_cpus": reserved_cpus,
                "reserved_cpus_count": len(config.reserved_cpus),
                "reserved_sellable_ppm": config.reserved_sellable_ppm,
            },
        )
        binding.check(self._library.zc_gateway_init(native, self._error), self._error)
        self.event_fd: int = self._library.zc_gateway_event_fd()

    def start(self) -> None:
        """Starts the reactor threads; they accept nothing yet."""
        binding.check(self._library.zc_gateway_start(self._error), self._error)

    def serve(self, descriptor: int) -> None:
        """Serves a connected stream socket as a client; the data plane closes it."""
        binding.check(self._library.zc_gateway_serve(descriptor))

    def listen(self) -> None:
        """Accepts from now on."""
        binding.check(self._library.zc_gateway_listen())

    def apply(self, document: bytes) -> None:
        """Swaps in a complete revision (JSON) on every reactor before it returns; on an error nothing changes."""
        error = ffi.new("zc_error *")
        binding.check(self._library.zc_gateway_apply(document, len(document), error), error)

    def drain(self) -> None:
        """Stops accepting; one Drained follows."""
        binding.check(self._library.zc_gateway_drain())

    def stop(self) -> None:
        """Ends the reactors and kills the workers, now."""
        binding.check(self._library.zc_gateway_stop())

    def events(self) -> list[Event]:
        """Takes a buffer's worth of events; empty when none wait. Call until it is."""
        size = self._library.zc_gateway_events(self._buffer, EVENTS_BYTES)
        return list(decode_events(ffi.buffer(self._buffer, size)[:]))

    def begin_journal(self, reactor: int, descriptor: int) -> None:
        """Between init and start: from now on no invocation runs without a place in the journal."""
        binding.check(self._library.zc_gateway_journal_begin(reactor, descriptor, self._error), self._error)

    def journal_wants(self, reactor: int) -> bool:
        return bool(self._library.zc_gateway_journal_wants(reactor))

    def give_segment(self, reactor: int, descriptor: int, number: int) -> None:
        error = ffi.new("zc_error *")
        binding.check(self._library.zc_gateway_journal_give(reactor, descriptor, number, error), error)

    def serve_until(self, monotonic_ns: int) -> None:
        """From then on calls are refused (503 table-expired): the table is too old. 0: never."""
        binding.check(self._library.zc_gateway_serve_until(monotonic_ns))

    def key_uses(self) -> dict[str, int]:
        """Key id → Unix time of its last use, of keys used since the last call; call until it is empty. Before each
        ``apply``, too: uses noted in the table before the last one are lost with the next."""
        size = self._library.zc_gateway_key_uses(self._buffer, EVENTS_BYTES)
        rows = json.loads(ffi.buffer(self._buffer, size)[:] or b"[]")
        return {row["id"]: row["used_s"] for row in rows}

    def purses(self) -> list[PurseState]:
        """The purses that changed since the last call; call until it is empty."""
        size = self._library.zc_gateway_purses(self._buffer, EVENTS_BYTES)
        rows = json.loads(ffi.buffer(self._buffer, size)[:] or b"[]")
        return [PurseState(row["name"], tuple(row["left"]), tuple(row["spent"])) for row in rows]

    def fill_purse(
        self,
        name: str,
        amount: tuple[int, int, int],
        *,
        set_to: bool,
        reason: PurseReason = PurseReason.NONE,
        allowed: int = 0,
        used: int = 0,
    ) -> bool:
        """Adds to what a purse may spend, or sets it. False: no revision has that purse (any more)."""
        native = ffi.new("int64_t[3]", list(amount))
        status = self._library.zc_gateway_purse_fill(name.encode(), native, int(set_to), int(reason), allowed, used)
        return int(status) == 0

    def metrics(self) -> Metrics:
        """The counters (gateway/contract/metrics.py) as Zig wrote them."""
        capacity = METRICS_BYTES_START
        while True:
            buffer = ffi.new("uint8_t[]", capacity)
            size = self._library.zc_gateway_metrics(buffer, capacity)
            if size <= capacity:
                document: Metrics = json.loads(ffi.buffer(buffer, size)[:])
                return document
            capacity = size * 2


def valid_slots(records: bytes) -> int:
    """How many bytes of a journal's slots, from the start, have the right checksums."""
    return int(binding.load().zc_journal_valid(records, len(records)))


def decode_events(data: bytes) -> Iterator[Event]:
    """``zc_event`` records, one after the other; those of a kind that this code does not know are passed over."""
    at = 0
    while at < len(data):
        size, kind, stream, version, payload_bytes, time_ns, invocation, pid, status = _EVENT.unpack_from(data, at)
        if size < _EVENT.size + payload_bytes or at + size > len(data):
            raise ValueError(f"event of {size} bytes with a payload of {payload_bytes} at {at} of {len(data)} bytes")
        payload = data[at + _EVENT.size : at + _EVENT.size + payload_bytes]
        at += size
        match kind:
            case 1:
                yield WorkerReady(version, pid, payload)
            case 2:
                yield WorkerStartFailed(version, pid, status != 0, payload)
            case 3:
                yield FunctionOutput(version, time_ns, _invocation(invocation), stream, payload)
            case 4:
                call = (status >> 16) - 1 if status >> 16 > 0 else None
                known = None if status < 0 else status & 0xFFFF
                yield WorkerExited(version, pid, known, call, time_ns, _invocation(invocation))
            case 5:
                yield Drained()
            case 6:
                yield EventsLost(status)
            case _:
                continue


def _invocation(raw: bytes) -> str:
    return raw.hex() if any(raw) else ""


def _ns(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1) * 1000
