"""The egress's settings: the only place in it that reads the environment. Read before rights are dropped.

Variables are named ``TAILCUT_EGRESS_`` and the field's name in capitals; lists are separated by commas.
"""

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.egress import policy
from gateway.settings import Duration, Numbers, Words

UID_DEFAULT = 0x6FFF_FFFF
"""Just below the workers' own (TAILCUT_JAIL_UID_MIN): nobody else's."""


class EgressSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TAILCUT_EGRESS_", extra="ignore", frozen=True, populate_by_name=True)

    listener_fd: int
    """The listening AF_UNIX SOCK_SEQPACKET socket on which zygotes hand over their workers' sockets."""
    ready_fd: int | None = Field(default=None, validation_alias="TAILCUT_READY_FD")
    problem_base_url: str = Field(default="http://127.0.0.1:8000/errors/", validation_alias="TAILCUT_PROBLEM_BASE_URL")
    host_uid: int = Field(default=UID_DEFAULT, ge=1, le=2**32 - 2)
    """Who it is on the host, when it is started by root."""

    # -- where to --------------------------------------------------------------------------------------------------
    ports: Numbers = (80, 443)
    allow: Words = ()
    """Networks that functions may reach although a built-in rule forbids it: ``10.1.0.0/16``; ``10.1.2.3:5432`` allows
    that port, too."""
    deny: Words = ()
    """Networks that no function may reach, whatever else is said."""
    own_hosts: Words = ()
    """Hosts of our own services on other machines, resolved at start and each minute; refused as ``own-address``."""

    # -- how much --------------------------------------------------------------------------------------------------
    connections_max: int = Field(default=4_096, ge=1, le=65_536)
    """Of all tenants together; one tenant has at most as many as are free. Twice as many descriptors are needed."""
    connections_per_tenant_max: int = Field(default=1_024, ge=1, le=65_536)
    accepts_per_s: int = Field(default=100, ge=1, le=100_000)
    """New connections of one tenant; more of them wait."""
    names_at_once_max: int = Field(default=4, ge=1, le=64)
    """Names of one tenant that are being resolved; each holds a thread for as long as a name server takes."""
    header_bytes_max: int = Field(default=16 * 1024, ge=1024, le=256 * 1024)
    header_timeout: Duration = timedelta(seconds=10)
    connect_timeout: Duration = timedelta(seconds=10)
    """Resolving the name included."""
    idle_timeout: Duration = timedelta(minutes=5)
    half_open_timeout: Duration = timedelta(seconds=30)
    """Idle time of a connection of which one side has said that nothing more comes."""

    @model_validator(mode="after")
    def _networks(self) -> Self:
        self.exemptions()
        self.denied()
        return self

    def exemptions(self) -> list[policy.Exemption]:
        return [policy.exemption(text) for text in self.allow]

    def denied(self) -> list[policy.Network]:
        return [policy.network(text) for text in self.deny]
