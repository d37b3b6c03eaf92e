"""Queries about purchases, events, meter events, invoices and spend caps. Those for endpoints filter by tenant."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import insert_into
from control_plane.models import (
    BillingNote,
    BillingTurn,
    Invoice,
    MeterEvent,
    Purchase,
    Reconciliation,
    SpendCap,
    StripeEvent,
    StripeObject,
    Subscription,
)
from control_plane.pagination import Page, PageRequest, fetch_page

# -- spend caps --------------------------------------------------------------------------------------------------------


async def all_spend_caps(session: AsyncSession) -> Sequence[SpendCap]:
    """For the routing table."""
    return (await session.scalars(select(SpendCap))).all()


async def list_spend_caps(session: AsyncSession, tenant_id: str) -> Sequence[SpendCap]:
    query = select(SpendCap).where(SpendCap.tenant_id == tenant_id).order_by(SpendCap.function)
    return (await session.scalars(query)).all()


async def find_spend_cap(session: AsyncSession, tenant_id: str, function: str) -> SpendCap | None:
    return await session.scalar(select(SpendCap).where(SpendCap.tenant_id == tenant_id, SpendCap.function == function))


async def delete_spend_cap(session: AsyncSession, tenant_id: str, function: str) -> None:
    await session.execute(delete(SpendCap).where(SpendCap.tenant_id == tenant_id, SpendCap.function == function))


# -- what is in Stripe -------------------------------------------------------------------------------------------------


async def stripe_objects(session: AsyncSession) -> Sequence[StripeObject]:
    return (await session.scalars(select(StripeObject))).all()


async def prices_of(session: AsyncSession, version_id: str) -> Sequence[StripeObject]:
    query = select(StripeObject).where(StripeObject.version_id == version_id, StripeObject.kind == "price")
    return (await session.scalars(query)).all()


async def find_price(session: AsyncSession, stripe_id: str) -> StripeObject | None:
    query = select(StripeObject).where(StripeObject.stripe_id == stripe_id, StripeObject.kind == "price")
    return await session.scalar(query)


async def find_meter(session: AsyncSession, name: str) -> str | None:
    """→ Stripe's id"""
    return await session.scalar(
        select(StripeObject.stripe_id).where(StripeObject.name == name, StripeObject.kind == "meter")
    )


async def find_subscription_of_customer(session: AsyncSession, customer_id: str) -> Subscription | None:
    """Webhooks name the customer, not the tenant."""
    return await session.scalar(select(Subscription).where(Subscription.stripe_customer_id == customer_id))


async def subscriptions_with_customer(session: AsyncSession) -> Sequence[Subscription]:
    query = select(Subscription).where(Subscription.stripe_customer_id.is_not(None)).order_by(Subscription.tenant_id)
    return (await session.scalars(query)).all()


async def overdue_subscriptions(session: AsyncSession, since_before: datetime) -> Sequence[Subscription]:
    query = select(Subscription).where(Subscription.status == "past_due", Subscription.past_due_since < since_before)
    return (await session.scalars(query)).all()


async def claim_sync(session: AsyncSession, tenant_id: str, number: int) -> bool:
    """Whether nobody has copied Stripe's state since ``number`` was read."""
    query = (
        update(Subscription)
        .where(Subscription.tenant_id == tenant_id, Subscription.sync_number == number)
        .values(sync_number=number + 1)
        .returning(Subscription.tenant_id)
        .execution_options(synchronize_session="fetch")
    )
    return (await session.scalars(query)).one_or_none() is not None


# -- turns -------------------------------------------------------------------------------------------------------------


async def take_turn(session: AsyncSession, tenant_id: str, holder: str, at: datetime, until: datetime) -> bool:
    """Begin one, or move the end of one's own. False: it is somebody else's."""
    query = (
        insert_into(session, BillingTurn)
        .values(tenant_id=tenant_id, holder=holder, until=until)
        .on_conflict_do_update(
            index_elements=[BillingTurn.tenant_id],
            set_={"holder": holder, "until": until},
            where=(BillingTurn.until < at) | (BillingTurn.holder == holder),
        )
        .returning(BillingTurn.holder)
    )
    return (await session.scalars(query)).one_or_none() is not None


async def end_turn(session: AsyncSession, tenant_id: str, holder: str) -> None:
    await session.execute(delete(BillingTurn).where(BillingTurn.tenant_id == tenant_id, BillingTurn.holder == holder))


# -- purchases ---------------------------------------------------------------------------------------------------------


