"""Host → Zig: the complete effective state of a node, one JSON document (``zc_gateway_apply``).

Decoded and checked by ``zigcore/src/route/revision.zig``; on any error nothing changes. Indexes refer to positions
in this document, except ``Version.index``, which the host keeps stable for as long as the version lives on the node.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TenantRow:
    name: str
    concurrency_max: int
    openapi_public: str
    """OpenAPI document (JSON text) of the tenant's public typed functions, for anybody."""
    openapi_all: str
    """The same of all its typed functions, for callers with one of its keys."""
    id: str = ""
    """Of the control plane; what usage and leases are kept by."""
    tier: str = ""
    status: str = "active"
    """``active``, ``unpaid`` or ``suspended``; the last two are refused."""
    rate_per_s: int = 0
    """0: no bound. Otherwise a token bucket of ``burst`` that fills at this rate."""
    burst: int = 0
    leased: bool = False
    """It has a quota: invocations are taken from the tenant's purse, which ``host/leases`` fills."""
    resets_at_s: int = 0
    """Unix time of the end of the quota's period."""
    cpu_weight: int = 100
    """Share of a shared CPU, 1 … 10000 (cgroup v2's units)."""
    reserved_runtime_us: int = 0
    """0: no CPU was reserved. ``reserved_*``: see ``Reservation`` in table.py."""
    reserved_deadline_us: int = 0
    reserved_period_us: int = 0
    reserved_workers_max: int = 0
    reserved_fallback: bool = True
    upgrade_url: str = ""
    upgrade_rate: str = ""
    """``upgrade_*``: the tier that would allow more; empty: none would."""
    upgrade_concurrency: str = ""
    upgrade_quota: str = ""


@dataclass(frozen=True, slots=True)
class KeyRow:
    sha256: str
    """64 lower-case hexadecimal digits."""
    tenant: int
    invoke: bool
    """Whether the key has the scope ``invoke`` (``admin`` includes it)."""
    expires_at_s: int
    """Unix time; 0: never."""
    id: str
    """Of the control plane; what the use of a key is told by."""


@dataclass(frozen=True, slots=True)
class VersionRow:
    index: int
    """0 ≤ index < versions_max; never reused for another version while any worker of the old one may live."""
    id: str
    tenant: int
    function: str
    spawn: str
    """SpawnSpec as JSON text, handed to the zygote unread."""
    timeout_ms: int
    concurrency_max: int
    workers_min: int
    request_bytes_max: int
    output_bytes_max: int
    log_bytes_max: int
    probe: bool
    """Start one worker now, on the first reactor; ready or start_failed follows as an event."""
    cpu_ms: int = 900_000
    memory_bytes: int = 64 * 2**30
    open_files_max: int = 0
    """``open_files_max``, ``processes_max``: 0: what the worker was started with."""
    processes_max: int = 0
    children: bool = False
    """Its workers may have processes of their own (``forked``, or it asked for them), whose CPU counts as theirs."""
    leased: bool = False
    """Its function has a quota of its own."""
    upgrade_timeout: str = ""
    """``upgrade_*``: the tier that would allow this version more of it; empty: none would, or it asks for no more."""
    upgrade_cpu: str = ""
    upgrade_memory: str = ""
    upgrade_output: str = ""


@dataclass(frozen=True, slots=True)
class RouteRow:
    tenant: int
    function: str
    qualifier: str
    """An alias ("live" is what a path without @ means) or a version id."""
    version: int
    """``VersionRow.index``; -1: known, but no version of it was ever ready here (503 not-ready)."""
    public: bool
    error: str = ""
    """version = -1: why (traceback of the failed start), for callers with the tenant's key (500 instead of 503)."""


@dataclass(frozen=True, slots=True)
class Revision:
    revision: int
    tenants: list[TenantRow]
    keys: list[KeyRow]
    versions: list[VersionRow]
    routes: list[RouteRow]
