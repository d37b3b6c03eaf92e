"""Webhooks: verified, stored once by Stripe's id, answered 2xx; handled once by a task, in any order.

``receive`` is called by the endpoint; ``EventConsumer`` is a task of ``app``. What a payload says is never applied: it
may be old or overtaken. Each kind of event only names what to look at; the present state is read from Stripe. The
effect and the mark "handled" are one transaction, so a crash between any two steps repeats harmlessly.
"""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.billing import repository
from control_plane.billing.state import Contended, refresh
from control_plane.billing.stripe_client import Object, StripeAway, StripeClient, StripeRefused, verify_webhook
from control_plane.context import Context
from control_plane.ids import new_id
from control_plane.models import BillingNote, Invoice, StripeEvent, now

log = structlog.get_logger(__name__)

_BATCH_MAX: Final = 50
_BACKOFF_FIRST: Final = timedelta(seconds=0.5)
_BACKOFF_LAST: Final = timedelta(minutes=10)
_ATTEMPTS_MAX: Final = 50
"""Then it is marked failed, for a person to look at and replay."""


class AlreadyHandled(Exception):  # noqa: N818
    """Another control plane was faster: the transaction is undone."""


async def receive(context: Context, body: bytes, signature: str | None) -> bool:
    """Raises SignatureInvalid. False: it was here already. The caller answers 2xx either way."""
    settings = context.settings
    tolerance_s = int(settings.webhook_tolerance.total_seconds())
    event = verify_webhook(body, signature, settings.stripe_webhook_secret, tolerance_s)
    at = now()
    row = StripeEvent(
        id=str(event["id"])[:255],
        type=str(event["type"])[:100],
        payload=body.decode(),
        state="stored",
        attempts=0,
        error=None,
        created_at=datetime.fromtimestamp(int(event["created"]), UTC),
        received_at=at,
        retry_at=at,
        handled_at=None,
    )
    async with context.writing() as session:
        is_new = await repository.store_event(session, row)
    context.billing_bell.set()
    return is_new