async def open_purchases(session: AsyncSession, tenant_id: str) -> Sequence[Purchase]:
    query = select(Purchase).where(Purchase.tenant_id == tenant_id, Purchase.state.in_(("started", "offered")))
    return (await session.scalars(query)).all()


async def all_offered(session: AsyncSession) -> Sequence[Purchase]:
    return (await session.scalars(select(Purchase).where(Purchase.state == "offered"))).all()


async def find_purchase_by_session(session: AsyncSession, stripe_session_id: str) -> Purchase | None:
    return await session.scalar(select(Purchase).where(Purchase.stripe_session_id == stripe_session_id))


# -- events ------------------------------------------------------------------------------------------------------------


async def store_event(session: AsyncSession, event: StripeEvent) -> bool:
    """False: it is there already."""
    values = {column.key: getattr(event, column.key) for column in StripeEvent.__table__.columns}
    query = insert_into(session, StripeEvent).values(**values).on_conflict_do_nothing().returning(StripeEvent.id)
    return (await session.scalars(query)).one_or_none() is not None


async def due_events(session: AsyncSession, at: datetime, count_max: int) -> Sequence[StripeEvent]:
    query = (
        select(StripeEvent)
        .where(StripeEvent.state == "stored", StripeEvent.retry_at <= at)
        .order_by(StripeEvent.received_at, StripeEvent.id)
        .limit(count_max)
    )
    return (await session.scalars(query)).all()


async def finish_event(session: AsyncSession, event_id: str, state: str, at: datetime) -> bool:
    """False: somebody else has finished it meanwhile; the caller undoes its transaction."""
    query = (
        update(StripeEvent)
        .where(StripeEvent.id == event_id, StripeEvent.state == "stored")
        .values(state=state, handled_at=at, attempts=StripeEvent.attempts + 1, error=None)
        .returning(StripeEvent.id)
        .execution_options(synchronize_session=False)
    )
    return (await session.scalars(query)).one_or_none() is not None


async def postpone_event(session: AsyncSession, event_id: str, error: str, retry_at: datetime) -> None:
    await session.execute(
        update(StripeEvent)
        .where(StripeEvent.id == event_id, StripeEvent.state == "stored")
        .values(attempts=StripeEvent.attempts + 1, error=error, retry_at=retry_at)
    )


async def fail_event(session: AsyncSession, event_id: str, error: str) -> None:
    await session.execute(
        update(StripeEvent)
        .where(StripeEvent.id == event_id, StripeEvent.state == "stored")
        .values(state="failed", attempts=StripeEvent.attempts + 1, error=error)
    )


async def replay_events(session: AsyncSession, event_ids: Sequence[str] | None, at: datetime) -> int:
    """Those (or all that failed) are handled once more. → how many"""
    wanted = StripeEvent.id.in_(event_ids) if event_ids is not None else StripeEvent.state == "failed"
    query = update(StripeEvent).where(wanted).values(state="stored", retry_at=at).returning(StripeEvent.id)
    return len((await session.scalars(query)).all())


async def event_counts(session: AsyncSession) -> dict[str, int]:
    rows = await session.execute(select(StripeEvent.state, func.count()).group_by(StripeEvent.state))
    return {row[0]: row[1] for row in rows.all()}


# -- invoices and notes ------------------------------------------------------------------------------------------------


async def list_invoices(session: AsyncSession, tenant_id: str, page: PageRequest) -> Page[Invoice]:
    return await fetch_page(
        session, select(Invoice).where(Invoice.tenant_id == tenant_id), Invoice.id, page, descending=True
    )


async def notes_of(session: AsyncSession, tenant_id: str, count_max: int) -> Sequence[BillingNote]:
    """The newest first."""
    query = select(BillingNote).where(BillingNote.tenant_id == tenant_id).order_by(BillingNote.created_at.desc())
    return (await session.scalars(query.limit(count_max))).all()


async def open_invoices(session: AsyncSession, tenant_id: str) -> Sequence[Invoice]:
    query = select(Invoice).where(Invoice.tenant_id == tenant_id, Invoice.status == "open").order_by(Invoice.id)
    return (await session.scalars(query)).all()


async def get_note(session: AsyncSession, stripe_id: str) -> BillingNote | None:
    return await session.get(BillingNote, stripe_id)


# -- meter events ------------------------------------------------------------------------------------------------------


