"""Control plane → gateways: the complete desired state, one JSON document in Redis.

The control plane's relay writes the document to ``TABLE_KEY`` and then publishes its revision on
``REVISION_CHANNEL``; a gateway reads it at start, on each message, and every few seconds in case a message was lost.
A gateway keeps its last good document on disk: Redis and the control plane may both be down. That what it holds is
still the newest, ``NEWEST_KEY`` tells: a table that merely lies in Redis may be one that nobody writes any more.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.contract.worker import State

TABLE_KEY = "tailcut:table"
REVISION_CHANNEL = "tailcut:revision"
NEWEST_KEY = "tailcut:table:newest"
"""The newest revision that SQL had when the relay last looked. The key's own time to live, ``NEWEST_KEPT_S`` when it
looked, tells how long ago that was, so that no two clocks have to agree."""
NEWEST_KEPT_S = 7 * 86_400

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,61}[a-z0-9]$|^[a-z]$"
"""Names of tenants, functions and aliases: DNS labels, so that ``{tenant}.{domain}`` works."""

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Scope = Literal["deploy", "invoke", "read", "admin"]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Document):
    """Bounds of one function; the control plane has already taken the smaller of tier and function."""

    timeout_ms: int = Field(default=3_000, ge=10, le=900_000)
    """Wall clock of one invocation, from its dispatch."""
    cpu_ms: int = Field(default=3_000, ge=10, le=900_000)
    """CPU time of one invocation, all its threads together."""
    memory_bytes: int = Field(default=256 * 2**20, ge=16 * 2**20, le=64 * 2**30)
    """Private memory of the worker, of every kind."""
    tmp_bytes: int = Field(default=64 * 2**20, ge=2**20, le=16 * 2**30)
    """Size of ``/tmp``; what lies there counts as memory too."""
    open_files_max: int = Field(default=128, ge=16, le=4_096)
    processes_max: int = Field(default=32, ge=1, le=512)
    """Threads and processes of a worker together."""
    processes: bool = False
    """Whether the function may start processes."""
    network: bool = False
    """Whether it may connect outside, through the egress (gateway/egress/): by proxy, to public addresses."""
    network_connections_max: int = Field(default=64, ge=0, le=1_024)
    """Open at once, of all workers of the version on a node; 0: no network."""
    network_bytes_per_minute: int = Field(default=2**30, ge=0, le=2**40)
    """Sent and received, of all workers of the version on a node; beyond it connections are slowed down."""
    concurrency_max: int = Field(default=16, ge=1, le=256)
    """Invocations of the version that may run at once on one reactor's CPU; more wait in the queue."""
    workers_min: int = Field(default=0, ge=0, le=16)
    """Workers that are kept when idle, per reactor."""
    request_bytes_max: int = Field(default=6 * 2**20, ge=0, le=6 * 2**20)
    output_bytes_max: int = Field(default=6 * 2**20, ge=1, le=6 * 2**20)
    log_bytes_max: int = Field(default=64 * 2**10, ge=0, le=2**20)
    """Log output of one invocation; what is over it is cut, with a record that says so."""
    state: State = "fresh"
    """``fresh``: an invocation finds what the import left, the worker goes back to it after each; where that cannot be
    done, as ``forked``: a process of its own for each. ``warm``: what earlier ones on its worker left in memory."""


LimitName = Literal["timeout_ms", "cpu_ms", "memory_bytes", "output_bytes_max"]
QuotaName = Literal["rate", "concurrency", "quota"]
TenantStatus = Literal["active", "unpaid", "suspended"]


class Reservation(_Document):
    """CPU bandwidth that the kernel guarantees (SCHED_DEADLINE): ``runtime_us`` within ``deadline_us`` of every
    ``period_us``, for each of up to ``workers_max`` workers of the tenant on a node."""

    runtime_us: int = Field(ge=10_000, le=1_000_000)
    deadline_us: int = Field(ge=10_000, le=1_000_000)
    period_us: int = Field(ge=50_000, le=1_000_000)
    workers_max: int = Field(default=1, ge=1, le=64)
    fallback: bool = True
    """Where the kernel admits no more: run best-effort and say so (true), or wait in the queue (false)."""


