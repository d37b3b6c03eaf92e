"""Compares what we hold with what Stripe holds, and names every difference.

Called by ``python -m control_plane stripe-reconcile`` and the operator's pages. Looks, per tenant with a customer: tier
and status against the subscriptions, invoices against the invoices, and usage (usage_hourly = meter events = Stripe's
sums) hour by hour for the last 35 days. Changes nothing, except with ``repair``: then Stripe's state is copied.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.billing import repository
from control_plane.billing.events import keep_invoice
from control_plane.billing.metering import HOUR, PAST_MAX
from control_plane.billing.state import PAID, refresh
from control_plane.billing.stripe_client import Object, StripeClient
from control_plane.billing.stripe_sync import event_name
from control_plane.context import Context
from control_plane.models import Invoice, MeterEvent, Subscription, UsageHourly, now
from control_plane.tiers.catalog import METERS


@dataclass(frozen=True, slots=True)
class Difference:
    tenant_id: str
    what: str
    ours: str
    theirs: str


async def reconcile(context: Context, client: StripeClient, *, repair: bool = False) -> list[Difference]:
    found: list[Difference] = []
    async with context.reading() as session:
        held = await repository.subscriptions_with_customer(session)
        found += await _books(session)
        meters = {meter: await repository.find_meter(session, event_name(meter)) for meter in METERS}
    for subscription in held:
        customer_id = str(subscription.stripe_customer_id)
        theirs = await client.list_subscriptions(customer_id)
        invoices = await client.list_invoices(customer_id)
        async with context.reading() as session:
            differences = await _subscription(session, subscription, theirs)
            differences += await _invoices(session, subscription, invoices)
        for meter, meter_id in meters.items():
            if meter_id is not None:
                differences += await _usage(context, client, subscription, meter, meter_id)
        found += differences
        if repair and differences:
            await refresh(context, client, customer_id)
            async with context.writing() as session:
                for invoice in invoices:
                    await keep_invoice(session, subscription.tenant_id, invoice)
    return found


async def _subscription(session: AsyncSession, held: Subscription, theirs: list[Object]) -> list[Difference]:
    live = sorted((each for each in theirs if each["status"] in PAID), key=lambda each: each["created"], reverse=True)
    found = []
    expected = live[0]["id"] if live else None
    ours = held.stripe_subscription_id if held.status != "unpaid" or live else None
    if ours != expected:
        found.append(Difference(held.tenant_id, "subscription", str(ours), str(expected)))
    if len(live) > 1:
        ids = ", ".join(each["id"] for each in live)
        found.append(Difference(held.tenant_id, "subscriptions of one customer", "1", f"{len(live)}: {ids}"))
    if live:
        status = "past_due" if live[0]["status"] == "past_due" else "active"
        if held.status != status and not (held.status == "unpaid" and status == "past_due"):
            found.append(Difference(held.tenant_id, "status", held.status, live[0]["status"]))
        if held.status != "unpaid":
            sold = [await repository.find_price(session, item["price"]["id"]) for item in live[0]["items"]["data"]]
            versions = [price.version_id for price in sold if price is not None and price.role == "tier"]
            if versions != [held.tier_version_id]:
                found.append(
                    Difference(held.tenant_id, "tier version", held.tier_version_id, ", ".join(map(str, versions)))
                )
    return found


async def _invoices(session: AsyncSession, held: Subscription, theirs: list[Object]) -> list[Difference]:
    rows = (await session.scalars(select(Invoice).where(Invoice.tenant_id == held.tenant_id))).all()
    ours = {row.stripe_id: f"{row.status} {row.total_minor} {row.currency}" for row in rows}
    expected = {each["id"]: f"{each['status']} {each['total']} {each['currency']}" for each in theirs}
    return [
        Difference(held.tenant_id, f"invoice {key}", ours.get(key, "none"), expected.get(key, "none"))
        for key in sorted(ours.keys() | expected.keys())
        if ours.get(key) != expected.get(key)
    ]


async def _usage(
    context: Context, client: StripeClient, held: Subscription, meter: str, meter_id: str
) -> list[Difference]:
    """One sum for the whole time first; hour by hour only where it differs."""
    end = now().replace(minute=0, second=0, microsecond=0) + HOUR
    start = end - PAST_MAX
    customer_id = str(held.stripe_customer_id)

    async def theirs(begin: datetime, until: datetime) -> int:
        return await client.meter_total(meter_id, customer_id, int(begin.timestamp()), int(until.timestamp()))

    async with context.reading() as session:
        by_hour = await repository.acknowledged_by_hour(session, held.tenant_id, start)
    ours = {hour: value for (name, hour), value in by_hour.items() if name == meter}
    if await theirs(start, end) == sum(ours.values()):
        return []
    found = []
    for number in range(int((end - start) / HOUR)):
        hour = start + number * HOUR
        counted = await theirs(hour, hour + HOUR)
        if counted != ours.get(hour, 0):
            what = f"{meter} of {hour.isoformat()}"
            found.append(Difference(held.tenant_id, what, str(ours.get(hour, 0)), str(counted)))
    return found


async def _books(session: AsyncSession) -> list[Difference]:
    """Inside our own books: closed usage equals the meter events made of it; none is stuck."""
    columns = {"invocations": UsageHourly.invocations, "cpu-ms": UsageHourly.cpu_us, "mib-s": UsageHourly.mib_us}
    used: dict[tuple[str, str], int] = defaultdict(int)
    told: dict[tuple[str, str], int] = {}
    rows: Any = await session.execute(
        select(MeterEvent.tenant_id, MeterEvent.meter, func.sum(MeterEvent.raw)).group_by(
            MeterEvent.tenant_id, MeterEvent.meter
        )
    )
    for tenant_id, meter, raw in rows.all():
        told[tenant_id, meter] = int(raw)
    events = select(MeterEvent.tenant_id, MeterEvent.hour, MeterEvent.revision).distinct().subquery()
    for meter, column in columns.items():
        rows = await session.execute(
            select(UsageHourly.tenant_id, func.sum(column))
            .join(
                events,
                (events.c.tenant_id == UsageHourly.tenant_id)
                & (events.c.hour == UsageHourly.hour)
                & (events.c.revision == UsageHourly.revision),
            )
            .group_by(UsageHourly.tenant_id)
        )
        for tenant_id, raw in rows.all():
            used[tenant_id, meter] = int(raw)
    found = [
        Difference(tenant_id, f"{meter} in usage and in meter events", str(used[tenant_id, meter]), str(raw))
        for (tenant_id, meter), raw in sorted(told.items())
        if used[tenant_id, meter] != raw
    ]
    stuck = select(MeterEvent).where(
        MeterEvent.state.in_(("ambiguous", "refused"))
        | (MeterEvent.state.in_(("new", "sending")) & (MeterEvent.hour < now() - timedelta(days=1)))
    )
    found += [
        Difference(
            event.tenant_id, f"meter event {event.identifier}", f"{event.value} {event.state}", event.error or ""
        )
        for event in (await session.scalars(stuck)).all()
    ]
    return found
