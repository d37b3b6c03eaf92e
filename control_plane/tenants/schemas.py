"""Tenants as JSON."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from control_plane.auth.schemas import KeyCreated
from gateway.contract.table import Name


class TenantCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    tier: Name = "free"
    """One of the catalogue's; an operator may give one that is not sold."""
    concurrency_max: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Absent: the tier's."""


class TenantOut(BaseModel):
    id: str
    name: str
    tier: str
    concurrency_max: int
    """Invocations that may be in a gateway at once, running or queued."""
    created_at: datetime


class TenantCreated(TenantOut):
    key: KeyCreated
    """The first key, with every scope."""


class CallerOut(BaseModel):
    """Which key is calling."""

    key_id: str
    scopes: list[Literal["deploy", "invoke", "read", "admin"]]


class TenantWithCaller(TenantOut):
    caller: CallerOut
