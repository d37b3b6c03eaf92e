"""What operators see and do over all tenants. Called by the endpoints and by the pages under /admin.

What always holds: a change and its entry in the operators' log are one transaction; being an operator is given and
taken on the machine alone (``commands``), by nobody over HTTP.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit import service as audit
from control_plane.auth import repository as auth
from control_plane.auth.principal import Actor
from control_plane.billing import reconciling
from control_plane.billing import repository as billing
from control_plane.context import Context
from control_plane.functions import repository as functions
from control_plane.members import repository as members
from control_plane.members.schemas import MemberOut
from control_plane.models import Person, Reconciliation, Tenant, now
from control_plane.operators import repository
from control_plane.operators.nodes import NodesUnknown, calls_by_tenant, list_nodes
from control_plane.operators.schemas import (
    Day,
    DeadLetterOut,
    FunctionRow,
    NodeLag,
    NodeOut,
    OperatorEntryOut,
    StatusSet,
    StreamOut,
    TenantDetail,
    TenantRow,
    Usage,
    UsageLag,
)
from control_plane.outbox import repository as outbox
from control_plane.pagination import Page, PageRequest
from control_plane.people import repository as people
from control_plane.people import service as people_service
from control_plane.problems import Problem
from control_plane.tenants import service as tenants
from control_plane.tiers.periods import period_of

DAYS: Final = 30
_FUNCTIONS_SHOWN_MAX: Final = 200
_MEMBERS_SHOWN_MAX: Final = 100
_ENTRIES_SHOWN_MAX: Final = 20
_STREAMS_SHOWN_MAX: Final = 100
_LETTERS_SHOWN_MAX: Final = 50


# -- Who is an operator -----------------------------------------------------------------------------------------------


async def add_operator(session: AsyncSession, actor: Actor, email: str) -> Person:
    """Somebody unknown becomes a person without a password: a reset by mail sets one. Twice is no error."""
    person = await people.find_person(session, email)
    if person is None:
        person = people_service.new_person(email, "", None)
        session.add(person)
        await session.flush()
    if await repository.set_operator(session, person.id, now()):
        audit.record_operator(session, actor, "operator.added", email)
    await session.refresh(person)
    return person


async def remove_operator(session: AsyncSession, actor: Actor, email: str) -> None:
    """At once: every request asks. Sessions end, so that no page stays open."""
    person = await people.find_person(session, email)
    if person is None or not await repository.set_operator(session, person.id, None):
        raise Problem("not-found", f"{email} is no operator.")
    await auth.delete_sessions(session, person.id, but=None)
    audit.record_operator(session, actor, "operator.removed", email)
    await session.refresh(person)
    await people.delete_if_alone(session, person.id)


# -- Nodes ------------------------------------------------------------------------------------------------------------


async def nodes(context: Context, redis: Redis | None) -> list[NodeOut]:
    """Raises NodesUnknown."""
    async with context.reading() as session:
        revision = await outbox.current_revision(session)
    return await list_nodes(redis, revision)


async def usage_lag(context: Context, redis: Redis | None) -> UsageLag:
    """How far the books are behind the journals. With Redis away no node is heard, and there are none in the answer."""
    try:
        heard = await nodes(context, redis)
    except NodesUnknown:
        heard = []
    async with context.reading() as session:
        streams = await repository.recent_streams(session, _STREAMS_SHOWN_MAX)
        count, letters = await repository.dead_letters(session, _LETTERS_SHOWN_MAX)
    return UsageLag(
        nodes=[
            NodeLag(
                node=each.node,
                host=each.state.host,
                unbooked_bytes=each.state.journal.unbooked_bytes,
                full=each.state.journal.full,
            )
            for each in heard
            if not each.gone and each.state.journal is not None
        ],
        streams=[
            StreamOut(
                stream=each.stream,
                node=f"node-{each.stream[:8]}",
                segment=each.segment,
                offset=each.offset,
                booked_at=each.updated_at,
            )
            for each in streams
        ],
        dead_letters_count=count,
        dead_letters=[
            DeadLetterOut(
                stream=each.stream,
                segment=each.segment,
                offset=each.offset,
                reason=each.reason,
                noted_at=each.noted_at,
            )
            for each in letters
        ],
    )


async def _calls(context: Context, redis: Redis | None) -> dict[str, float]:
    try:
        return calls_by_tenant(await nodes(context, redis))
    except NodesUnknown:
        return {}  # the overview says so


# -- Tenants ----------------------------------------------------------------------------------------------------------


async def search(
    context: Context, redis: Redis | None, page: PageRequest, *, text: str = "", status: str = "", tier: str = ""
) -> Page[TenantRow]:
    calls = await _calls(context, redis)
    async with context.reading() as session:
        found = await repository.search_tenants(session, page, text=text, status=status, tier=tier)
        rows = await _rows(session, found.items, calls)
    return Page(rows, found.next_cursor)


async def detail(context: Context, redis: Redis | None, tenant_id: str) -> TenantDetail:
    calls = await _calls(context, redis)
    async with context.reading() as session:
        tenant = await tenants.require_tenant(session, tenant_id)
        [row] = await _rows(session, [tenant], calls)
        held = (await repository.subscriptions_of(session, [tenant_id])).get(tenant_id)
        subscription = held[0] if held else None
        found = await repository.functions_of(session, tenant_id, _FUNCTIONS_SHOWN_MAX)
        latest = await functions.latest_versions(session, tenant_id, [each.id for each in found])
        shown = PageRequest(limit=_ENTRIES_SHOWN_MAX, after=None)
        entries = await repository.list_entries(session, shown, about_tenant_id=tenant_id)
        first_day = now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1)
        return TenantDetail(
            **row.model_dump(),
            members=await _members(session, tenant_id),
            functions=[
                FunctionRow(
                    name=each.name,
                    public=each.public,
                    version=latest[each.id].id if each.id in latest else None,
                    status=latest[each.id].status if each.id in latest else None,
                    deployed_at=latest[each.id].created_at if each.id in latest else None,
                )
                for each in found
            ],
            keys_count=await repository.count_keys(session, tenant_id),
            days=_days(await repository.hours_of(session, tenant_id, first_day)),
            customer=subscription.stripe_customer_id if subscription else None,
            note=subscription.note if subscription else None,
            overrides=subscription.overrides if subscription else {},
            entries=[OperatorEntryOut.of(entry) for entry in entries.items],
        )


async def set_status(session: AsyncSession, actor: Actor, tenant_id: str, request: StatusSet) -> Tenant:
    """Gateways refuse the tenant's calls from the next table on, and end its workers."""
    return await tenants.set_status(session, actor, tenant_id, request.status, request.reason)


