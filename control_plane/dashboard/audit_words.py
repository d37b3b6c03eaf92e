"""What an audit entry's details hold, as people say it. Pure; a filter of the templates (``pages.environment``)."""

from collections.abc import Mapping
from typing import Any, Final

from control_plane.dashboard.money import money

_NAMES: Final = {
    "amount_minor": "amount",
    "emails": "by mail",
    "error_percent": "errors from",
    "quota_percents": "quotas at",
    "spend_percents": "spend caps at",
    "stops": "stops calls",
    "webhook": "by webhook",
}
_PERCENTS: Final = frozenset(["error_percent", "quota_percents", "spend_percents"])


def told(details: Mapping[str, Any], currency: str = "usd") -> str:
    """``amount $50.00 · stops calls: yes``; nested ones (limits of its own) with their names."""
    return " · ".join(_said(name, value, currency) for name, value in details.items())


def _said(name: str, value: Any, currency: str) -> str:
    label = _NAMES.get(name, name.replace("_", " "))
    match value:
        case bool():
            return f"{label}: {'yes' if value else 'no'}"
        case None:
            return f"{label}: none"
        case int() if name.endswith("_minor"):
            return f"{label} {money(value, currency)}"
        case list() | tuple():
            unit = " %" if name in _PERCENTS else ""
            return f"{label} {', '.join(f'{each}{unit}' for each in value) or 'none'}"
        case Mapping():
            return f"{label} {', '.join(_said(each, inner, currency) for each, inner in value.items()) or 'none'}"
    return f"{label} {value}{' %' if name in _PERCENTS else ''}"
