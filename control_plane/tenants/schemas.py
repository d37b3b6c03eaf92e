"""Tenants as JSON."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from control_plane.auth.permissions import Permission, Role
from control_plane.auth.schemas import KeyCreated
from control_plane.people.schemas import Email, Password
from gateway.contract.table import Name

Status = Literal["active", "suspended", "deleting", "deleted"]


class TenantCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    tier: Name = "free"
    """One of the catalogue's; an operator may give one that is not sold."""
    concurrency_max: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Absent: the tier's."""
    owner_email: Email | None = None
    """Who is invited to own it."""


class OwnTenantCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name


class TenantOut(BaseModel):
    id: str
    name: str
    tier: str
    concurrency_max: int
    """Invocations that may be in a gateway at once, running or queued."""
    created_at: datetime
    status: Status
    status_reason: str
    status_at: datetime | None


class TenantPage(BaseModel):
    items: list[TenantOut]
    next_cursor: str | None


class TenantCreated(TenantOut):
    key: KeyCreated
    """The first key, with every scope."""


class StatusPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    status: Literal["active", "suspended"]
    reason: Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    """The tenant's members read it."""


class TenantDeletion(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    """The tenant's, typed once more."""
    password: Password
    """Of the owner who deletes it."""


class SignInLinkCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    email: Email
    """Of a member; somebody who is none becomes an owner."""


class SignInLink(BaseModel):
    url: str
    """Signs in once, within an hour."""


class CallerOut(BaseModel):
    """Who is calling: a key, or a person."""

    key_id: str | None
    scopes: list[Literal["deploy", "invoke", "read", "admin"]]
    person_id: str | None
    role: Role | None
    permissions: list[Permission]


class TenantWithCaller(TenantOut):
    caller: CallerOut