async def _rows(session: AsyncSession, found: Sequence[Tenant], calls: dict[str, float]) -> list[TenantRow]:
    ids = [tenant.id for tenant in found]
    held = await repository.subscriptions_of(session, ids)
    at = now()
    starts = {tenant_id: period_of(subscription, at).start for tenant_id, (subscription, _) in held.items()}
    used = await repository.usage_since(session, starts)
    counts = await repository.members_counts(session, ids)
    deploys = await repository.last_deploys(session, ids)
    rows = []
    for tenant in found:
        subscription, version = held.get(tenant.id, (None, None))
        rows.append(
            TenantRow.model_validate(
                {
                    "id": tenant.id,
                    "name": tenant.name,
                    "status": tenant.status,
                    "status_reason": tenant.status_reason,
                    "status_at": tenant.status_at,
                    "created_at": tenant.created_at,
                    "tier": version.tier if version else "none",
                    "billing": subscription.status if subscription else "none",
                    "members_count": counts.get(tenant.id, 0),
                    "last_deploy_at": deploys.get(tenant.id),
                    "period_start": starts.get(tenant.id, tenant.created_at),
                    "usage": used.get(tenant.id, Usage()),
                    "calls_per_s": round(calls.get(tenant.name, 0.0), 2),
                }
            )
        )
    return rows


async def _members(session: AsyncSession, tenant_id: str) -> list[MemberOut]:
    page = await members.list_members(session, tenant_id, PageRequest(limit=_MEMBERS_SHOWN_MAX, after=None))
    found = await members.people_of(session, tenant_id, page.items)
    return [MemberOut.of(member, found[member.person_id]) for member in page.items]


def _days(hours: Sequence[tuple[datetime, int, int]]) -> list[Day]:
    sums: defaultdict[datetime, list[int]] = defaultdict(lambda: [0, 0])
    for hour, invocations, errors in hours:
        day = hour.astimezone(UTC).replace(hour=0)
        sums[day][0] += invocations
        sums[day][1] += errors
    return [Day(day=day, invocations=counts[0], errors=counts[1]) for day, counts in sorted(sums.items())]


# -- Money ------------------------------------------------------------------------------------------------------------


async def replay_webhooks(context: Context, actor: Actor, event_ids: Sequence[str] | None) -> int:
    async with context.writing() as session:
        count = await billing.replay_events(session, event_ids, now())
        if event_ids and not count:
            raise Problem("not-found", f"There is no webhook {event_ids[0][:100]!r}.")
        named = ", ".join(event_ids) if event_ids else "all that failed"
        audit.record_operator(session, actor, "webhooks.replayed", named, count=count)
    context.billing_bell.set()
    return count


async def ask_reconciliation(context: Context, actor: Actor) -> Reconciliation:
    if context.stripe is None:
        raise Problem("conflict", "There is no Stripe to compare with: STRIPE_API_KEY is not set.")
    async with context.writing() as session:
        row = await reconciling.ask(session, actor.label)
        audit.record_operator(session, actor, "reconciliation.asked", row.id)
    context.reconcile_bell.set()
    return row
