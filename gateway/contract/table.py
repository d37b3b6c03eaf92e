"""Control plane → gateways: the complete desired state, one JSON document in Redis.

The control plane's relay writes the document to ``TABLE_KEY`` and then publishes its revision on
``REVISION_CHANNEL``; a gateway reads it at start, on each message, and every few seconds in case a message was lost.
A gateway keeps its last good document on disk: Redis and the control plane may both be down.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

TABLE_KEY = "tailcut:table"
REVISION_CHANNEL = "tailcut:revision"

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
    concurrency_max: int = Field(default=16, ge=1, le=256)
    """Invocations of the version that may run at once on one reactor's CPU; more wait in the queue."""
    workers_min: int = Field(default=0, ge=0, le=16)
    """Workers that are kept when idle, per reactor."""
    request_bytes_max: int = Field(default=6 * 2**20, ge=0, le=6 * 2**20)
    output_bytes_max: int = Field(default=6 * 2**20, ge=1, le=6 * 2**20)
    log_bytes_max: int = Field(default=64 * 2**10, ge=0, le=2**20)
    """Log output of one invocation; what is over it is cut, with a record that says so."""
    state: Literal["warm", "fresh"] = "warm"
    """``warm``: an invocation finds what earlier ones on its worker left in memory. ``fresh``: what the import left."""


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
    attempt: int = 0
    """Rises when a version that failed is deployed again: a node that gave it up tries once more."""


class Function(_Document):
    tenant_id: str
    name: Name
    public: bool = False
    aliases: dict[Name, str]
    """Alias → version id; the desired one, which a gateway serves once a worker of it is ready."""


class Tenant(_Document):
    id: str
    name: Name
    concurrency_max: int = Field(default=64, ge=1)
    """Invocations of the tenant that may be in the gateway at once (running or queued); more are 429."""


class Key(_Document):
    id: str
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
