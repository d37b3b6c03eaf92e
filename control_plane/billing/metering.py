"""Usage becomes meter events: hours are closed, events are made with fixed identifiers, sent once, never forgotten.

``Metering`` is a task of ``app``. States: new → sending → acknowledged. A row is marked ``sending``, committed, before
Stripe hears of it, so after a crash it is known that it may have arrived. Within 24 hours the identifier makes a second
sending harmless; later Stripe's own sum for the hour decides whether it had arrived. What Stripe refuses for its time
(older than 35 days, in the future) is kept as ``refused``, with an alarm in the log and in the counts: never dropped.

Events carry whole units (invocations, CPU-ms, MiB-s); what a tenant's total leaves over is carried to its next event,
so the sum of the values is the whole of the sum, and rounding happens on the invoice.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.billing import repository
from control_plane.billing.stripe_client import StripeAway, StripeClient, StripeRefused
from control_plane.billing.stripe_sync import event_name
from control_plane.context import Context
from control_plane.models import MeterCarry, MeterEvent, now
from control_plane.tiers import repository as tiers
from control_plane.tiers.catalog import METERS, Meter
from control_plane.usage import hourly

log = structlog.get_logger(__name__)

HOUR: Final = timedelta(hours=1)
IDENTIFIER_LIFE: Final = timedelta(hours=23)
"""Stripe promises 24 hours; one is kept in hand."""
PAST_MAX: Final = timedelta(days=35)
_HOURS_MAX: Final = 500
_EVENTS_MAX: Final = 200
_UNIT: Final[dict[Meter, int]] = {"invocations": 1, "cpu-ms": 1_000, "mib-s": 1_000_000}
"""Raw units (1, µs, MiB·µs) in one unit of the meter."""


class Metering:
    def __init__(self, context: Context, client: StripeClient | None) -> None:
        self._context = context
        self._client = client

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            busy = False
            try:
                busy = await self.close_hours(now()) > 0
                busy = await self.send_due(now()) > 0 or busy
            except StripeAway as error:
                log.warning("meter-events-wait", message=str(error)[:200])
            except (SQLAlchemyError, OSError) as error:
                log.warning("metering-failed", error=type(error).__name__, message=str(error)[:200])
            if not busy:
                await asyncio.sleep(self._context.settings.billing_interval.total_seconds())

    async def close_hours(self, at: datetime, tenant_id: str | None = None) -> int:
        """Hours that ended ``usage_hour_grace`` ago get their events; with ``tenant_id`` all of that tenant's, now."""
        before = at if tenant_id is not None else at - HOUR - self._context.settings.usage_hour_grace
        async with self._context.reading() as session:
            due = await hourly.dirty_hours(session, before, _HOURS_MAX, tenant_id)
        closed = 0
        for owner, hour in due:
            async with self._context.writing() as session:
                closed += await close_hour(session, owner, hour, at)
        return closed

    async def send_due(self, at: datetime, tenant_id: str | None = None) -> int:
        """→ how many are off the list. Raises StripeAway; what was under way stays ``sending``."""
        if self._client is None:
            return 0
        async with self._context.reading() as session:
            due = await repository.due_meter_events(session, _EVENTS_MAX, tenant_id)
        settled = 0
        for event in due:
            settled += await self._settle(event, at)
        return settled

    async def _settle(self, event: MeterEvent, at: datetime) -> int:
        if not at - PAST_MAX <= event.occurred_at <= at:
            return await self._refuse(
                event, f"its time is {event.occurred_at.isoformat()}: Stripe takes the last 35 days"
            )
        if event.sending_since is not None and event.sending_since < at - IDENTIFIER_LIFE:
            return await self._resolve(event)
        return await self._send(event, at)

    async def _send(self, event: MeterEvent, at: datetime) -> int:
        await self._mark(event, state="sending", sending_since=event.sending_since or at, attempts=event.attempts + 1)
        assert self._client is not None  # noqa: S101 - send_due looked
        try:
            await self._client.send_meter_event(
                {
                    "event_name": event_name(event.meter),  # type: ignore[arg-type]
                    "identifier": event.identifier,
                    "timestamp": int(event.occurred_at.timestamp()),
                    "payload": {"stripe_customer_id": event.stripe_customer_id or "", "value": str(event.value)},
                }
            )
        except StripeRefused as error:
            if not error.duplicate:
                return await self._refuse(event, str(error))
        await self._mark(event, state="acknowledged", acknowledged_at=now(), error=None)
        return 1

    async def _resolve(self, event: MeterEvent) -> int:
        """Sent long ago, and the answer was lost: what Stripe counts for the hour tells whether it arrived."""
        assert self._client is not None  # noqa: S101 - send_due looked
        async with self._context.reading() as session:
            meter_id = await repository.find_meter(session, event_name(event.meter))  # type: ignore[arg-type]
            known = await repository.acknowledged_value(session, event.tenant_id, event.meter, event.hour)
        start_s = int(event.hour.timestamp())
        counted = await self._client.meter_total(
            meter_id or "", event.stripe_customer_id or "", start_s, start_s + int(HOUR.total_seconds())
        )
        if counted == known + event.value:
            await self._mark(event, state="acknowledged", acknowledged_at=now(), error=None)
        elif counted == known:
            await self._mark(event, state="new", sending_since=None)
        else:
            text = f"Stripe counts {counted} for the hour; {known} are acknowledged, {event.value} are in question"
            log.error("meter-event-ambiguous", identifier=event.identifier, message=text)
            await self._mark(event, state="ambiguous", error=text)
        return 1

    async def _refuse(self, event: MeterEvent, reason: str) -> int:
        log.error("meter-event-refused", identifier=event.identifier, tenant=event.tenant_id, reason=reason[:300])
        await self._mark(event, state="refused", error=reason[:500])
        return 1

    async def _mark(self, event: MeterEvent, **values: Any) -> None:
        async with self._context.writing() as session:
            row = await session.get(MeterEvent, event.identifier)
            if row is None:
                raise AssertionError(f"{event.identifier} has gone: meter events are never deleted")
            for name, value in values.items():
                setattr(row, name, value)
                setattr(event, name, value)


