"""/v1/usage/alerts: what a tenant wants to be told, and what it was told."""

from typing import Any

from fastapi import APIRouter

from control_plane.alerts import repository, service
from control_plane.alerts.schemas import AlertOut, AlertPage, AlertSettingsOut, AlertSettingsSet, TestSent
from control_plane.alerts.service import AlertSettings
from control_plane.auth.principal import BillingWriter, Principal, UsageReader
from control_plane.context import ContextDependency
from control_plane.pagination import PageDependency, page_fields

router = APIRouter(prefix="/v1/usage/alerts", tags=["usage"])


@router.get("")
async def get_alert_settings(context: ContextDependency, caller: UsageReader) -> AlertSettingsOut:
    """Absent settings are the defaults: 80 and 100 % of quotas and spend caps, by mail."""
    async with context.reading() as session:
        return _out(await service.alert_settings(session, caller.tenant_id), caller, None)


@router.put("")
async def set_alert_settings(
    request: AlertSettingsSet, context: ContextDependency, caller: BillingWriter
) -> AlertSettingsOut:
    """All of it; what is left out is the default again, and a webhook that is left out is gone."""
    async with context.writing() as session:
        secret = await service.set_alerts(context, session, caller, request)
        await session.flush()
        return _out(await service.alert_settings(session, caller.tenant_id), caller, secret)


@router.get("/sent", response_model=AlertPage)
async def list_alerts(context: ContextDependency, caller: UsageReader, page: PageDependency) -> dict[str, Any]:
    """The newest first; each threshold once in a period."""
    async with context.reading() as session:
        found = await repository.list_alerts(session, caller.tenant_id, page)
        ids = [alert.id for alert in found.items]
        deliveries = await repository.deliveries_of(session, caller.tenant_id, ids)
    return page_fields(found.map(lambda alert: AlertOut.of(alert, deliveries.get(alert.id))))


@router.post("/test", status_code=202)
async def test_webhook(context: ContextDependency, caller: BillingWriter) -> TestSent:
    """Send an event of the type `usage.test` to the webhook."""
    async with context.writing() as session:
        return TestSent(id=await service.send_test(context, session, caller))


def _out(held: AlertSettings, caller: Principal, secret: str | None) -> AlertSettingsOut:
    return AlertSettingsOut(
        **held.thresholds.model_dump(mode="json"),
        emails=held.emails,
        webhook_url=held.webhook_url if caller.may("billing.write") else None,
        has_webhook=held.webhook_url is not None,
        webhook_secret=secret,
    )
