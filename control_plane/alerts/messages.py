"""What an alert says: as a mail for people, as JSON for a tenant's webhook. Pure."""

import json
from datetime import datetime
from typing import Any, Final

from control_plane.alerts.rules import ERRORS, SPEND
from control_plane.models import Tenant, UsageAlert
from control_plane.settings import Settings
from control_plane.usage.views import PeriodUsage

EVENT_TYPE: Final = "usage.threshold"
TEST_TYPE: Final = "usage.test"
_UNITS: Final = {"invocations": "invocations", "cpu-ms": "cpu-ms", "mib-s": "mib-s", ERRORS: "percent"}


def title(subject: str) -> str:
    """For people, in the middle of a sentence."""
    if subject.startswith(f"{SPEND}:"):
        return f"the spend cap of the function {subject.partition(':')[2]}"
    return {
        "invocations": "the included invocations",
        "cpu-ms": "the included CPU time",
        "mib-s": "the included memory × time",
        SPEND: "the spend cap",
        ERRORS: "today's calls",
    }[subject]


def amounts(subject: str, used: int, allowed: int, currency: str) -> str:
    """``1,200 of 3,600 CPU-seconds``"""
    if subject.startswith(SPEND):
        return f"{used / 100:,.2f} of {allowed / 100:,.2f} {currency.upper()}"
    factor, unit = {
        "invocations": (1, "invocations"),
        "cpu-ms": (1000, "CPU-seconds"),
        "mib-s": (1024, "GiB-seconds"),
        ERRORS: (1, "percent"),
    }[subject]
    return f"{used // factor:,} of {allowed // factor:,} {unit}"


def mail(tenant: Tenant, period: PeriodUsage, alert: UsageAlert, settings: Settings) -> tuple[str, str]:
    """→ subject and text"""
    if alert.subject == ERRORS:
        return (
            f"{tenant.name}: {alert.used} % of today's calls have failed",
            f"""{alert.used} % of the calls of {tenant.name} today were not answered 2xx or 3xx; you asked to be told at
{alert.percent} %. What failed, and how: {settings.public_url}/usage

{_FOOT.format(url=settings.public_url)}""",
        )
    stops = period.quotas[0].stops
    if alert.subject.startswith(SPEND):
        caps = {f"{SPEND}:{each.function}": each.cap_action for each in period.spend.functions}
        action = caps.get(alert.subject, period.spend.cap_action)
        then = "At the cap calls are refused (402)." if action == "stop" else "Nothing is refused; this cap only tells."
        fix = f"Change the cap: {settings.upgrade_url}"
    elif stops:
        then = f"At 100 % calls are answered 402, until {_day(period.end)}."
        fix = f"A larger tier takes effect at once: {settings.upgrade_url}"
    else:
        then = "Nothing stops: what is above is billed."
        fix = f"Tiers and spend caps: {settings.upgrade_url}"
    return (
        f"{tenant.name}: {alert.percent} % of {title(alert.subject)} are used",
        f"""{tenant.name} has used {alert.percent} % of {title(alert.subject)} of its tier {period.title}:
{amounts(alert.subject, alert.used, alert.allowed, period.spend.currency)}.
The period is from {_day(period.start)} to {_day(period.end)} (UTC).

{then}
{fix}
What uses it: {settings.public_url}/usage

{_FOOT.format(url=settings.public_url)}""",
    )


def event(tenant: Tenant, period: PeriodUsage, alert: UsageAlert) -> str:
    """As it is signed and sent."""
    unit = _UNITS.get(alert.subject, f"minor units of {period.spend.currency}")
    return _json(
        {
            "id": alert.id,
            "type": EVENT_TYPE,
            "created_at": alert.created_at.isoformat(),
            "tenant": tenant.name,
            "tenant_id": tenant.id,
            "subject": alert.subject,
            "percent": alert.percent,
            "used": alert.used,
            "allowed": alert.allowed,
            "unit": unit,
            "period_start": alert.period_start.isoformat(),
            "period_end": None if alert.subject == ERRORS else period.end.isoformat(),
        }
    )


def test_event(event_id: str, tenant_id: str, tenant_name: str, at: datetime) -> str:
    return _json(
        {
            "id": event_id,
            "type": TEST_TYPE,
            "created_at": at.isoformat(),
            "tenant": tenant_name,
            "tenant_id": tenant_id,
        }
    )


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


_FOOT: Final = """You get this as an owner or billing member. When, and whether, is set on {url}/usage
"""