async def close_hour(session: AsyncSession, tenant_id: str, hour: datetime, at: datetime) -> int:
    """The open revision becomes one event per meter, in the same transaction. → 1, or 0 if there was none"""
    closed = await hourly.close_hour(session, tenant_id, hour)
    if closed is None:
        return 0
    subscription = await tiers.find_subscription(session, tenant_id)
    customer_id = subscription.stripe_customer_id if subscription is not None else None
    raws = {"invocations": closed.invocations, "cpu-ms": closed.cpu_us, "mib-s": closed.mib_us}
    for meter in METERS:
        raw = raws[meter]
        value = await _carried(session, tenant_id, meter, raw)
        event = MeterEvent(
            identifier=f"{tenant_id}:{hour:%Y%m%dT%H}:{meter}:{closed.revision}",
            tenant_id=tenant_id,
            stripe_customer_id=customer_id,
            meter=meter,
            hour=hour,
            revision=closed.revision,
            occurred_at=min(hour + HOUR - timedelta(seconds=1), at),
            raw=raw,
            value=value,
            # Nobody to bill, or nothing to say: the row is there so that the books balance.
            state="new" if customer_id is not None and value else "unbilled",
            attempts=0,
        )
        session.add(event)
    await session.flush()
    return 1


async def _carried(session: AsyncSession, tenant_id: str, meter: Meter, raw: int) -> int:
    """Whole units that the total has grown by."""
    carry = await session.get(MeterCarry, (tenant_id, meter))
    if carry is None:
        carry = MeterCarry(tenant_id=tenant_id, meter=meter, raw_total=0)
        session.add(carry)
    before, unit = carry.raw_total, _UNIT[meter]
    carry.raw_total = before + raw
    return carry.raw_total // unit - before // unit
