"""Looks whether somebody's usage has reached a threshold, and tells.

A task of ``app``. The consumer of usage records names the tenants that it has booked for (``Context.usage_touched``);
those are looked at every few seconds, everybody with usage at the start and every ten minutes: what a crash forgot to
name is found then. One transaction holds the alert's row (unique for tenant, subject, period and threshold), the mails
and the delivery to the webhook: they all happen, once, or none does.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.alerts import messages, repository, rules, service
from control_plane.context import Context
from control_plane.mail.messages import send
from control_plane.models import Tenant, UsageAlert, UsageAlertDelivery, now
from control_plane.problems import Problem
from control_plane.tenants import repository as tenants
from control_plane.usage import history
from control_plane.usage import service as usage
from control_plane.usage.views import PeriodUsage

log = structlog.get_logger(__name__)

EVERYBODY_S: Final = 600.0
_LOOK_BACK: Final = timedelta(days=32)
"""Longer than a period."""


class AlertWatch:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._everybody_at_s = float("-inf")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.round()
            except (SQLAlchemyError, OSError) as error:
                log.warning("alert-watch-failed", error=type(error).__name__, message=str(error)[:200])
                self._everybody_at_s = float("-inf")
            await asyncio.sleep(self._context.settings.alert_interval.total_seconds())

    async def round(self) -> None:
        touched = self._context.usage_touched.copy()
        self._context.usage_touched -= touched
        if time.monotonic() - self._everybody_at_s > EVERYBODY_S:
            self._everybody_at_s = time.monotonic()
            async with self._context.reading() as session:
                touched |= set(await repository.tenants_with_usage(session, now() - _LOOK_BACK))
        for tenant_id in sorted(touched):
            await self._look(tenant_id)

    async def _look(self, tenant_id: str) -> None:
        day = history.floor_day(now())
        async with self._context.reading() as session:
            tenant = await tenants.get_tenant(session, tenant_id)
            if tenant is None or tenant.status not in ("active", "suspended"):
                return
            try:
                period = await usage.period(session, tenant_id)
            except Problem:
                return  # no subscription yet
            held = await service.alert_settings(session, tenant_id)
            calls, errors = (0, 0)
            if held.thresholds.error_percent is not None:
                calls, errors = await history.error_counts(session, tenant_id, day)
            known = await repository.known(session, tenant_id, min(period.start, day))
        found = [each for each in rules.reached(held.thresholds, period, day, calls, errors) if each.key not in known]
        if found:
            async with self._context.writing() as session:
                told = await self._tell(session, tenant, period, held, found)
            self._context.alert_bell.set()
            for alert in told:
                log.info("usage-alert", tenant=tenant.name, subject=alert.subject, percent=alert.percent)

    async def _tell(
        self,
        session: AsyncSession,
        tenant: Tenant,
        period: PeriodUsage,
        held: service.AlertSettings,
        found: Sequence[rules.Reached],
    ) -> list[UsageAlert]:
        told = []
        for each in found:
            alert = await repository.insert(session, tenant.id, each)
            if alert is not None:
                told.append(alert)
                if held.webhook_url is not None:
                    body = messages.event(tenant, period, alert)
                    session.add(UsageAlertDelivery(id=alert.id, tenant_id=tenant.id, body=body))
        if held.emails:
            # One mail a subject: who has jumped over 80 % to 100 % need not be told of both.
            highest = {alert.subject: alert for alert in sorted(told, key=lambda alert: alert.percent)}
            settings, sealer = self._context.settings, self._context.sealer
            for address in await repository.addresses_to_tell(session, tenant.id):
                for alert in highest.values():
                    send(session, sealer, address, *messages.mail(tenant, period, alert, settings))
        return told
