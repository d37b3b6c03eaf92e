"""Alert settings and what was told, as JSON."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from control_plane.alerts.destination import URL_CHARACTERS_MAX
from control_plane.alerts.rules import THRESHOLDS_MAX, Percent, Thresholds
from control_plane.models import UsageAlert, UsageAlertDelivery


class AlertSettingsSet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    quota_percents: Annotated[list[Percent], Field(max_length=THRESHOLDS_MAX)] = [80, 100]
    """Of each of the period's quotas."""
    spend_percents: Annotated[list[Percent], Field(max_length=THRESHOLDS_MAX)] = [80, 100]
    """Of each spend cap."""
    error_percent: Annotated[int, Field(ge=1, le=100)] | None = None
    """Of a day's calls, from 50 calls on."""
    emails: bool = True
    """To owners and billing members."""
    webhook_url: Annotated[str, Field(max_length=URL_CHARACTERS_MAX)] | None = None
    """Signed: `Tailcut-Signature: t=…,v1=…` is HMAC-SHA-256 of `t.body` under the secret. `Tailcut-Event-Id` stays the
    same when something is sent again."""

    def thresholds(self) -> Thresholds:
        return Thresholds(
            quota_percents=tuple(self.quota_percents),
            spend_percents=tuple(self.spend_percents),
            error_percent=self.error_percent,
        )


class AlertSettingsOut(AlertSettingsSet):
    webhook_url: str | None = None
    """For those who may change it; to others only that there is one is said."""
    has_webhook: bool
    webhook_secret: str | None = None
    """Shown once, when the URL is a new one."""


class AlertOut(BaseModel):
    id: str
    subject: str
    """A meter, ``spend``, ``spend:FUNCTION`` or ``errors``"""
    percent: int
    used: int
    """When it was noticed, in the subject's unit."""
    allowed: int
    period_start: datetime
    created_at: datetime
    webhook_state: str | None
    """``waiting``, ``delivered``, ``failed``; null: there was no webhook."""

    @classmethod
    def of(cls, alert: UsageAlert, delivery: UsageAlertDelivery | None) -> "AlertOut":
        return cls(
            id=alert.id,
            subject=alert.subject,
            percent=alert.percent,
            used=alert.used,
            allowed=alert.allowed,
            period_start=alert.period_start,
            created_at=alert.created_at,
            webhook_state=delivery.state if delivery else None,
        )


class AlertPage(BaseModel):
    items: list[AlertOut]
    next_cursor: str | None


class TestSent(BaseModel):
    id: str
    """Of the event, in `Tailcut-Event-Id`."""