class Quota(_Document):
    """What a tenant may use within one period; ``None``: without bound (it is billed instead)."""

    period: str = Field(pattern=r"^[0-9A-Za-z_.:-]{1,64}$")
    """Names the period in leases and usage: another one starts from zero."""
    resets_at_s: int
    """Unix time of the period's end, seconds."""
    invocations_max: int | None = Field(default=None, ge=0)
    cpu_us_max: int | None = Field(default=None, ge=0)
    mib_us_max: int | None = Field(default=None, ge=0)
    """Memory × wall clock, in MiB·µs (1 GB-second is 1024 × 1,000,000 of them)."""
    spend: "Spend | None" = None

    @property
    def is_bounded(self) -> bool:
        """Whether it can refuse anything at all."""
        return (self.invocations_max, self.cpu_us_max, self.mib_us_max, self.spend) != (None, None, None, None)


class Spend(_Document):
    """A cap that the tenant set on what it pays for usage beyond what its tier includes, within the period."""

    cap_micros: int = Field(ge=0)
    """Millionths of the currency's minor unit."""
    included_invocations: int = Field(ge=0)
    included_cpu_us: int = Field(ge=0)
    included_mib_us: int = Field(ge=0)
    micros_per_million_invocations: int = Field(ge=0)
    micros_per_cpu_s: int = Field(ge=0)
    micros_per_gib_s: int = Field(ge=0)


class Version(_Document):
    id: str
    tenant_id: str
    function: Name
    bundle_sha256: Sha256
    bundle_bytes: int
    handler: str
    """``module:attribute``"""
    env: dict[str, str] = {}
    limits: Limits = Limits()
    upgrade: dict[LimitName, Name] = {}
    """Limit → the tier under which it would be higher for this function; what no tier would raise is not here."""
    attempt: int = 0
    """Rises when a version that failed is deployed again: a node that gave it up tries once more."""


class Function(_Document):
    tenant_id: str
    name: Name
    public: bool = False
    quota: Quota | None = None
    """A cap that the tenant set on this function alone."""
    aliases: dict[Name, str]
    """Alias → version id; the desired one, which a gateway serves once a worker of it is ready."""


class Tenant(_Document):
    id: str
    name: Name
    concurrency_max: int = Field(default=64, ge=1)
    """Invocations of the tenant that may be in the gateway at once (running or queued); more are 429."""
    tier: Name = "free"
    status: TenantStatus = "active"
    """``unpaid``: calls are 402; ``suspended``: 403, and its workers end."""
    rate_per_s: int = Field(default=0, ge=0, le=1_000_000)
    """Admitted invocations: a bucket of ``burst`` that fills at this rate; 0: no bound."""
    burst: int = Field(default=0, ge=0, le=1_000_000)
    cpu_weight: int = Field(default=100, ge=1, le=10_000)
    """Share of a shared CPU, in cgroup v2's units."""
    quota: Quota | None = None
    reservation: Reservation | None = None
    upgrade_url: str = Field(default="", max_length=512)
    upgrade: dict[QuotaName, Name] = {}
    """Bound → the tier that would allow more."""


class Key(_Document):
    id: str = Field(max_length=40)
    sha256: Sha256
    """SHA-256 of the whole token ``tck_…``: high-entropy, so no slow hash is needed."""
    tenant_id: str
    scopes: tuple[Scope, ...]
    expires_at_s: int | None = None
    """Unix time, seconds."""


class RoutingTable(_Document):
    revision: int
    tenants: tuple[Tenant, ...] = ()
    keys: tuple[Key, ...] = ()
    functions: tuple[Function, ...] = ()
    versions: tuple[Version, ...] = ()
    """Every version that an alias names, and the newest few of each function for ``@ver_…``."""


def quota_key(tenant_id: str, function: str, period: str) -> str:
    """The Redis key of one quota in one period; ``function`` is empty for the tenant's own. See ``host/lease.lua``."""
    return f"tailcut:quota:{tenant_id}:{function}:{period}"
