"""Functions, versions and aliases as JSON."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from control_plane import ids
from control_plane.models import Version
from gateway.contract.table import Limits, Name
from gateway.contract.worker import State

Status = Literal["preparing", "ready", "failed"]
Style = Literal["typed", "request", "event"]


class StartErrorOut(BaseModel):
    """Why a version could not be started."""

    type: str
    message: str
    traceback: str


class VersionOut(BaseModel):
    id: str
    function: str
    sha256: str
    bundle_bytes: int
    handler: str
    status: Status
    style: Style | None
    """Known once a worker was ready."""
    state: State | None
    """What an invocation finds in memory, as the workers really do it; ``limits.state`` is what was asked for."""
    state_reason: str
    """Why the two differ; empty: they do not."""
    error: StartErrorOut | None
    start_us: int | None
    """From the spawn request to ready, as the node measured it."""
    limits: Limits
    lock: list[str]
    aliases: list[str]
    """That point to this version now."""
    deployed_by: str
    """An e-mail address or a key's name; empty: it was not kept then."""
    created_at: datetime

    @classmethod
    def of(cls, version: Version, function: str, aliases: list[str]) -> "VersionOut":
        error = None
        if version.status == "failed":
            error = StartErrorOut(
                type=version.error_type or "",
                message=version.error_message or "",
                traceback=version.error_traceback or "",
            )
        return cls.model_validate(
            {
                "id": version.id,
                "function": function,
                "sha256": version.sha256,
                "bundle_bytes": version.bundle_bytes,
                "handler": version.handler,
                "status": version.status,
                "style": version.style,
                "state": version.state,
                "state_reason": version.state_reason or "",
                "error": error,
                "start_us": version.start_us,
                "limits": version.limits,
                "lock": version.lock,
                "aliases": sorted(aliases),
                "deployed_by": version.deployed_by or "",
                "created_at": version.created_at,
            }
        )


class VersionPage(BaseModel):
    items: list[VersionOut]
    next_cursor: str | None


class AliasOut(BaseModel):
    function: str
    alias: str
    version: str
    status: Status
    """Of the version: gateways serve it once it is ready, and the one before until then."""
    url: str
    updated_at: datetime


class AliasSet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: Annotated[str, Field(pattern=ids.pattern("ver"))]


class FunctionOut(BaseModel):
    id: str
    name: str
    public: bool
    url: str
    aliases: dict[str, str]
    """Alias → id of a version"""
    latest: VersionOut | None
    """The newest version; its ``status`` and ``error`` tell how the last deploy went."""
    created_at: datetime


class FunctionPage(BaseModel):
    items: list[FunctionOut]
    next_cursor: str | None


class FunctionPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    public: bool


class DeployFields(BaseModel):
    """The form fields beside the archive."""

    model_config = ConfigDict(extra="forbid")
    public: bool | None = None
    """Absent: as it was; a new function is private."""
    alias: Name = "live"


class Deployed(BaseModel):
    function: str
    function_id: str
    version: str
    sha256: str
    alias: str
    status: Status
    url: str
    public: bool
    created_at: datetime


class RolledBack(BaseModel):
    function: str
    alias: str
    version: str
    previous: str
    """The version that was left."""
    url: str
