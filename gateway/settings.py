"""Everything that can be set from outside, and the only place in ``gateway/`` that reads the environment.

Variables are named ``TAILCUT_`` and the field's name in capitals, times are ISO 8601 durations or seconds;
``REDIS_URL`` and ``DATABASE_URL`` keep the names that platforms give them. A wrong value is refused at start, by name.
Bounds of the Zig data plane itself are in zigcore/src/limits.zig.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.functional_validators import BeforeValidator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIB = 2**20
_NUMBERS_MAX = 4096


def _numbers(text: object) -> object:
    """``"0,2-3"`` → (0, 2, 3), as the kernel writes CPU lists: not JSON, so that a shell can write them."""
    if not isinstance(text, str):
        return text
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first and not dash:
            continue
        try:
            end = int(last if dash else first)
            numbers += range(int(first), min(end, int(first) + _NUMBERS_MAX) + 1)
        except ValueError:
            raise ValueError(f"{part.strip()!r} is no number and no range; needed is a list like 0,2-3") from None
    if len(numbers) > _NUMBERS_MAX:
        raise ValueError(f"it has {len(numbers)} numbers or more, at most {_NUMBERS_MAX} are allowed")
    return tuple(numbers)


def _words(text: object) -> object:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


def _seconds(text: object) -> object:
    """``"2.5"`` → 2.5: seconds, beside the ISO 8601 durations that pydantic knows."""
    try:
        return float(text) if isinstance(text, str) else text
    except ValueError:
        return text


Duration = Annotated[timedelta, BeforeValidator(_seconds)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Numbers = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_numbers)]


class HostSettings(BaseSettings):
    """The gateway process. The supervisor gives all that has no default."""

    model_config = SettingsConfigDict(env_prefix="TAILCUT_", extra="ignore", frozen=True, populate_by_name=True)

    data_dir: Path = Path("var")
    log_dir: Path | None = None
    """Of ``functions.jsonl``; by default ``data_dir/log``."""

    # -- what is inherited -----------------------------------------------------------------------------------------
    listen_fds: Numbers
    """Listening sockets of the gateway's port, one per reactor."""
    reactor_cpus: Numbers
    """The shared CPUs, one per listening socket."""
    reserved_cpus: Numbers = ()
    """CPUs for workers of tenants with a reservation; none is shared."""
    admin_fd: int | None = None
    """Listening socket of the admin port."""
    ready_fd: int | None = None
    """Written once ("ready"), then closed: how the supervisor learns that this gateway serves."""
    zygote_path: str
    egress_path: str | None = None
    """Of the egress, which is asked for its counters."""
    supervisor_pid: int | None = None
    """Die with this process."""

    jail: Literal["on", "partial", "off"] = "on"
    """What the zygote is told, said in logs and by readyz: see gateway/zygote/settings.py."""

    # -- what is elsewhere -----------------------------------------------------------------------------------------
    redis_url: str | None = Field(default=None, validation_alias="REDIS_URL")
    """Without it the gateway serves the table on its disk."""
    bundle_store_url: str | None = None
    """file:///…, s3://bucket/prefix, …; bundles are named by their SHA-256. By default ``data_dir/bundles``."""
    problem_base_url: str = "http://127.0.0.1:8000/errors/"
    base_domain: str = ""
    gateway_url: str = "http://127.0.0.1:8080"
    """As clients reach it: the server in OpenAPI documents."""

    # -- the data plane --------------------------------------------------------------------------------------------
    connections_max: int = Field(default=4096, ge=1, le=4096)
    """Of one reactor."""
    body_bytes_max: int = Field(default=6 * MIB, ge=0, le=6 * MIB)
    header_timeout: Duration = timedelta(seconds=10)
    body_timeout: Duration = timedelta(seconds=30)
    idle_timeout: Duration = timedelta(seconds=75)
    write_timeout: Duration = timedelta(seconds=30)
    queue_timeout: Duration = timedelta(seconds=10)
    worker_idle_timeout: Duration = timedelta(seconds=60)
    self_check_timeout: Duration = timedelta(seconds=30)
    """For the first invocation, before connections are accepted; the zygote may be starting, too."""
    drain_timeout: Duration = timedelta(seconds=30)
    """From SIGTERM to the end of the gateway, whatever is still running then."""

    # -- the table and the versions --------------------------------------------------------------------------------
    table_poll_interval: Duration = timedelta(seconds=3)
    """How often the table is read although no message came."""
    table_older_patience: Duration = timedelta(seconds=30)
    """A table with a lower revision than ours is taken when Redis has offered nothing newer for this long."""
    table_max_age: Duration = timedelta(hours=72)
    """How long a node serves by a table that it could not confirm to be the newest, Redis or the control plane being
    away: a key that was revoked meanwhile works there for as long. Then calls are 503 until it can. 0: without end."""
    key_use_interval: Duration = Field(default=timedelta(seconds=20), gt=timedelta(0), le=timedelta(hours=1))
    """How often the control plane is told which keys callers came with; what ``kill -9`` loses of it."""
    redis_timeout: Duration = timedelta(seconds=5)
    redis_backoff_max: Duration = timedelta(seconds=5)
    fetches_max: int = Field(default=4, ge=1, le=64)
    """Bundles that are fetched and unpacked at once."""
    probes_max: int = Field(default=4, ge=1, le=64)
    """Versions whose first worker is being started at once."""
    probe_timeout: Duration = timedelta(seconds=40)
    """The data plane answers a probe earlier (start_timeout_ns of limits.zig); this is in case it does not."""
    retry_backoff_max: Duration = timedelta(seconds=60)
    """Between attempts to fetch or to start a version when the fault is ours."""
    version_keep: Duration = timedelta(minutes=10)
    """How long the files of a version that nothing refers to any more stay on disk."""
    version_index_rest: Duration = timedelta(minutes=30)
    """Before the index of a version that has gone names another one: longer than any worker of it may live."""
    reports_max: int = Field(default=10_000, ge=1)
    """Reports that wait for Redis; the oldest go first (they are made again at the next start)."""

    heartbeat_interval: Duration = timedelta(seconds=3)
    """How often operators' pages are told how this node is."""
    doctor_delay: Duration = timedelta(seconds=15)
    """After the start, before the machine is examined for them."""

    lease_ttl: Duration = timedelta(seconds=60)
    """How long a node spends what it leased of a quota while Redis does not answer; then such calls are refused."""

    # -- logs ------------------------------------------------------------------------------------------------------
    function_log_bytes_max: int = Field(default=64 * MIB, ge=MIB)
    """Of one file of ``functions.jsonl``; then it is renamed to ``.1``, and so on."""
    function_log_files_max: int = Field(default=4, ge=1, le=99)
    log_level: str = "info"

    @model_validator(mode="after")
    def _is_confirmed_in_time(self) -> Self:
        least = 3 * self.table_poll_interval
        if self.table_max_age and self.table_max_age < least:
            raise ValueError(
                f"TAILCUT_TABLE_MAX_AGE is {self.table_max_age.total_seconds():g} s; allowed are 0 (without end) and "
                f"{least.total_seconds():g} s (three times TAILCUT_TABLE_POLL_INTERVAL) or more"
            )
        return self

    @property
    def gateway_dir(self) -> Path:
        return self.data_dir / "gateway"

    @property
    def bundle_store(self) -> str:
        return self.bundle_store_url or (self.data_dir / "bundles").resolve().as_uri()

    @property
    def function_log_path(self) -> Path:
        return (self.log_dir or self.data_dir / "log") / "functions.jsonl"


