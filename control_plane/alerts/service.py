"""Rules about a tenant's alert settings. Called by endpoints, the usage page and ``watch``."""

import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.alerts import messages, repository
from control_plane.alerts.destination import ForbiddenDestinationError, check_url
from control_plane.alerts.rules import Thresholds
from control_plane.alerts.schemas import AlertSettingsSet
from control_plane.alerts.sender import SEALED_FOR
from control_plane.audit import service as audit
from control_plane.auth.principal import Principal
from control_plane.context import Context
from control_plane.ids import new_id
from control_plane.models import UsageAlertDelivery, UsageAlertSettings, now
from control_plane.problems import Problem

SECRET_PREFIX: Final = "tcw_"  # noqa: S105 - the beginning of one
TESTS_WAITING_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class AlertSettings:
    thresholds: Thresholds
    emails: bool
    webhook_url: str | None


async def alert_settings(session: AsyncSession, tenant_id: str) -> AlertSettings:
    """What the tenant set, or the defaults."""
    row = await repository.find_settings(session, tenant_id)
    if row is None:
        return AlertSettings(Thresholds(), True, None)
    return AlertSettings(Thresholds.model_validate(row.thresholds), row.emails, row.webhook_url)


async def set_alerts(
    context: Context, session: AsyncSession, caller: Principal, wanted: AlertSettingsSet
) -> str | None:
    """→ the webhook's secret, if there is a new one: another URL gets another secret. Raises Problem."""
    row = await repository.find_settings(session, caller.tenant_id)
    if row is None:
        row = UsageAlertSettings(tenant_id=caller.tenant_id, thresholds={}, emails=True)
        session.add(row)
    secret = None
    if wanted.webhook_url is None:
        row.webhook_url = row.webhook_secret_sealed = None
    else:
        try:
            check_url(wanted.webhook_url, private_allowed=context.settings.webhook_private_addresses)
        except ForbiddenDestinationError as error:
            errors = [{"field": "webhook_url", "message": str(error)}]
            raise Problem("invalid-request", f"webhook_url: {error}", errors=errors) from None
        if wanted.webhook_url != row.webhook_url:
            secret = SECRET_PREFIX + secrets.token_urlsafe(32)
            row.webhook_url = wanted.webhook_url
            row.webhook_secret_sealed = context.sealer.seal(SEALED_FOR, secret.encode())
    row.thresholds = wanted.thresholds().model_dump(mode="json")
    row.emails, row.updated_at = wanted.emails, now()
    details = {"emails": wanted.emails, "webhook": wanted.webhook_url is not None, **row.thresholds}
    audit.record(session, caller.tenant_id, caller.actor, "alerts.changed", caller.tenant_name, **details)
    context.usage_touched.add(caller.tenant_id)
    return secret


async def send_test(context: Context, session: AsyncSession, caller: Principal) -> str:
    """→ the id of the test event. Raises Problem: there is no webhook, or too many tests wait."""
    row = await repository.find_settings(session, caller.tenant_id)
    if row is None or row.webhook_url is None:
        raise Problem("conflict", "No webhook is set; set webhook_url first.")
    if await repository.waiting_count(session, caller.tenant_id, TESTS_WAITING_MAX) >= TESTS_WAITING_MAX:
        raise Problem("conflict", f"{TESTS_WAITING_MAX} events wait already; look why {row.webhook_url} refuses them.")
    event_id = new_id("alr")
    body = messages.test_event(event_id, caller.tenant_id, caller.tenant_name, now())
    session.add(UsageAlertDelivery(id=event_id, tenant_id=caller.tenant_id, body=body))
    context.alert_bell.set()
    return event_id
