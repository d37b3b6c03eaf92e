"""What operators see, as JSON; the pages show the same."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from control_plane.audit.schemas import AuditActor
from control_plane.billing.schemas import BillingHealth
from control_plane.members.schemas import MemberOut
from control_plane.models import OperatorEntry, Person, Reconciliation, StripeEvent
from control_plane.tenants.schemas import Status
from gateway.contract.node import NodeState

Tone = Literal["good", "warn", "bad", "idle"]
Text = Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]


class NodeOut(BaseModel):
    node: str
    gone: bool
    """It has not been heard of for so long that it is believed dead."""
    seen_at: datetime
    """Of its last word."""
    behind: bool
    """It serves an older table than there is."""
    state: NodeState


class NodeList(BaseModel):
    items: list[NodeOut]


class Usage(BaseModel):
    invocations: int = 0
    errors: int = 0
    cpu_us: int = 0
    mib_us: int = 0


class TenantRow(BaseModel):
    id: str
    name: str
    status: Status
    status_reason: str
    status_at: datetime | None
    created_at: datetime
    tier: str
    billing: str
    """Of the subscription: active, past_due, unpaid, canceled"""
    members_count: int
    last_deploy_at: datetime | None
    period_start: datetime
    usage: Usage
    """Since ``period_start``, as far as it is booked."""
    calls_per_s: float
    """Now, over all nodes, refused ones included."""


class TenantRowPage(BaseModel):
    items: list[TenantRow]
    next_cursor: str | None


class FunctionRow(BaseModel):
    name: str
    public: bool
    version: str | None
    """The newest."""
    status: str | None
    deployed_at: datetime | None


class Day(BaseModel):
    day: datetime
    invocations: int
    errors: int


class TenantDetail(TenantRow):
    members: list[MemberOut]
    functions: list[FunctionRow]
    keys_count: int
    days: list[Day]
    """The last 30, without those on which nothing was called."""
    customer: str | None
    """Stripe's id of it."""
    note: str | None
    overrides: dict[str, Any]
    entries: list["OperatorEntryOut"]
    """What operators did to it, the newest first."""


class StatusSet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    status: Literal["active", "suspended"]
    reason: Annotated[Text, Field(min_length=3)]
    """The tenant's members read it."""


class OperatorOut(BaseModel):
    person_id: str
    email: str
    name: str
    since: datetime
    second_factor: bool

    @classmethod
    def of(cls, person: Person) -> "OperatorOut":
        return cls(
            person_id=person.id,
            email=person.email,
            name=person.name,
            since=person.operator_since or person.created_at,
            second_factor=person.totp_confirmed_at is not None,
        )


class OperatorList(BaseModel):
    items: list[OperatorOut]


class OperatorEntryOut(BaseModel):
    id: str
    at: datetime
    actor: AuditActor
    action: str
    subject: str
    tenant_id: str | None
    details: dict[str, Any]
    address: str
    request_id: str

    @classmethod
    def of(cls, entry: OperatorEntry) -> "OperatorEntryOut":
        return cls(
            id=entry.id,
            at=entry.at,
            actor=AuditActor(id=entry.actor_id, label=entry.actor),
            action=entry.action,
            subject=entry.subject,
            tenant_id=entry.about_tenant_id,
            details=entry.details,
            address=entry.address,
            request_id=entry.request_id,
        )


class OperatorEntryPage(BaseModel):
    items: list[OperatorEntryOut]
    next_cursor: str | None


class WebhookOut(BaseModel):
    id: str
    type: str
    state: Literal["stored", "handled", "ignored", "failed"]
    attempts: int
    error: str | None
    received_at: datetime
    handled_at: datetime | None

    @classmethod
    def of(cls, row: StripeEvent) -> "WebhookOut":
        return cls.model_validate({name: getattr(row, name) for name in cls.model_fields})


class WebhookList(BaseModel):
    items: list[WebhookOut]
    counts: dict[str, int]
    """By state, of all."""


class Replay(BaseModel):
    model_config = ConfigDict(extra="forbid")
    events: Annotated[list[Annotated[str, Field(max_length=255)]], Field(max_length=100)] | None = None
    """Their ids; absent: all that failed."""


class Replayed(BaseModel):
    count: int
    """Will be handled again."""


class StreamOut(BaseModel):
    """One reactor's journal, as far as it is booked."""

    stream: str
    """Node and start in hexadecimal, then the reactor."""
    node: str
    segment: int
    offset: int
    booked_at: datetime
    """When something of it was last booked."""


class DeadLetterOut(BaseModel):
    stream: str
    segment: int
    offset: int
    reason: str
    noted_at: datetime


class NodeLag(BaseModel):
    node: str
    host: str
    unbooked_bytes: int
    """In its journal and not in the books, by its own word."""
    full: bool


class UsageLag(BaseModel):
    nodes: list[NodeLag]
    """Those that live."""
    streams: list[StreamOut]
    """The last 100, by when they were booked."""
    dead_letters_count: int
    dead_letters: list[DeadLetterOut]
    """The newest 50: records that could not be booked."""


class DifferenceOut(BaseModel):
    tenant_id: str
    what: str
    ours: str
    theirs: str


class ReconciliationOut(BaseModel):
    id: str
    state: Literal["waiting", "running", "done", "failed"]
    asked_by: str
    asked_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    differences: list[DifferenceOut]
    """The first 500."""
    differences_count: int
    error: str | None

    @classmethod
    def of(cls, row: Reconciliation) -> "ReconciliationOut":
        if row.ended_at is not None:
            state = "failed" if row.error else "done"
        else:
            state = "running" if row.started_at else "waiting"
        fields = {name: getattr(row, name) for name in cls.model_fields if name != "state"}
        return cls.model_validate({**fields, "state": state})


class ReconciliationPage(BaseModel):
    items: list[ReconciliationOut]
    next_cursor: str | None


class Check(BaseModel):
    """One thing that is well or is not; ``command`` and ``runbook`` are for the person who must act."""

    id: str
    title: str
    tone: Tone
    value: str
    detail: str = ""
    command: str = ""
    runbook: str = ""
    """The heading of docs/RUNBOOK.md, as an anchor."""


class Overview(BaseModel):
    at: datetime
    nodes_up: int
    nodes_gone: int
    tenants: dict[str, int]
    """By status."""
    calls_per_s: float
    refused_per_s: float
    failed_per_s: float
    queue_length: int
    workers: dict[str, int]
    revision: int
    """Of the newest table."""
    checks: list[Check]
    billing: BillingHealth


class Setting(BaseModel):
    name: str
    """Of the environment variable."""
    value: str
    """Secrets are not shown."""
    is_default: bool
    about: str


class SettingList(BaseModel):
    items: list[Setting]