class EventConsumer:
    def __init__(self, context: Context, client: StripeClient) -> None:
        self._context = context
        self._client = client

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._context.billing_bell.clear()
            try:
                busy = await self.round()
            except (SQLAlchemyError, OSError) as error:
                log.warning("events-failed", error=type(error).__name__, message=str(error)[:200])
                busy = False
            if not busy:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._context.settings.billing_interval.total_seconds()):
                        await self._context.billing_bell.wait()

    async def round(self) -> bool:
        """False: nothing was due."""
        async with self._context.reading() as session:
            due = await repository.due_events(session, now(), _BATCH_MAX)
        for event in due:
            await self.handle(event)
        return bool(due)

    async def handle(self, event: StripeEvent) -> None:
        async def finish(session: AsyncSession, state: str = "handled") -> None:
            if not await repository.finish_event(session, event.id, state, now()):
                raise AlreadyHandled

        try:
            handled = await self._act(event, finish)
            if not handled:
                async with self._context.writing() as session:
                    await finish(session, "ignored")
        except AlreadyHandled:
            return
        except (StripeAway, StripeRefused, Contended, SQLAlchemyError) as error:
            await self._postpone(event, error)
        except Exception as error:
            # Signed by Stripe, but not of the shape that is documented: a person must look.
            log.error("event-not-understood", event_id=event.id, type=event.type, exc_info=error)
            async with self._context.writing() as session:
                await repository.fail_event(session, event.id, f"{type(error).__name__}: {error}")
        else:
            log.info("stripe-event", event_id=event.id, type=event.type, handled=handled)

    async def _act(self, event: StripeEvent, finish: Any) -> bool:
        """False: of a kind, or of a customer, that is not ours."""
        named: Object = json.loads(event.payload)["data"]["object"]
        kind = event.type
        if kind.startswith("checkout.session."):
            return await self._session(named, finish)
        if kind.startswith("customer.subscription."):
            return await refresh(self._context, self._client, _customer(named), finish)
        if kind == "invoice.deleted":
            return await self._forget_draft(str(named["id"]), finish)
        if kind.startswith("invoice.") and kind != "invoice.upcoming" and named.get("id"):
            return await self._invoice(str(named["id"]), finish)
        if kind.startswith(("refund.", "charge.refund.")):
            return await self._note("refund", await self._client.retrieve_refund(str(named["id"])), finish)
        if kind.startswith("charge.dispute."):
            return await self._note("dispute", await self._client.retrieve_dispute(str(named["id"])), finish)
        return False

    async def _session(self, named: Object, finish: Any) -> bool:
        session_now = await self._client.retrieve_checkout(str(named["id"]))

        async def settle(session: AsyncSession) -> None:
            purchase = await repository.find_purchase_by_session(session, session_now["id"])
            if purchase is not None:
                state = {"complete": "completed", "expired": "expired"}.get(session_now["status"], purchase.state)
                purchase.state, purchase.updated_at = state, now()
            await finish(session)

        return await refresh(self._context, self._client, _customer(session_now), settle)

    async def _invoice(self, invoice_id: str, finish: Any) -> bool:
        invoice = await self._client.retrieve_invoice(invoice_id)

        async def keep(session: AsyncSession) -> None:
            held = await repository.find_subscription_of_customer(session, _customer(invoice))
            if held is not None:
                await keep_invoice(session, held.tenant_id, invoice)
            await finish(session)

        # A payment that succeeded or failed changes the subscription too.
        return await refresh(self._context, self._client, _customer(invoice), keep)

    async def _forget_draft(self, invoice_id: str, finish: Any) -> bool:
        """Only drafts can be deleted, and Stripe no longer knows them: there is nothing to ask."""
        async with self._context.writing() as session:
            row = await session.get(Invoice, invoice_id)
            if row is None or row.status != "draft":
                return False
            await session.delete(row)
            await finish(session)
        return True

    async def _note(self, kind: str, found: Object, finish: Any) -> bool:
        async with self._context.writing() as session:
            held = await repository.find_subscription_of_customer(session, _customer(found["charge"]))
            if held is None:
                return False
            note = await repository.get_note(session, found["id"])
            if note is None:
                created_at = datetime.fromtimestamp(int(found["created"]), UTC)
                note = BillingNote(stripe_id=found["id"], kind=kind, created_at=created_at)
                session.add(note)
            note.tenant_id, note.status, note.reason = held.tenant_id, found["status"], found["reason"]
            note.amount_minor, note.currency = int(found["amount"]), found["currency"]
            note.updated_at = now()
            await finish(session)
        log.warning("money-back", kind=kind, tenant=held.tenant_id, amount_minor=note.amount_minor, status=note.status)
        return True

    async def _postpone(self, event: StripeEvent, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"[:500]
        log.warning("event-postponed", event_id=event.id, type=event.type, attempts=event.attempts + 1, error=text)
        backoff = min(_BACKOFF_FIRST * 2 ** min(event.attempts, 20), _BACKOFF_LAST)
        async with self._context.writing() as session:
            if event.attempts + 1 >= _ATTEMPTS_MAX:
                await repository.fail_event(session, event.id, text)
            else:
                await repository.postpone_event(session, event.id, text, now() + backoff)


async def keep_invoice(session: AsyncSession, tenant_id: str, found: Object) -> None:
    """A copy. An invoice never goes from paid back to open, so an older copy does not replace a newer one."""
    row = await session.get(Invoice, found["id"])
    if row is not None and row.status in ("paid", "void") and found["status"] in ("draft", "open"):
        return
    if row is None:
        row = Invoice(stripe_id=found["id"], id=new_id("inv"), tenant_id=tenant_id)
        session.add(row)
    row.number, row.status, row.currency = found["number"], found["status"], found["currency"]
    row.total_minor, row.paid_minor = int(found["total"]), int(found["amount_paid"])
    row.tax_minor = sum(int(tax["amount"]) for tax in found.get("total_taxes") or ())
    row.period_start = datetime.fromtimestamp(int(found["period_start"]), UTC)
    row.period_end = datetime.fromtimestamp(int(found["period_end"]), UTC)
    row.url, row.pdf_url = found["hosted_invoice_url"], found["invoice_pdf"]
    row.created_at = datetime.fromtimestamp(int(found["created"]), UTC)
    row.updated_at = now()


def _customer(found: Object) -> str:
    customer = found["customer"]
    return str(customer["id"] if isinstance(customer, dict) else customer)