class SupervisorSettings(BaseSettings):
    """``tailcut-server up``: the command line's options come first, then the environment."""

    model_config = SettingsConfigDict(env_prefix="TAILCUT_", extra="ignore", frozen=True, populate_by_name=True)

    data_dir: Path = Path("var")
    host: str = "127.0.0.1"
    gateway_port: int = Field(default=8080, ge=0, le=65535)
    """0: any free one, as for the other two."""
    control_plane_port: int = Field(default=8000, ge=0, le=65535)
    admin_port: int = Field(default=9090, ge=0, le=65535)
    cpus: Numbers = ()
    """Shared CPUs; empty: all that this process may run on."""
    reserved_cpus: Numbers = ()
    """CPUs that tenants with a CPU reservation may take. They are not shared for as long as the server runs, whether or
    not anybody uses them; empty: reservations are served best-effort, and answers say so."""
    redis_url: str | None = Field(default=None, validation_alias="REDIS_URL")
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    bundle_store_url: str | None = None
    operator_token: str | None = Field(default=None, repr=False)
    """The control plane's; by default it makes one, in ``data_dir/operator-token``."""
    stripe_api_key: str | None = Field(default=None, repr=False, validation_alias="STRIPE_API_KEY")
    """Without it a simulated Stripe is started, and purchases are simulated."""
    listen_backlog: int = Field(default=4096, ge=1)

    start_timeout: Duration = timedelta(seconds=90)
    """From the start to everything healthy."""
    stop_timeout: Duration = timedelta(seconds=40)
    """From SIGTERM to SIGKILL of a child; the gateway's drain_timeout is shorter."""
    restart_backoff_first: Duration = timedelta(milliseconds=100)
    restart_backoff_max: Duration = timedelta(seconds=10)
    restart_quiet: Duration = timedelta(seconds=30)
    """A child that lived this long starts again without a pause."""
    start_attempts_max: int = Field(default=3, ge=1)
    """Of a child that has never been healthy; then `up` gives up and shows why."""
    supervise: Words = ("valkey", "control-plane", "zygote", "egress", "gateway", "simulated-stripe")
    """The children that are started again when they die; for tests of what happens without one."""
    child_log_bytes_max: int = Field(default=16 * MIB, ge=MIB)
    child_log_files_max: int = Field(default=3, ge=1, le=99)


def environment() -> dict[str, str]:
    """What this process was given, for the children that may see all of it."""
    return dict(os.environ)


def bare_environment(prefix: str = "TAILCUT_JAIL") -> dict[str, str]:
    """The little that a zygote needs: nothing in it can be a secret, for tenants' code can read it."""
    kept = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH")
    return {name: value for name, value in os.environ.items() if name in kept or name.startswith(prefix)}