async def due_meter_events(session: AsyncSession, count_max: int, tenant_id: str | None = None) -> Sequence[MeterEvent]:
    """The oldest first: those to send, and those of which the answer was lost; of one tenant, or of all."""
    query = (
        select(MeterEvent)
        .where(MeterEvent.state.in_(("new", "sending")))
        .order_by(MeterEvent.hour, MeterEvent.identifier)
        .limit(count_max)
    )
    if tenant_id is not None:
        query = query.where(MeterEvent.tenant_id == tenant_id)
    return (await session.scalars(query)).all()


async def acknowledged_value(session: AsyncSession, tenant_id: str, meter: str, hour: datetime) -> int:
    query = select(func.coalesce(func.sum(MeterEvent.value), 0)).where(
        MeterEvent.tenant_id == tenant_id,
        MeterEvent.meter == meter,
        MeterEvent.hour == hour,
        MeterEvent.state == "acknowledged",
    )
    return int(await session.scalar(query) or 0)


async def acknowledged_by_hour(
    session: AsyncSession, tenant_id: str, since: datetime
) -> dict[tuple[str, datetime], int]:
    query = (
        select(MeterEvent.meter, MeterEvent.hour, func.sum(MeterEvent.value))
        .where(MeterEvent.tenant_id == tenant_id, MeterEvent.hour >= since, MeterEvent.state == "acknowledged")
        .group_by(MeterEvent.meter, MeterEvent.hour)
    )
    return {(row[0], row[1]): int(row[2]) for row in (await session.execute(query)).all()}


async def meter_event_counts(session: AsyncSession) -> dict[str, int]:
    rows = await session.execute(select(MeterEvent.state, func.count()).group_by(MeterEvent.state))
    return {row[0]: row[1] for row in rows.all()}


async def newest_meter_event(session: AsyncSession, tenant_id: str) -> datetime | None:
    query = select(func.max(MeterEvent.occurred_at)).where(
        MeterEvent.tenant_id == tenant_id, MeterEvent.state == "acknowledged"
    )
    return await session.scalar(query)


async def unsent_meter_events(session: AsyncSession, tenant_id: str) -> int:
    query = (
        select(func.count())
        .select_from(MeterEvent)
        .where(MeterEvent.tenant_id == tenant_id, MeterEvent.state.in_(("new", "sending")))
    )
    return await session.scalar(query) or 0


# -- reconciliations ---------------------------------------------------------------------------------------------------


async def last_reconciliation(session: AsyncSession) -> Reconciliation | None:
    return await session.scalar(select(Reconciliation).order_by(Reconciliation.id.desc()).limit(1))


async def list_reconciliations(session: AsyncSession, page: PageRequest) -> Page[Reconciliation]:
    return await fetch_page(session, select(Reconciliation), Reconciliation.id, page, descending=True)


async def open_reconciliation(session: AsyncSession) -> Reconciliation | None:
    query = select(Reconciliation).where(Reconciliation.ended_at.is_(None)).order_by(Reconciliation.id).limit(1)
    return await session.scalar(query)


async def take_reconciliation(session: AsyncSession, at: datetime) -> str | None:
    """→ the id of one that nobody has begun; from now on it is the caller's."""
    wanted = select(Reconciliation.id).where(Reconciliation.started_at.is_(None)).limit(1).scalar_subquery()
    query = (
        update(Reconciliation)
        .where(Reconciliation.id == wanted, Reconciliation.started_at.is_(None))
        .values(started_at=at)
        .returning(Reconciliation.id)
        .execution_options(synchronize_session=False)
    )
    return (await session.scalars(query)).one_or_none()


async def end_reconciliation(
    session: AsyncSession, row_id: str, at: datetime, differences: list[dict[str, str]], count: int, error: str | None
) -> None:
    await session.execute(
        update(Reconciliation)
        .where(Reconciliation.id == row_id)
        .values(ended_at=at, differences=differences, differences_count=count, error=error)
    )


# -- for the operator's pages ------------------------------------------------------------------------------------------


async def recent_events(session: AsyncSession, count_max: int, *, state: str = "") -> Sequence[StripeEvent]:
    """The newest first."""
    query = select(StripeEvent).order_by(StripeEvent.received_at.desc(), StripeEvent.id.desc()).limit(count_max)
    if state:
        query = query.where(StripeEvent.state == state)
    return (await session.scalars(query)).all()


async def oldest_stored_event(session: AsyncSession) -> datetime | None:
    return await session.scalar(select(func.min(StripeEvent.received_at)).where(StripeEvent.state == "stored"))
