"""Sends what waits for tenants' webhooks: signed, to an address that was checked, again with pauses for a day.

A task of ``app``. A delivery is put off before it is sent, so a crash repeats it later rather than at once; the
receiver tells repetitions by the id, which stays. Signature: HMAC-SHA-256 of ``t.body`` under the webhook's secret,
``t`` being the Unix time of sending: ``Tailcut-Signature: t=…,v1=…``. The answer's body is not read.
"""

import asyncio
import contextlib
import hashlib
import hmac
import time
from datetime import timedelta
from typing import Final

import httpx
import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_plane.alerts import repository
from control_plane.alerts.destination import ForbiddenDestinationError, Resolver, check_url, resolve
from control_plane.context import Context
from control_plane.models import UsageAlertDelivery, now

log = structlog.get_logger(__name__)

SEALED_FOR: Final = "webhook"
SIGNATURE_HEADER: Final = "Tailcut-Signature"
ID_HEADER: Final = "Tailcut-Event-Id"
BATCH_COUNT: Final = 20
POLL_S: Final = 1.0
TIMEOUT_S: Final = 10.0
RETRY_LAST: Final = timedelta(hours=1)
KEPT: Final = timedelta(days=1)
"""Tried for so long."""


class AlertSender:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                while await self.round():
                    pass
            except (SQLAlchemyError, OSError) as error:
                log.warning("alert-sender-failed", error=type(error).__name__, message=str(error)[:200])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._context.alert_bell.wait()
            self._context.alert_bell.clear()

    async def round(self) -> bool:
        """Whether there may be more."""
        at, first = now(), self._context.settings.webhook_retry_first
        async with self._context.writing() as session:
            waiting = list(await repository.due_deliveries(session, at, BATCH_COUNT))
            for each in waiting:
                each.due_at = at + min(first * 4**each.attempts_count, RETRY_LAST)
                each.attempts_count += 1
        # At once: a receiver that does not answer holds up nobody else's.
        await asyncio.gather(*(self._send(each) for each in waiting))
        return len(waiting) == BATCH_COUNT

    async def _send(self, delivery: UsageAlertDelivery) -> None:
        async with self._context.reading() as session:
            settings = await repository.find_settings(session, delivery.tenant_id)
        if settings is None or settings.webhook_url is None or settings.webhook_secret_sealed is None:
            await self._finish(delivery, "failed", "the webhook was taken away")
            return
        private_allowed = self._context.settings.webhook_private_addresses
        try:
            secret = self._context.sealer.open(SEALED_FOR, settings.webhook_secret_sealed)
            status = await deliver(
                settings.webhook_url, delivery.id, delivery.body, secret, private_allowed=private_allowed
            )
        except (ForbiddenDestinationError, httpx.HTTPError, OSError, TimeoutError, ValueError) as error:
            done, answer = False, str(error) or type(error).__name__
        else:
            done, answer = 200 <= status < 300, str(status)
        if done:
            await self._finish(delivery, "delivered", answer)
        elif now() - delivery.created_at > KEPT:
            log.warning("webhook-given-up", delivery=delivery.id, tenant=delivery.tenant_id, answer=answer[:200])
            await self._finish(delivery, "failed", answer)
        else:
            await self._finish(delivery, "waiting", answer)

    async def _finish(self, delivery: UsageAlertDelivery, state: str, answer: str) -> None:
        async with self._context.writing() as session:
            await repository.finish_delivery(session, delivery.tenant_id, delivery.id, state, answer)


async def deliver(
    url: str, event_id: str, body: str, secret: bytes, *, private_allowed: bool, resolver: Resolver | None = None
) -> int:
    """→ the answer's status. Raises ForbiddenDestinationError, httpx.HTTPError, OSError, TimeoutError."""
    destination = check_url(url, private_allowed=private_allowed)
    address = await resolve(destination, private_allowed=private_allowed, resolver=resolver)
    headers = {
        "Host": destination.authority,
        "Content-Type": "application/json",
        "User-Agent": "tailcut-webhooks",
        ID_HEADER: event_id,
        "Idempotency-Key": event_id,
        SIGNATURE_HEADER: sign(secret, int(time.time()), body.encode()),
    }
    literal = f"[{address}]" if ":" in address else address
    checked = f"{destination.scheme}://{literal}:{destination.port}{destination.target}"
    async with (
        asyncio.timeout(TIMEOUT_S),
        # Neither a proxy of the environment nor a redirect: they would choose another address.
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=TIMEOUT_S) as client,
        client.stream(
            "POST", checked, content=body.encode(), headers=headers, extensions={"sni_hostname": destination.host}
        ) as answer,
    ):
        return answer.status_code


def sign(secret: bytes, at_s: int, body: bytes) -> str:
    digest = hmac.new(secret, f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"
